"""Requests, sends, settlements and looks in whatever order chance finds, a transaction at a time, with deaths between.

The steps are the product's own: every worker is a thread that waits before whatever another could overtake, and goes
on when it is told. Nobody reads a clock that is not the test's.
"""

import contextlib
import logging
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import hypothesis.strategies as st
import pytest
import structlog
from hypothesis import HealthCheck, Phase, note, seed, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection, Row, event, select

from tests.proof.fixtures import Proof
from tests.worker.conftest import CONNECTIONS, MERCHANT, body_of, settings_of
from tests.worker.money_platform import AUTHORISED, LOOK_FAULTS, PAYMENT, Clock, Fate, ModelPlatform
from worker import inbox, operations, sending
from worker.database import Database, DatabaseUnavailable
from worker.gateways.gateway import Order
from worker.lifecycle import ABSORBING, HOLDING, OPERATION_MOVES, MovementKind, MovementState, OperationState
from worker.models import Attempt, Base, JournalEntry, Movement, Operation, Payment, WebhookEvent
from worker.operations import people
from worker.reconciliation import Reconciler, claims, writing
from worker.rescue import sweep
from worker.sending import Sender, claim

SETTINGS = settings_of()
OURS = frozenset([MERCHANT])
HOUR = 3600.0

CAPTURE, REFUND, CANCEL = MovementKind
_O = OperationState
OVER = ABSORBING | {_O.REVIEW}


@dataclass(frozen=True)
class Step:
    """How far a worker goes, and what gets in its way.

    Args:
        do: what: a ring is heard, a worker goes on, a worker dies, a sweep.
        which: ring or worker, by any number.
        pauses: how often it does not stop.
        fate: of its request.
        look: why its look fails.
        away: the database, before its next transaction or after the commit.
        stops: whether it stops after that too.
        survives: whether the request of one that dies gets there.
    """

    do: str = "_begin"
    which: int = 0
    pauses: int = 9
    fate: Fate = Fate.OK
    look: Any = None
    away: str | None = None
    stops: bool = False
    survives: bool = False


UNDISTURBED = Step()


def _step(number: str) -> Step:
    """A step drawn evenly: Hypothesis by itself repeats what it has drawn once, and few faults would ever be met."""
    draw = random.Random(number)
    # Every third request is let through; a run of nothing but faults would not get far.
    fates = [Fate.OK, draw.choice(list(Fate)), draw.choice(list(Fate))]
    return Step(
        do=draw.choice(["_begin", "_begin", "_begin", "_go_on", "_go_on", "_go_on", "_sweep", "_die"]),
        which=draw.randrange(99),
        pauses=draw.choice([1, 1, 1, 2, 3, 9, 9]),
        fate=draw.choice(fates),
        look=draw.choice([None] * 12 + list(LOOK_FAULTS)),
        away=draw.choice([None] * 16 + ["before", "after"]),
        stops=draw.random() < 0.2,
        survives=draw.random() < 0.5,
    )


def _request(number: int) -> dict[str, Any]:
    """A request of one of two systems, which now and then say the same again, or another under the same id."""
    draw = random.Random(number)
    kind = draw.choice([CAPTURE, CAPTURE, REFUND, CANCEL])
    given = {"kind": kind, "payment_id": PAYMENT, "source": draw.choice(["shop", "books"])}
    amount = draw.choice([None, 1, 300, 300, 400, 400, 600, 1000, 1001])
    given |= {"request_id": str(draw.randrange(9)), "amount": amount}
    given |= draw.choice([{}, {}, {}, {"is_final": True}, {"currency": "EUR"}, {"currency": "USD"}])
    if kind is CANCEL and draw.random() < 0.5:
        given["on_captured"] = "refund"
    return given


REQUESTS = st.lists(st.integers(0, 2**64 - 1).map(_request), min_size=1, max_size=3)
STEPS = st.lists(st.integers(0, 2**64 - 1), min_size=4, max_size=12)
ANY = st.integers(0, 99)
RARELY = st.sampled_from([False, False, False, True])


class Died(BaseException):
    """The worker's process is gone."""


class Worker:
    """A thread of payhook's that does one thing, and stops wherever `pause` is called until it is told to go on."""

    _here = threading.local()

    def __init__(self, task: Callable[[], object]):
        self.at: str | None = "begun"  # None: it has ended
        self.result: object = None
        self.failure: BaseException | None = None
        self.holds = False  # whether it stops before its next commit too
        self._task = task
        self._dies = False
        self._told, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        threading.Thread(target=self._run, name="worker", daemon=True).start()

    @classmethod
    def pause(cls, at: str) -> None:
        """Stop here, if a worker's thread this is."""
        worker: Worker | None = getattr(cls._here, "worker", None)
        if worker is not None:
            worker._pause(at)

    @classmethod
    def of_this_thread(cls) -> "Worker | None":
        return getattr(cls._here, "worker", None)

    def go_on(self) -> None:
        """Go on until it stops again or ends."""
        self.begin()
        self.wait()

    def begin(self) -> None:
        self._told.release()

    def wait(self, seconds: float | None = None) -> bool:
        """Whether it has stopped."""
        stopped = self._stopped.acquire(timeout=seconds)
        if stopped and self.failure is not None:
            raise self.failure
        return stopped

    def die(self) -> None:
        self._dies = True
        self.go_on()

    def _pause(self, at: str) -> None:
        self.at = at
        self._stopped.release()
        self._told.acquire()
        if self._dies:
            raise Died

    def _run(self) -> None:
        self._here.worker = self
        self._told.acquire()
        try:
            if not self._dies:
                self.result = self._task()
        except (Died, DatabaseUnavailable):
            pass  # what it held is rows; they are due
        except BaseException as error:
            self.failure = error
        self.at = None
        self._stopped.release()


class SteppedDatabase(Database):
    """A database whose workers stop between their transactions, and that may be away."""

    away: str | None = None  # a worker's next transaction does not begin, or nobody hears that it was committed
    stops: bool = False  # a worker stops when its next transaction is over; else only where others may overtake it

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection]:
        worker = Worker.of_this_thread()
        if worker is None:
            with super().transaction() as connection:
                yield connection
            return
        away, self.away = self.away, None
        if away == "before":
            raise DatabaseUnavailable("away")
        with super().transaction() as connection:
            yield connection
            if worker.holds:
                worker.holds = False
                Worker.pause("committing")
        if away == "after":
            raise DatabaseUnavailable("away")
        if self.stops:
            self.stops = False
            Worker.pause("committed")


@dataclass
class Ground:
    """What the examples of one run have in common."""

    database: SteppedDatabase
    clock: Clock
    seen: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Record:
    """Our record, read at one moment."""

    payment: Row[Any] | None
    operations: list[Row[Any]]
    movements: list[Row[Any]]

    def live(self, *kinds: MovementKind) -> int:
        return sum(one.amount for one in self.movements if one.kind in kinds and one.state != MovementState.REFUSED)

    def promised(self, *kinds: MovementKind) -> int:
        """What our operations hold that the platform lists nothing of."""
        listed = {one.operation_key for one in self.movements}
        held = (one for one in self.operations if one.kind in kinds and one.state in HOLDING)
        return sum(one.amount for one in held if one.operation_key not in listed)


class MoneyMachine(RuleBasedStateMachine):
    """One payment, two systems that ask for its money, up to three workers, a sweep, people, and a portal."""

    def __init__(self, ground: Ground):
        super().__init__()
        self.ground, self.database, self.clock, self.seen = ground, ground.database, ground.clock, ground.seen
        self.database.away = None
        with self.database.transaction() as connection:
            for table in reversed(Base.metadata.sorted_tables):
                connection.execute(table.delete())
        self.platform = ModelPlatform(self.clock, Worker.pause)
        self.platform.written = self._what_is_wrong_with
        gateways = {MERCHANT: self.platform}
        self.sender = Sender(self.database, gateways, SETTINGS)
        self.reconciler = Reconciler(self.database, gateways, SETTINGS)
        self.workers: list[Worker] = []
        self.rings: list[tuple[str, int]] = []
        self.events = 0
        self.sound, self.taken = True, 0
        self.seen["examples"] += 1

    @initialize(is_sale=RARELY, requests=REQUESTS)
    def pay(self, is_sale: bool, requests: list[dict[str, Any]]) -> None:
        self.platform.is_sale = is_sale
        self._tell(True)
        for given in requests:
            self._ask(given)

    # What comes from outside; and then our processes do a few steps

    @rule(requests=REQUESTS, then=STEPS)
    def ask(self, requests: list[dict[str, Any]], then: list[int]) -> None:
        for given in requests:
            self._ask(given)
        self._then(then)

    @rule(
        kind=st.sampled_from(MovementKind),
        amount=st.sampled_from([1, 300, 400]),
        reference=st.sampled_from([None, "shop-7"]),
        told=st.booleans(),
        then=STEPS,
    )
    def move_by_hand(self, kind: MovementKind, amount: int, reference: str | None, told: bool, then: list[int]) -> None:
        if self.platform.by_hand < 2 and self.platform.move_by_hand(kind, amount, reference):
            self.seen["moved by hand"] += 1
            self._tell(told)
        self._then(then)

    @rule(which=ANY, is_refused=RARELY, told=st.booleans(), then=STEPS)
    def settle(self, which: int, is_refused: bool, told: bool, then: list[int]) -> None:
        state = MovementState.REFUSED if is_refused else MovementState.DONE
        if self.platform.settle(which, state):
            self.seen[f"the platform settled: {state}"] += 1
            self._tell(told)
        self._then(then)

    @rule(again=st.booleans(), then=STEPS)
    def answer(self, again: bool, then: list[int]) -> None:
        for one in self._read().operations:
            if one.state == _O.REVIEW:
                self._answer(one, again=again)
        self._then(then)

    @rule(which=ANY, is_meant=RARELY, then=STEPS)
    def withdraw(self, which: int, is_meant: bool, then: list[int]) -> None:
        known = self._read().operations
        if known and is_meant:
            with contextlib.suppress(people.CannotDecide), self.database.transaction() as connection:
                key = known[which % len(known)].operation_key
                people.withdraw(connection, key, actor="ann", why="a mistake")
                self.seen["taken back"] += 1
        self._then(then)

    @rule(
        seconds=st.sampled_from([1, 3, 10, 30, 61, 61, 300, 700, HOUR + 1, 2 * HOUR, 25 * HOUR]),
        is_late=st.booleans(),
        then=STEPS,
    )
    def pass_time(self, seconds: float, is_late: bool, then: list[int]) -> None:
        if not is_late:
            self.platform.arrive()
        self.platform.pass_time(seconds)
        if seconds > SETTINGS.key_seconds:
            self.seen["a key's time passed"] += 1
        self._sweep()
        self._then(then)

    # What our processes do meanwhile

    def _then(self, numbers: list[int]) -> None:
        for number in numbers:
            self.holds()
            self.taken += 1
            step = _step(f"{number} {self.taken}")
            note(f"    {step}")
            if step.do in (self._die.__name__, self._go_on.__name__) and not self.workers:
                continue
            getattr(self, step.do)(step)

    def _begin(self, step: Step) -> None:
        ring = self._heard(step.which)
        if ring is not None and len(self.workers) < 3:
            self._run(self._work(ring), step)

    def _go_on(self, step: Step) -> None:
        self._run(self.workers[step.which % len(self.workers)], step)

    def _die(self, step: Step) -> None:
        worker = self.workers[step.which % len(self.workers)]
        self.seen[f"died: {worker.at}"] += 1
        self.platform.survives = step.survives
        self._bury(worker)

    def _sweep(self, _: Step | None = None) -> None:
        due = sweep(self.database, SETTINGS.sweep_limit)
        for kind, keys in (
            ("operation", due.operation_keys + due.operations_alone),
            ("payment", due.payment_keys + due.payments_alone),
            ("event", due.event_keys + due.events_alone),
        ):
            for key in sorted(keys):
                self._ring((kind, key))

    @precondition(lambda self: not self.database.is_sqlite and len(self.workers) < 2)
    @rule(first=ANY, second=ANY, commits=st.sampled_from([True, True, False]))
    def two_at_once(self, first: int, second: int, commits: bool) -> None:
        """One's transaction is still open when another's begins: whoever needs what it holds must wait."""
        rings = [self._heard(first), self._heard(second)]
        if None in rings:
            return
        one, other = (self._work(ring) for ring in rings if ring is not None)
        one.holds = True
        one.go_on()
        other.begin()
        while not other.wait(0.002):
            if self._somebody_waits():
                self.seen["waited for another's transaction"] += 1
                break
        else:
            other = None
        if one.at == "committing":
            one.go_on() if commits else one.die()
        if other is not None:
            other.wait()
        self._clear()

    # What must be true after each

    @invariant()
    def holds(self) -> None:
        self.sound = False
        record, platform = self._read(), self.platform
        assert not platform.wrong, platform.wrong
        self._check_money(record)
        in_flight = [one for one in record.operations if one.state in (_O.SENDING, _O.UNKNOWN)]
        assert len(in_flight) <= 1
        for one in record.operations:
            moved = platform.moved(one.operation_uuid)
            assert len(moved) <= 1, f"moved twice: {moved}"
            live = [movement for movement in moved if movement.state is not MovementState.REFUSED]
            if one.state in (_O.REFUSED, _O.WITHDRAWN):
                assert not live, f"{one.state}, and moved: {live} ({one.reason})"
            if one.state == _O.SUCCEEDED:
                assert [movement.state for movement in live] == [MovementState.DONE], f"succeeded, and {moved}"
            if one.state in OVER:
                assert one.state == _O.SUCCEEDED or one.reason
            assert "a fault of payhook" not in (one.reason or "")
        assert record.payment is None or "a fault of payhook" not in (record.payment.problem or "")
        self.sound = True

    def _check_money(self, record: Record) -> None:
        platform = self.platform
        taken = (CAPTURE, CANCEL)
        assert platform.live(*taken) <= AUTHORISED
        assert platform.live(REFUND) <= platform.captured()
        assert record.live(*taken) <= AUTHORISED
        captured = AUTHORISED if platform.is_sale else record.live(CAPTURE)
        assert record.live(REFUND) <= captured
        if not platform.by_hand:
            assert record.live(*taken) + record.promised(*taken) <= AUTHORISED
            assert record.live(REFUND) + record.promised(REFUND) <= captured
            assert not platform.uncovered, "more was asked of the platform than there was"

    # The end: no faults any more

    def teardown(self) -> None:
        for worker in list(self.workers):
            self._bury(worker)
        if not self.sound:
            return
        self.database.away, self.platform.look_fault, self.platform.fate = None, None, Fate.OK
        self.platform.arrive()
        for times in range(400):
            while self.platform.settle(0, MovementState.DONE):
                pass
            record = self._read()
            if self._is_over(record):
                break
            for one in record.operations:
                if one.state == _O.REVIEW:
                    self._answer(one, again=False)
            self._pass_time_until_due(record, 0.01 if times < 50 else 900)
            for ring in self.rings:
                self._run(self._work(ring), UNDISTURBED)
            self.holds()
        record = self._read()
        assert self._is_over(record), [(one.kind, one.state, one.due_at, one.reason) for one in record.operations]
        self._check_history(record)
        self.seen.update(self.platform.seen)
        self.seen.update(f"ended: {one.state}" for one in record.operations)

    def _is_over(self, record: Record) -> bool:
        """Whether every operation has ended and the record is the platform's truth."""
        payment = record.payment
        if payment is None or payment.refreshed_at is None:
            return all(one.state in ABSORBING for one in record.operations)
        told = [(one.platform_operation_id, one.kind, one.amount, one.state) for one in record.movements]
        truth = [(one.platform_operation_id, one.kind, one.amount, one.state) for one in self.platform.movements]
        return (
            all(one.state in ABSORBING for one in record.operations)
            and sorted(told) == sorted(truth)
            and payment.wanted == payment.applied
            and payment.amount_captured == self.platform.captured()
            and payment.amount_refunded == self.platform.live(REFUND)
            and payment.amount_cancelled == self.platform.live(CANCEL)
        )

    def _pass_time_until_due(self, record: Record, more: float) -> None:
        """To the next due time, and somewhat more when it takes long: what waits for another asks every few seconds."""
        with self.database.reading() as connection:
            due = [
                at
                for table in (Operation, Payment, WebhookEvent)
                for at in connection.execute(select(table.due_at).where(table.due_at.is_not(None))).scalars()
            ]
        self.rings.clear()
        if due:
            self.platform.pass_time(max((min(due) - self.clock.at).total_seconds(), 0.0) + more)
            self._sweep()
            return
        waiting = [one for one in record.operations if one.state not in ABSORBING]
        assert not waiting, "not every operation is over, and nothing is due"
        self._tell(True)  # of a payment that nothing is to follow of, by hand: only its webhook tells

    def _check_history(self, record: Record) -> None:
        """Every state was reached by a move there is, each from where the one before had led."""
        with self.database.reading() as connection:
            told = select(JournalEntry).where(JournalEntry.subject == "operation").order_by(JournalEntry.journal_key)
            entries = connection.execute(told.with_only_columns(*JournalEntry.__table__.columns)).all()
        states: dict[str, str | None] = {}
        for entry in entries:
            before = states.get(entry.subject_id)
            assert entry.from_state == before, f"from {entry.from_state}, though it was {before}: {entry.why}"
            if before is not None and entry.to_state != before:
                assert entry.to_state in OPERATION_MOVES[_O(before)], f"from {before} to {entry.to_state}"
            states[entry.subject_id] = entry.to_state
        assert states == {str(one.operation_key): one.state for one in record.operations}

    # How it is done

    def _work(self, ring: tuple[str, int]) -> Worker:
        kind, key = ring
        do: Callable[[int], object] = {
            "operation": self.sender.operation,
            "payment": self.reconciler.payment,
            "event": self.reconciler.event,
        }[kind]
        worker = Worker(lambda: do(key))
        self.workers.append(worker)
        return worker

    def _heard(self, which: int) -> tuple[str, int] | None:
        """One of the rings there are; with none, a ring for an operation that nobody has rung for."""
        if self.rings:
            return self.rings.pop(which % len(self.rings))
        known = [one for one in self._read().operations if one.state not in OVER]
        return ("operation", known[which % len(known)].operation_key) if known else None

    def _ask(self, given: dict[str, Any]) -> None:
        kind, arguments = given["kind"], {name: value for name, value in given.items() if name != "kind"}
        with contextlib.suppress(operations.CannotAccept):  # the id of another request
            row = operations.request(self.database, kind, arguments, OURS, unnamed="-")
            self._ring(("operation", row.operation_key))

    def _tell(self, told: bool) -> None:
        """The platform's webhook comes, or does not."""
        if not told:
            return
        self.events += 1
        body = body_of(PAYMENT, number=self.events)
        kept = inbox.keep(self.database, body, "key-1", key_merchant_id=None, merchant_ids=None, ring_seconds=5.0)
        for key in kept.due:
            self._ring(("event", key))

    def _ring(self, ring: tuple[str, int]) -> None:
        if ring not in self.rings:
            self.rings.append(ring)

    def _run(self, worker: Worker, step: Step) -> None:
        platform, database = self.platform, self.database
        platform.fate, platform.look_fault = step.fate, step.look
        database.away, database.stops = step.away, step.stops
        for _ in range(step.pauses):
            if worker.at is None:
                break
            self._tick()
            worker.go_on()
        if step.away is not None and database.away is None:
            self.seen[f"the database was away {step.away}"] += 1
        platform.fate, platform.look_fault = Fate.OK, None
        database.away, database.stops = None, False
        self._clear()

    def _bury(self, worker: Worker) -> None:
        if worker.at is not None:
            worker.die()
        self.workers.remove(worker)

    def _clear(self) -> None:
        """Ring for what those who have ended say should follow."""
        self._tick()
        for worker in [one for one in self.workers if one.at is None]:
            self.workers.remove(worker)
            follow: Any = worker.result
            if isinstance(follow, sending.Follow):
                for key, _ in follow.operations:
                    self._ring(("operation", key))
                if follow.payment is not None:
                    self._ring(("payment", follow.payment[0]))
            elif follow is not None:
                for key in follow.operation_keys:
                    self._ring(("operation", key))
                if follow.seconds is not None:
                    self._ring(("payment", follow.payment_key))

    def _tick(self) -> None:
        self.clock.go_on(0.5)
        self.seen["steps"] += 1

    def _answer(self, one: Row[Any], *, again: bool) -> None:
        """A person says what is true, once it is certain."""
        moved = [
            movement
            for movement in self.platform.moved(one.operation_uuid)
            if movement.state is not MovementState.REFUSED
        ]
        on_its_way = any(worker.at == "on its way" for worker in self.workers)
        if on_its_way or self.platform.is_under_way(one.operation_uuid):
            return
        if any(movement.state is MovementState.PENDING for movement in moved):
            return
        verdict: people.Verdict = "succeeded" if moved else "resend" if again else "refused"
        with self.database.transaction() as connection:
            people.resolve(connection, one.operation_key, verdict, actor="ann", why="asked the platform's support")
        self.seen[f"resolved: {verdict}"] += 1

    def _read(self) -> Record:
        with self.database.reading() as connection:
            payment = connection.execute(select(Payment.__table__)).one_or_none()
            known = connection.execute(select(Operation.__table__).order_by(Operation.operation_key)).all()
            movements = connection.execute(select(Movement.__table__).order_by(Movement.movement_key)).all()
        return Record(payment, list(known), list(movements))

    def _what_is_wrong_with(self, order: Order) -> str | None:
        """A request leaves only when our record says that it may have."""
        with self.database.reading() as connection:
            attempts = connection.execute(
                select(Attempt.finished_at, Operation.state, Operation.request_body, Operation.operation_uuid)
                .join(Operation, Operation.operation_key == Attempt.operation_key)
                .where(Attempt.idempotence_key == order.idempotence_key, Attempt.finished_at.is_(None))
            ).all()
        if not attempts:
            return f"{order.idempotence_key} left, and no attempt says so"
        if any(one.request_body != order.body or one.operation_uuid != order.reference for one in attempts):
            return f"{order.idempotence_key} left with another content than the one on record"
        return None

    def _somebody_waits(self) -> bool:
        with self.database.reading() as connection:
            waiting = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            return bool(connection.exec_driver_sql(waiting).scalar_one())


def opened(url: str, clock: Clock) -> SteppedDatabase:
    """A database whose time is the clock's, and that does not wait for the disk: no power fails here."""
    database = SteppedDatabase(url, connections=CONNECTIONS, seconds=60, revision=None)
    if database.is_sqlite:
        event.listen(database.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
    clock.tell(database.engine)
    return database


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def ground(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    """A database of each kind in turn, and one clock for it and the processes."""
    clock = Clock()
    modules: tuple[ModuleType, ...] = (sending, claim, claims, writing)
    for module in modules:
        monkeypatch.setattr(module, "time", clock)
    name = "sqlite_url" if request.param == "sqlite" else "emptied_postgres_url"
    database = opened(request.getfixturevalue(name), clock)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield Ground(database, clock)
    structlog.reset_defaults()
    database.close()


@pytest.mark.timeout(1800)
@pytest.mark.proof("G2", "G3", "G4", "G5", "G6", alone=False)
def test_money_moves_once_whatever_overtakes_or_dies(ground: Ground, proof: Proof) -> None:
    """Requests, their sends, settlements and looks in any order of their transactions, with faults of the platform
    and the database, deaths in between, hours gone by, people and a portal: nothing moves twice, no more is promised
    or moved than there is, no end is untrue; once the faults stop everything ends, and the record is the truth."""
    examples = proof.size(25, 100) if ground.database.is_sqlite else proof.size(16, 40)
    run = seed(proof.seed)(lambda: MoneyMachine(ground))

    run_state_machine_as_test(
        run,
        settings=settings(
            max_examples=examples,
            stateful_step_count=20,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],  # to make a failure small takes many minutes: it is printed as it was found
        ),
    )

    for what, count in sorted(ground.seen.items()):
        proof.figure(what, count)
    faults = set(Fate) - {Fate.OK, Fate.AT_ONCE}
    proof.injected("effects", ground.seen["effect"], at_least=proof.size(8, 30))
    proof.injected("faults of requests", sum(ground.seen[fate] for fate in faults), at_least=proof.size(4, 15))
    deaths = sum(count for what, count in ground.seen.items() if what.startswith("died"))
    proof.injected("deaths", deaths, at_least=proof.size(8, 30))
    if not ground.database.is_sqlite:
        waits = ground.seen["waited for another's transaction"]
        proof.injected("transactions that waited for another", waits, at_least=proof.size(3, 10))
