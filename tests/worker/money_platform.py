"""A platform that moves money and remembers every movement: what is true in the proof of accept, send and settle."""

import enum
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine, event

from tests.worker.conftest import MERCHANT, FakePlatform, view_of
from worker.gateways.gateway import (
    CredentialsRefused,
    GatewayError,
    InProgress,
    Movement,
    NotAllowed,
    NotSent,
    Order,
    OutcomeUnknown,
    PaymentUnknown,
    PaymentView,
    Receipt,
    Refused,
    SlowDown,
    TryAgain,
)
from worker.lifecycle import MovementKind, MovementState

PAYMENT, AUTHORISED = "3254564310", 1000

#: The platform honours a key for so long.
KEY_SECONDS = 24 * 3600

#: No request takes longer until it has its effect: less than the settling time.
LATEST_SECONDS = 1200

#: What an answer that is lost, or a page of some proxy, tells.
ERROR = 502


class Fate(enum.StrEnum):
    """What becomes of one request."""

    OK = "done, and pending"
    AT_ONCE = "done at once"
    UNNAMED = "done, and not named"
    DECLINED = "made, and refused at once"
    REFUSED = "refused"
    NOT_ALLOWED = "not allowed"
    NOT_SENT = "not sent"
    TURNED_AWAY = "credentials refused"
    SLOW_DOWN = "too many requests"
    LOST_BEFORE = "lost before"
    LOST_AFTER = "lost after"
    LATE = "lost, and arrives late"
    RUNNING = "in progress, done late"
    ERROR_BEFORE = "5xx without effect"
    ERROR_AFTER = "5xx with effect"
    KEPT_ERROR = "kept 5xx without effect"
    KEPT_ERROR_DONE = "kept 5xx with effect"


#: Nothing of these arrives.
_TURNED_BACK: dict[Fate, GatewayError] = {
    Fate.NOT_SENT: NotSent("never left"),
    Fate.TURNED_AWAY: CredentialsRefused("HTTP 403", http_status=403),
    Fate.SLOW_DOWN: SlowDown("HTTP 429", http_status=429),
    Fate.NOT_ALLOWED: NotAllowed("HTTP 409", http_status=409),
    Fate.LOST_BEFORE: OutcomeUnknown("no answer"),
    Fate.ERROR_BEFORE: OutcomeUnknown(f"HTTP {ERROR}", http_status=ERROR),
}

#: The answers of these never come.
_UNHEARD: dict[Fate, GatewayError] = {
    Fate.LOST_AFTER: OutcomeUnknown("no answer"),
    Fate.RUNNING: OutcomeUnknown("no answer"),
    Fate.ERROR_AFTER: OutcomeUnknown(f"HTTP {ERROR}", http_status=ERROR),
}

#: A look that fails.
LOOK_FAULTS = (TryAgain("HTTP 500"), CredentialsRefused("HTTP 403"), PaymentUnknown("HTTP 404"))

_BEGUN = {MovementKind.CAPTURE: 91, MovementKind.REFUND: 81, MovementKind.CANCEL: 61}
_DONE = {MovementKind.CAPTURE: 9, MovementKind.REFUND: 8, MovementKind.CANCEL: 6}
_REFUSED = {MovementKind.CAPTURE: 93, MovementKind.REFUND: 83, MovementKind.CANCEL: 63}


class Clock:
    """The database's clock and its processes', which goes on when the test says so and never by itself: whether two
    things happen in the same millisecond must not be left to the machine."""

    def __init__(self) -> None:
        self.at = datetime(2026, 1, 1, tzinfo=UTC)

    def tell(self, engine: Engine) -> None:
        """Have every statement told this time in place of the server's."""
        event.listen(engine, "before_cursor_execute", self._told, retval=True)

    def go_on(self, seconds: float) -> None:
        self.at += timedelta(milliseconds=round(seconds * 1000))

    def monotonic(self) -> float:
        return self.at.timestamp()

    def sleep(self, seconds: float) -> None:
        self.go_on(seconds)

    def _told(self, connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
        at = f"'{self.at:%Y-%m-%d %H:%M:%S}.{self.at.microsecond // 1000:03d}"
        if connection.dialect.name == "sqlite":
            return statement.replace("'now'", f"{at}'"), parameters
        return statement.replace("statement_timestamp()", f"{at}+00'::timestamptz"), parameters


@dataclass
class Kept:
    """What is known of an idempotence key."""

    since: datetime
    outcome: str | GatewayError | None = None  # the movement it made, or why none; None while it runs


class ModelPlatform(FakePlatform):
    """One payment of ten euros, authorised or sold; it honours keys and never moves more than there is.

    Args:
        clock: its own too.
        pause: called with a name wherever a request or a look is for others to overtake.
    """

    def __init__(self, clock: Clock, pause: Callable[[str], None]) -> None:
        super().__init__()
        self.clock, self.pause = clock, pause
        self.is_sale = False
        self.movements: list[Movement] = []
        self.fate = Fate.OK  # of the next request that gets somewhere
        self.look_fault: GatewayError | None = None  # of the next look
        self.survives = False  # whether the request of a process that dies now arrives all the same
        self.written: Callable[[Order], str | None] = lambda order: None  # what is wrong with our record of a request
        self.wrong: list[str] = []  # what no sender may do
        self.by_hand = 0
        self.uncovered = 0  # requests for more than there was
        self.seen: Counter[str] = Counter()
        self._kept: dict[str, Kept] = {}
        self._bodies: dict[str, tuple[str, bytes]] = {}
        self._late: list[tuple[datetime, Order, bool]] = []  # on their way or being done, and whether under their keys
        self._final: set[str] = set()  # captures that release what is left

    # What the gateway does

    def look(self, payment_id: str, *, seconds: float) -> PaymentView:
        view, fault = self._view(), self.look_fault
        self.look_fault = None
        self.pause("looked")
        if fault is not None:
            self.seen[f"look: {type(fault).__name__}"] += 1
            raise fault
        return view

    def send(self, order: Order, *, seconds: float) -> Movement | Receipt:
        self._check(order)
        left_at = self.clock.at
        try:
            self.pause("on its way")
        except BaseException:
            if self.survives:
                self._late.append((left_at, order, False))
            raise
        fate, self.fate = self.fate, Fate.OK
        if self._too_late(left_at):
            fate = Fate.LOST_BEFORE
        self.seen[fate] += 1
        if fate in _TURNED_BACK:
            raise _TURNED_BACK[fate]
        if fate is Fate.LATE:
            self._late.append((left_at, order, False))
            raise OutcomeUnknown("no answer")
        outcome = self._arrives(order, fate)
        self.pause("answered")
        if fate in _UNHEARD:
            raise _UNHEARD[fate]
        if isinstance(outcome, GatewayError):
            raise outcome
        return Receipt(201) if fate is Fate.UNNAMED else outcome

    # What happens there

    def is_under_way(self, reference: str) -> bool:
        """Whether a request may still have its effect."""
        return any(order.reference == reference for _, order, _ in self._late)

    def moved(self, reference: str) -> list[Movement]:
        """Every movement of an operation, refused or not."""
        return [one for one in self.movements if one.reference == reference]

    def arrive(self) -> None:
        """What was on its way or being done arrives, and is done."""
        late, self._late = self._late, []
        for _, order, is_known in late:
            if is_known:
                self._kept[order.idempotence_key].outcome = self._carry_out(order, Fate.OK)
            else:
                self._arrives(order, Fate.OK)
            self.seen["arrived late"] += 1

    def pass_time(self, seconds: float) -> None:
        """Nothing takes longer until its effect than the platform may take."""
        if any(self._too_late(begun - timedelta(seconds=seconds)) for begun, _, _ in self._late):
            self.arrive()
        self.clock.go_on(seconds)

    def settle(self, which: int, state: MovementState) -> bool:
        """One of what is pending is done, or refused; whether there was any."""
        pending = [number for number, one in enumerate(self.movements) if one.state is MovementState.PENDING]
        if not pending:
            return False
        number = pending[which % len(pending)]
        self.movements[number] = _in_state(self.movements[number], state)
        return True

    def move_by_hand(self, kind: MovementKind, amount: int, reference: str | None) -> bool:
        """Somebody uses the platform's portal; whether there was room."""
        if amount > self._left(kind):
            return False
        self.by_hand += 1
        self._move(kind, amount, reference, MovementState.PENDING)
        return True

    def live(self, *kinds: MovementKind, state: MovementState | None = None) -> int:
        """The sum of what is not refused."""
        counted = (one for one in self.movements if one.kind in kinds and one.state is not MovementState.REFUSED)
        return sum(one.amount for one in counted if state in (None, one.state))

    def captured(self) -> int:
        done = self.live(MovementKind.CAPTURE, state=MovementState.DONE)
        return AUTHORISED if self.is_sale else done

    # How it is done

    def _check(self, order: Order) -> None:
        content = (order.payment_id, order.body)
        if self._bodies.setdefault(order.idempotence_key, content) != content:
            self.wrong.append(f"{order.idempotence_key} was sent with two contents")
        if problem := self.written(order):
            self.wrong.append(problem)

    def _too_late(self, begun: datetime) -> bool:
        return (self.clock.at - begun).total_seconds() > LATEST_SECONDS

    def _arrives(self, order: Order, fate: Fate) -> Movement | GatewayError:
        key = order.idempotence_key
        kept = self._kept.get(key)
        if kept is None or (self.clock.at - kept.since).total_seconds() >= KEY_SECONDS:
            self._kept[key] = kept = Kept(self.clock.at)
            if fate is Fate.RUNNING:
                self._late.append((self.clock.at, order, True))
                return _UNHEARD[fate]
            kept.outcome = self._carry_out(order, fate)
            return self._told(kept.outcome)
        if kept.outcome is None:
            self.seen["in progress"] += 1
            return InProgress("HTTP 409", http_status=409)
        self.seen["replayed"] += 1
        outcome = self._told(kept.outcome)
        if isinstance(outcome, GatewayError):
            return type(outcome)(outcome.told, http_status=outcome.http_status, replayed=True)
        return outcome

    def _told(self, outcome: str | GatewayError) -> Movement | GatewayError:
        if isinstance(outcome, GatewayError):
            return outcome
        return next(one for one in self.movements if one.platform_operation_id == outcome)

    def _carry_out(self, order: Order, fate: Fate) -> str | GatewayError:
        if fate is Fate.REFUSED:
            return Refused("HTTP 402", http_status=402)
        if fate is Fate.KEPT_ERROR:
            return OutcomeUnknown("HTTP 500", http_status=500)
        if order.amount > self._left(order.kind):
            self.uncovered += 1
            return NotAllowed("HTTP 409", http_status=409)
        state = {Fate.AT_ONCE: MovementState.DONE, Fate.DECLINED: MovementState.REFUSED}.get(
            fate, MovementState.PENDING
        )
        self.seen["effect"] += 1
        moved = self._move(order.kind, order.amount, order.reference, state)
        if json.loads(order.body)["is_final"] and order.kind is MovementKind.CAPTURE:
            self._final.add(moved)
        return OutcomeUnknown("HTTP 500", http_status=500) if fate is Fate.KEPT_ERROR_DONE else moved

    def _move(self, kind: MovementKind, amount: int, reference: str | None, state: MovementState) -> str:
        operation_id = f"{PAYMENT}_{len(self.movements) + 1}"
        begun = Movement(operation_id, kind, MovementState.PENDING, amount, "EUR", None, None, reference)
        self.movements.append(_in_state(begun, state))
        return operation_id

    def _left(self, kind: MovementKind) -> int:
        if kind is MovementKind.REFUND:
            return self.captured() - self.live(MovementKind.REFUND)
        ended = {one.platform_operation_id for one in self.movements if one.state is not MovementState.REFUSED}
        if self.is_sale or self._final & ended:
            return 0
        return AUTHORISED - self.live(MovementKind.CAPTURE, MovementKind.CANCEL)

    def _view(self) -> PaymentView:
        pending = [one for one in self.movements if one.state is MovementState.PENDING]
        code = 5
        if pending:
            code = _BEGUN[pending[-1].kind]
        elif self.captured():
            refunded = self.live(MovementKind.REFUND) >= self.captured()
            code = 8 if refunded else 9
        elif self.live(MovementKind.CANCEL) == AUTHORISED:
            code = 6
        view = view_of(PAYMENT, *self.movements, code=code, amount=AUTHORISED)
        return replace(view, merchant_id=MERCHANT, acquired=self.captured() or None)


def _in_state(movement: Movement, state: MovementState) -> Movement:
    codes = {MovementState.PENDING: _BEGUN, MovementState.DONE: _DONE, MovementState.REFUSED: _REFUSED}
    return replace(movement, state=state, status=state.upper(), status_code=codes[state][movement.kind])
