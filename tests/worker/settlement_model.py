"""Every schedule of faults, crashes and gaps: a model platform, and a store that uses `decide` as sending does.

A schedule says, of each request that is sent, what the platform and the network make of it, where our process dies,
and how long nothing happens then. After the last of them there are no faults any more, and everything must end. Times
are seconds since the operations were promised, amounts are one unit each.
"""

import enum
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from types import ModuleType
from typing import Any, NamedTuple

from worker import settlement
from worker.lifecycle import MovementKind, MovementState

MINUTE, HOUR = 60.0, 3600.0
PROMISED = datetime(2026, 1, 1, tzinfo=UTC)

#: Looks and requests after the last fault. A request that hangs for a day takes some 200.
ENDLESS = 500

#: What a look and a request take; what a look shows is what was true when it began.
CALL = 1.0

#: When a person has answered a question; by then they know the truth.
ANSWERED = 24 * HOUR


@cache
def at(seconds: float) -> datetime:
    return PROMISED + timedelta(seconds=seconds)


def seconds(moment: datetime) -> float:
    return (moment - PROMISED).total_seconds()


class Kept(enum.StrEnum):
    """What the platform keeps under an idempotence key and says again."""

    NOTHING = "nothing"
    DONE = "done"
    REFUSED = "refused"
    ERROR = "error"


@dataclass(frozen=True)
class Fault:
    """What becomes of one request.

    Args:
        name: in the tables.
        arrives: seconds until it reaches the platform; None when it never does.
        keeps: the outcome under its key.
        effect: seconds from there until the money moves; None when it does not.
        runs: seconds for which the key says "in progress".
        answer: what we are told; None: the truth.
    """

    name: str = field(compare=False)
    arrives: float | None = 0
    keeps: Kept = Kept.NOTHING
    effect: float | None = None
    runs: float = 0
    answer: str | None = "UNCLEAR"


#: Later than any look of the first minutes, sooner than the settling time.
LATE = 20 * MINUTE

OK = Fault("ok", keeps=Kept.DONE, effect=0, answer=None)
REFUSED = Fault("refused", keeps=Kept.REFUSED, answer=None)
NOT_SENT = Fault("connection refused", arrives=None, answer="NOT_SENT")
LOST_BEFORE = Fault("lost before the effect", arrives=None)
LOST_AFTER = Fault("lost after the effect", keeps=Kept.DONE, effect=0)
ERROR = Fault("5xx without effect", arrives=None)
ERROR_DONE = Fault("5xx with effect", keeps=Kept.DONE, effect=0)
UNUSABLE = Fault("unusable 2xx", keeps=Kept.DONE, effect=0)
KEPT_ERROR = Fault("kept 5xx", keeps=Kept.ERROR)
KEPT_ERROR_DONE = Fault("kept 5xx with effect", keeps=Kept.ERROR, effect=0)
KEPT_ERROR_LATE = Fault("kept 5xx with late effect", keeps=Kept.ERROR, effect=LATE)
FORGOTTEN_KEY = Fault("effect without a kept key", effect=0)
RUNNING = Fault("in progress, late effect", keeps=Kept.DONE, effect=LATE, runs=LATE)
RUNNING_NO = Fault("in progress, then refused", keeps=Kept.REFUSED, runs=LATE)
STUCK = Fault("in progress for ever", keeps=Kept.REFUSED, runs=48 * HOUR)
DELAYED = Fault("arrives late", arrives=LATE, keeps=Kept.DONE, effect=0)
UNKEPT_REFUSAL = Fault("refusal that is not kept", answer=None)


def later(fault: Fault, delay: float) -> Fault:
    """The same fault with its effect at another time."""
    return replace(
        fault,
        arrives=delay if fault.arrives else fault.arrives,
        effect=delay if fault.effect else fault.effect,
        runs=delay if fault.runs == LATE else fault.runs,
    )


class Crash(enum.StrEnum):
    """Where our process dies, and what is lost with it."""

    NONE = "none"  # or after the write, which is the same: what is known is in the store
    BEFORE_ATTEMPT = "before the attempt is committed"
    BEFORE_POST = "before the POST"
    BEFORE_WRITE = "before the write"
    RESTORED = "a dump from before the attempt is restored"


CRASHES = (Crash.NONE, Crash.BEFORE_ATTEMPT, Crash.BEFORE_POST, Crash.BEFORE_WRITE)


class Step(NamedTuple):
    """What a schedule says of one request."""

    fault: Fault
    crash: Crash
    gap: float  # seconds in which nothing happens afterwards
    portal: str  # "before" or "after" it somebody captures by hand, or ""


@dataclass(frozen=True)
class Model:
    """What can happen, and what the platform is like.

    Args:
        depth: requests that may go wrong.
        faults: what may become of each.
        crashes: where our process may die at each.
        gaps: for how long nothing may happen after each.
        kind: of the operations.
        operations: ours, all alike, of one payment; one is in flight at a time.
        portal: whether one capture may be made by hand, at any of the requests.
        room: how many captures the payment has room for.
        lag: seconds until a movement is listed.
        key_seconds: for how long the platform honours a key.
        echoes: whether movements carry our reference.
        busy: whether the platform says "not allowed" of a key whose request still runs, not "in progress".
        standing: whether room is told by the payment's status, which knows of movements that are not listed yet.
    """

    depth: int = 1
    faults: tuple[Fault, ...] = (OK,)
    crashes: tuple[Crash, ...] = (Crash.NONE,)
    gaps: tuple[float, ...] = (0,)
    kind: MovementKind = MovementKind.CAPTURE
    operations: int = 1
    portal: bool = False
    room: int = 2
    lag: float = 0
    key_seconds: float = 24 * HOUR
    echoes: bool = True
    busy: bool = False
    standing: bool = False

    @cached_property
    def steps(self) -> dict[Step, int]:
        """Every step, with the number of those that it stands for: they differ in what makes no difference."""
        steps: dict[Step, int] = {}
        for crash in self.crashes:
            for fault in self.faults:
                told = OK if crash in (Crash.BEFORE_ATTEMPT, Crash.BEFORE_POST) else fault
                for gap in self.gaps:
                    for portal in ("", "before", "after") if self.portal else ("",):
                        step = Step(told, crash, gap, portal)
                        steps[step] = steps.get(step, 0) + 1
        return steps

    @property
    def schedules(self) -> int:
        return int(sum(self.steps.values()) ** self.depth)


class Effect(NamedTuple):
    """Money that moves: ours by the number of the operation, or None when made by hand."""

    moment: float
    operation: int | None


class Key(NamedTuple):
    """What is kept under the key of an operation's generation."""

    operation: int
    generation: int
    since: float
    running_until: float
    keeps: Kept
    effect: int | None


class Arrival(NamedTuple):
    """A request that is still on its way."""

    moment: float
    operation: int
    generation: int


class World(NamedTuple):
    """All there is at one moment: our store, and the platform."""

    now: float
    evidence: tuple[Any, ...]
    ended: tuple[str | None, ...]
    keys: tuple[Key, ...] = ()
    effects: tuple[Effect, ...] = ()
    arrivals: tuple[Arrival, ...] = ()
    linked: frozenset[int] = frozenset()  # the movements that our store knows whose they are
    seen: tuple[tuple[int, float], ...] = ()  # the movements that our store knows, and since when
    by_hand: bool = False


class Platform:
    """Honours keys, moves money, lists what has moved."""

    def __init__(self, model: Model):
        self.model = model

    def post(self, world: World, operation: int, generation: int, fault: Fault) -> tuple[World, str, int | None]:
        """The world after a request, what was answered, and the movement that the answer names."""
        if fault.arrives is None:
            return world, fault.answer or "UNCLEAR", None
        if fault.arrives:
            arrival = Arrival(world.now + fault.arrives, operation, generation)
            return world._replace(arrivals=tuple(sorted((*world.arrivals, arrival)))), "UNCLEAR", None
        world, told, effect = self._carry_out(world, operation, generation, fault)
        return world, fault.answer or told, effect if fault.answer is None else None

    def capture_by_hand(self, world: World) -> World:
        if world.by_hand or not self._has_room(world):
            return world
        return world._replace(by_hand=True, effects=(*world.effects, Effect(world.now, None)))

    def until(self, world: World, moment: float) -> World:
        """Let time pass: requests that were on their way arrive."""
        while world.arrivals and world.arrivals[0].moment <= moment:
            (arrived, operation, generation), left = world.arrivals[0], world.arrivals[1:]
            world, _, _ = self._carry_out(world._replace(now=arrived, arrivals=left), operation, generation, OK)
        return world._replace(now=moment)

    def listed(self, world: World) -> list[int]:
        """The movements that a look shows now."""
        return [number for number, effect in enumerate(world.effects) if effect.moment + self.model.lag <= world.now]

    def _carry_out(self, world: World, operation: int, generation: int, fault: Fault) -> tuple[World, str, int | None]:
        key = self._key(world, operation, generation)
        if key is not None:
            if world.now < key.running_until:
                return world, "NOT_ALLOWED" if self.model.busy else "IN_PROGRESS", None
            told = {Kept.DONE: "DONE", Kept.REFUSED: "REFUSED", Kept.ERROR: "REPLAYED_ERROR"}[key.keeps]
            return world, told, key.effect if key.keeps is Kept.DONE else None
        number = None
        if fault.effect is not None:
            if not self._has_room(world):
                return world, "NOT_ALLOWED", None
            number = len(world.effects)
            world = world._replace(effects=(*world.effects, Effect(world.now + fault.effect, operation)))
        if fault.keeps is not Kept.NOTHING:
            kept = Key(operation, generation, world.now, world.now + fault.runs, fault.keeps, number)
            world = world._replace(keys=(*world.keys, kept))
        return world, "REFUSED" if number is None else "DONE", number

    def _key(self, world: World, operation: int, generation: int) -> Key | None:
        for key in reversed(world.keys):
            if (key.operation, key.generation) == (operation, generation):
                return key if world.now < key.since + self.model.key_seconds else None
        return None

    def _has_room(self, world: World) -> bool:
        return len(world.effects) < self.model.room


class Ours:
    """Our side: one operation in flight at a time, all that is known in the store, `decide` asked at each step."""

    def __init__(self, model: Model, core: ModuleType = settlement):
        self.model, self.core, self.platform = model, core, Platform(model)
        self.pace = core.Pace()

    def begin(self) -> World:
        evidence = self.core.Evidence(
            kind=self.model.kind,
            planned_at=PROMISED,
            generation=1,
            attempts=(),
            movement=None,
            looked_at=None,
            negative_looks=0,
            candidates=0,
            covered=True,
        )
        return World(1, (evidence,) * self.model.operations, (None,) * self.model.operations)

    def until_a_request(self, world: World) -> tuple[World, int | None, int]:
        """Go on until something is to be sent: the world then, whose request it is, and the looks it took.

        None when every operation has ended.
        """
        looks = 0
        while None in world.ended and looks < ENDLESS:
            number = world.ended.index(None)
            evidence = world.evidence[number]
            action = self.core.decide(evidence, at(world.now), self.pace)
            due = getattr(action, "due", None)
            if due is not None and seconds(due) > world.now:
                world = self.platform.until(world, seconds(due))
            elif isinstance(action, self.core.Send):
                return world, number, looks
            elif isinstance(action, self.core.Look):
                world = self._look(world, number)
                world, looks = self.platform.until(world, world.now + CALL), looks + 1
            elif isinstance(action, self.core.Renew):
                renewed = replace(evidence, generation=evidence.generation + 1, negative_looks=0)
                world = self._known(world, number, renewed)
            else:
                world = self._end(world, number, action)
        return world, None, looks

    def send(self, world: World, number: int, step: Step) -> World:
        """One request and what the schedule says of it: the attempt committed, the POST, the write."""
        before = world.evidence[number]
        if step.portal == "before":
            world = self.platform.capture_by_hand(world)
        if step.crash is not Crash.BEFORE_ATTEMPT:
            attempt = self.core.Attempt(before.generation, at(world.now), None)
            evidence = replace(before, attempts=(*before.attempts, attempt))
            world = self._known(world, number, evidence)
            if step.crash is not Crash.BEFORE_POST:
                world, told, effect = self.platform.post(world, number, before.generation, step.fault)
                if step.crash is Crash.NONE:
                    world = self._write(world, number, told, effect)
                elif step.crash is Crash.RESTORED:
                    world = self._known(world, number, before)
        if step.portal == "after":
            world = self.platform.capture_by_hand(world)
        return self.platform.until(world, world.now + CALL + step.gap)

    def _write(self, world: World, number: int, told: str, effect: int | None) -> World:
        evidence = world.evidence[number]
        answered = replace(evidence.attempts[-1], answer=self.core.Answer[told])
        evidence = replace(evidence, attempts=(*evidence.attempts[:-1], answered))
        if effect is None:
            return self._known(world, number, evidence)
        return self._link(self._known(world, number, evidence), number, effect)

    def _look(self, world: World, number: int) -> World:
        """A clean look: ours by its reference, else what could be ours, and whether there is room."""
        evidence, listed = world.evidence[number], self.platform.listed(world)
        if self.model.echoes:
            for effect in listed:
                if world.effects[effect].operation == number:
                    return self._link(world, number, effect)
        known = dict(world.seen)
        world = world._replace(seen=tuple((effect, known.get(effect, world.now)) for effect in listed))
        first = seconds(evidence.sent[0].started_at) if evidence.sent else 0
        candidates = sum(
            effect not in world.linked
            and (not self.model.echoes or world.effects[effect].operation is None)
            and since >= first
            for effect, since in world.seen
        )
        seen = self.core.unseen(evidence, at(world.now), self.pace)
        moved = sum(effect.moment <= world.now for effect in world.effects) if self.model.standing else len(listed)
        return self._known(world, number, replace(seen, candidates=candidates, covered=moved < self.model.room))

    def _link(self, world: World, number: int, effect: int) -> World:
        found = replace(world.evidence[number], movement=MovementState.DONE)
        return self._known(world, number, found)._replace(linked=world.linked | {effect})

    def _end(self, world: World, number: int, action: Any) -> World:
        told = "review" if isinstance(action, self.core.Review) else str(action.state)
        world = world._replace(ended=(*world.ended[:number], told, *world.ended[number + 1 :]))
        # A person answers before the next of the payment may be sent.
        return self.platform.until(world, world.now + ANSWERED) if told == "review" and None in world.ended else world

    def _known(self, world: World, number: int, evidence: Any) -> World:
        return world._replace(evidence=(*world.evidence[:number], evidence, *world.evidence[number + 1 :]))


@dataclass
class Found:
    """What came of every schedule of a model.

    ``schedules`` counts them all; ``worlds`` those of their ends that differ; ``examples`` are schedules that went
    wrong, of those that have led to the same world one.
    """

    schedules: int = 0
    worlds: int = 0
    doubles: int = 0
    untrue: int = 0
    endless: int = 0
    reviews: int = 0
    longest: float = 0  # seconds from the last fault until all had ended
    examples: list[tuple[Step, ...]] = field(default_factory=list)

    @property
    def wrong(self) -> int:
        return self.doubles + self.untrue + self.endless


def explore(model: Model, core: ModuleType = settlement) -> Found:
    """Run every schedule of a model; those that have led to the same world go on as one."""
    ours, found = Ours(model, core), Found()
    world, number, _ = ours.until_a_request(ours.begin())
    assert number is not None
    frontier: dict[tuple[World, int], tuple[int, tuple[Step, ...]]] = {(world, number): (1, ())}
    for depth in range(1, model.depth + 1):
        reached: dict[tuple[World, int], tuple[int, tuple[Step, ...]]] = {}
        rest = sum(model.steps.values()) ** (model.depth - depth)
        for (world, number), (count, path) in frontier.items():
            for step, alike in model.steps.items():
                after, following, looks = ours.until_a_request(ours.send(world, number, step))
                taken = (*path, step)
                if following is None:
                    _judge(found, ours, after, count * alike * rest, taken, endless=looks >= ENDLESS)
                else:
                    known = reached.get((after, following), (0, taken))
                    reached[after, following] = (known[0] + count * alike, known[1])
        frontier = reached
    for (world, number), (count, path) in frontier.items():
        after, steps = _without_faults(ours, world, number)
        found.longest = max(found.longest, after.now - world.now)
        _judge(found, ours, after, count, path, endless=steps >= ENDLESS)
    return found


def _without_faults(ours: Ours, world: World, number: int | None) -> tuple[World, int]:
    """Go on to the end with nothing going wrong any more: the world then, and the looks and requests it took."""
    steps = 0
    while number is not None and steps < ENDLESS:
        world = ours.send(world, number, Step(OK, Crash.NONE, 0, ""))
        world, number, looks = ours.until_a_request(world)
        steps += 1 + looks
    return world, steps


def _judge(found: Found, ours: Ours, world: World, count: int, path: tuple[Step, ...], *, endless: bool) -> None:
    """Count what schedules have come to, once everything that was on its way has arrived."""
    effects = ours.platform.until(world, float("inf")).effects
    moved = [sum(effect.operation == number for effect in effects) for number in range(len(world.ended))]
    ends = list(zip(world.ended, moved, strict=True))
    double = any(times > 1 for times in moved)
    untrue = ("succeeded", 0) in ends or any(ended == "refused" and times for ended, times in ends)
    found.worlds += 1
    found.schedules += count
    found.doubles += count * double
    found.untrue += count * untrue
    found.endless += count * endless
    found.reviews += count * ("review" in world.ended)
    if double or untrue or endless:
        found.examples.append(path)
