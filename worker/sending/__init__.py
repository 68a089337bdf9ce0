"""Operations on their way: claim, write the attempt, ask the platform, write down what came of it.

The promise, its idempotence key and the attempt are committed before the request leaves; no transaction is open while
the answer is awaited; an answer that did not come is unknown, never failed. What should follow is returned, never rung
for here.
"""

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Connection, Row, insert, select, update
from sqlalchemy.exc import IntegrityError

from worker import metrics
from worker.database import Database, now, seconds_from_now
from worker.gateways.gateway import Gateway, GatewayError, Movement, NotSent, OutcomeUnknown
from worker.lifecycle import ABSORBING, OperationState
from worker.logs import place_of
from worker.models import Attempt, Operation
from worker.operations.acceptance import accept_requested
from worker.operations.evidence import pace_of
from worker.operations.fingerprint import stranger
from worker.operations.ledger import Ledger, open_ledger
from worker.operations.moves import move, note
from worker.operations.settling import WAITING_SECONDS, advance, wake
from worker.reconciliation.claims import MOST_CLAIMS, want
from worker.reconciliation.writing import write_insistently
from worker.sending.answers import Outcome, answer_of, complete, keep_movement, log_answer, release
from worker.sending.claim import Claim, idempotence_key, order_of
from worker.sending.telling import telling
from worker.settings import Settings
from worker.settlement import Look, Send
from worker.traffic import Traffic, Turn

log = structlog.get_logger("payhook.sending")

#: A process that may not move money by this database looks again after this: a person has to mend it.
STRANGER_SECONDS = 60.0

#: So long at most an operation waits for its turn with its claim in hand, and half the claim, which leaves enough of it
#: for the request.
LONGEST_TURN_SECONDS = 10.0

EXHAUSTED = (
    f"Has this been made? It was sent {MOST_CLAIMS} times, and each time its worker ended before it saw the answer; "
    "looks in between showed nothing of it."
)

#: Nothing more is done for these by themselves.
_AT_REST = frozenset(state.value for state in ABSORBING | {OperationState.REVIEW})


@dataclass(frozen=True)
class Follow:
    """What is to be rung for, and in how many seconds."""

    operations: tuple[tuple[int, float], ...] = ()
    payment: tuple[int, float] | None = None


NOTHING = Follow()


class Sender:
    """Brings operations forward for one process.

    Args:
        database: our record.
        gateways: the platform, by merchant.
        settings: leases and intervals.
        traffic: what the platform is asked, when others of this process ask it too.
    """

    def __init__(
        self,
        database: Database,
        gateways: Mapping[str, Gateway],
        settings: Settings,
        traffic: Traffic | None = None,
    ):
        self._database = database
        self._traffic = traffic or Traffic(database, settings)
        self._gateways = gateways
        self._settings = settings
        self._pace = pace_of(settings)
        self._longest_turn = min(LONGEST_TURN_SECONDS, settings.claim_seconds / 2)

    def operation(self, operation_key: int) -> Follow:
        """Do what is next for an operation: accept it, look at its payment, send it, or nothing.

        Raises:
            DatabaseUnavailable: what is next is not known; the row is due.
        """
        self._traffic.refresh()  # not in the transaction, which would wait for a connection of its own
        try:
            with self._database.transaction() as connection:
                step = self._prepare(connection, operation_key)
        except IntegrityError:  # another of the payment was claimed in the same moment: the constraint's word
            return NOTHING
        if not isinstance(step, Claim):
            return step
        with telling(step):
            return self._send(step)

    def _prepare(self, connection: Connection, operation_key: int) -> Claim | Follow:
        chosen = select(Operation.state, Operation.payment_key).where(Operation.operation_key == operation_key)
        row = connection.execute(chosen).one_or_none()
        if row is None or row.state in _AT_REST or row.payment_key is None:
            return NOTHING
        ledger = open_ledger(connection, row.payment_key)
        operation = ledger.operation(operation_key)
        if operation.state in _AT_REST:  # it has ended while its payment's row was waited for
            return NOTHING
        if operation.state == OperationState.REQUESTED:
            return self._accept(connection, ledger)
        if operation.state == OperationState.ACCEPTED:
            advance(connection, ledger, operation, self._pace)
            return self._look(connection, ledger)
        if operation.state == OperationState.PLANNED:
            turn = ledger.next_planned()
            if turn is None or turn.operation_key != operation_key:
                return self._waits(connection, ledger, operation_key)
        elif operation.state == OperationState.SENDING and operation.claimed_until > ledger.payment.at:
            return NOTHING
        return self._next(connection, ledger, operation)

    def _accept(self, connection: Connection, ledger: Ledger) -> Follow:
        """Promise what a young record covers; whatever is to be refused, the payment is looked at first."""
        age = _age(ledger)
        waiting = [one for one in ledger.operations if one.state == OperationState.REQUESTED]
        if age is not None and age <= self._settings.fresh_seconds:
            ledger = accept_requested(connection, ledger)
            waiting = [one for one in ledger.operations if one.state == OperationState.REQUESTED]
        if waiting:
            return self._look(connection, ledger, *waiting)
        return Follow(operations=tuple((key, 0.0) for key in wake(connection, ledger)))

    def _waits(self, connection: Connection, ledger: Ledger, operation_key: int) -> Follow:
        """It is another's turn, and whatever ends that one's wakes this one."""
        later = seconds_from_now(WAITING_SECONDS)
        connection.execute(update(Operation).where(Operation.operation_key == operation_key).values(due_at=later))
        return Follow(operations=tuple((key, 0.0) for key in wake(connection, ledger, operation_key)))

    def _next(self, connection: Connection, ledger: Ledger, operation: Row[Any]) -> Claim | Follow:
        action = advance(connection, ledger, operation, self._pace, operation.reason)
        at = ledger.payment.at
        if isinstance(action, Send) and action.due <= at:
            return self._claim(connection, ledger, operation.operation_key)
        if isinstance(action, Look) and action.due <= at:
            return self._look(connection, ledger, operation)
        if isinstance(action, Send | Look):
            return Follow(operations=((operation.operation_key, (action.due - at).total_seconds()),))
        return self._others(connection, ledger, operation.operation_key)

    def _look(self, connection: Connection, ledger: Ledger, *waiting: Row[Any]) -> Follow:
        """Have the payment looked at; what waits for that look asks again if it does not come."""
        keys = [one.operation_key for one in waiting]
        if keys:
            later = seconds_from_now(WAITING_SECONDS)
            connection.execute(update(Operation).where(Operation.operation_key.in_(keys)).values(due_at=later))
        seconds = want(connection, ledger.payment.payment_key)
        return Follow(payment=None if seconds is None else (ledger.payment.payment_key, seconds))

    def _others(self, connection: Connection, ledger: Ledger, but: int) -> Follow:
        ledger = open_ledger(connection, ledger.payment.payment_key)
        return Follow(operations=tuple((key, 0.0) for key in wake(connection, ledger, but)))

    def _claim(self, connection: Connection, ledger: Ledger, operation_key: int) -> Claim | Follow:
        started, token = time.monotonic(), uuid.uuid4().hex
        chosen = select(Operation.__table__).where(Operation.operation_key == operation_key)
        operation = connection.execute(chosen).one()
        gateway = self._gateways.get(ledger.payment.merchant_id)
        foreign = stranger(connection, {name: one.host for name, one in self._gateways.items()})
        if gateway is None or foreign is not None:
            return self._refrain(connection, operation, foreign or "its merchant is not one of this process's")
        later = self._traffic.put_off(ledger.payment.merchant_id, within=self._longest_turn)
        if later is not None:
            return self._put_off(connection, ledger, operation, later)
        if operation.claims >= MOST_CLAIMS:
            log.error("operation.review", operation_key=operation_key)
            move(connection, operation, OperationState.REVIEW, EXHAUSTED)
            return NOTHING
        order = order_of(gateway, ledger, operation)
        lease = seconds_from_now(self._settings.lease_seconds)
        move(
            connection,
            operation,
            OperationState.SENDING,
            f"attempt {operation.generation}.{operation.claims + 1}",
            idempotence_key=order.idempotence_key,
            request_body=order.body,
            first_sent_at=now() if operation.first_sent_at is None else operation.first_sent_at,
            last_sent_at=now(),
            claim_token=token,
            claimed_until=lease,
            due_at=lease,
            claims=operation.claims + 1,
            rings=0,
        )
        attempt = insert(Attempt).values(
            operation_key=operation_key,
            generation=operation.generation,
            idempotence_key=order.idempotence_key,
            claim_token=token,
            started_at=now(),
        )
        attempt_key = connection.execute(attempt.returning(Attempt.attempt_key)).scalar_one()
        return Claim(operation, ledger.payment.payment_key, attempt_key, token, order, started)

    def _refrain(self, connection: Connection, operation: Row[Any], why: str) -> Follow:
        log.error("sending.refused", operation_key=operation.operation_key, why=why)
        if operation.reason != why:
            note(connection, operation, why)
        values = {"due_at": seconds_from_now(STRANGER_SECONDS), "reason": why}
        connection.execute(update(Operation).where(Operation.operation_key == operation.operation_key).values(**values))
        return NOTHING

    def _put_off(self, connection: Connection, ledger: Ledger, operation: Row[Any], turn: Turn) -> Follow:
        """Until the platform may be asked again, which a look at the payment tries; a planned operation says so."""
        key = operation.operation_key
        values: dict[str, Any] = {"due_at": seconds_from_now(turn.seconds)}
        if operation.state == OperationState.PLANNED:
            values["reason"] = f"the platform is not asked for now: {turn.why}"
        connection.execute(update(Operation).where(Operation.operation_key == key).values(**values))
        look = self._look(connection, ledger) if self._traffic.may_be_tried(ledger.payment.merchant_id) else NOTHING
        return Follow(((key, turn.seconds),), look.payment)

    def _send(self, claim: Claim) -> Follow:
        gateway = self._gateways[claim.operation.merchant_id]
        began = time.monotonic()
        try:
            self._await_turn(claim)
            # Asked again right before it leaves: a process that was paused since it claimed has lost its lease.
            seconds = claim.seconds_left(self._settings)
            if seconds <= 0:
                raise NotSent("nothing left: the claim's time was over before it was sent")
            with self._traffic.asking(claim.operation.merchant_id, claim.payment_key):
                outcome: Outcome = gateway.send(claim.order, seconds=seconds)
        except GatewayError as error:
            outcome = error
        except Exception as error:  # a fault of ours, when the request may have left
            log.error("send.broke", error=type(error).__name__, where=place_of(error))
            outcome = OutcomeUnknown(f"a fault of payhook: {type(error).__name__}")
        milliseconds = int((time.monotonic() - began) * 1000)
        log_answer(claim, outcome, milliseconds)
        metrics.ATTEMPTS.labels(claim.order.kind.value, answer_of(outcome).value).inc()

        def left() -> float:
            return claim.seconds_left(self._settings)

        def write(connection: Connection) -> Follow:
            return self._answered(connection, claim, outcome, milliseconds)

        return write_insistently(self._database, write, left, operation_key=claim.operation.operation_key)

    def _await_turn(self, claim: Claim) -> None:
        """Wait for the operation's turn, with the claim in hand: operations have a lane of their own, a short one.

        Raises:
            NotSent: it would take too long, or the platform is not to be asked.
        """
        turn = self._traffic.operation_turn(claim.operation.merchant_id, within=self._longest_turn)
        if turn.why is not None:
            raise NotSent(f"nothing left: the platform is not asked for now, {turn.why}")
        if turn.seconds > self._longest_turn:
            raise NotSent("nothing left: the merchant's budget of requests is used up")
        time.sleep(turn.seconds)

    def _answered(self, connection: Connection, claim: Claim, outcome: Outcome, milliseconds: int) -> Follow:
        """Complete the attempt; and if the operation is still ours, write what became of it."""
        answer = answer_of(outcome)
        ledger = open_ledger(connection, claim.payment_key)
        operation = ledger.operation(claim.operation.operation_key)
        complete(connection, claim, answer, outcome, milliseconds)
        if operation.claim_token != claim.token:
            log.warning("claim.lost", operation_key=operation.operation_key)
            metrics.CLAIMS_LOST.labels("operation").inc()
            return self._look(connection, ledger)
        release(connection, claim, answer)
        if isinstance(outcome, Movement):
            keep_movement(connection, claim, outcome, is_linked=ledger.movement_of(operation) is not None)
        seconds = want(connection, claim.payment_key)
        ledger = open_ledger(connection, claim.payment_key)
        operation = ledger.operation(claim.operation.operation_key)
        told = outcome.told if isinstance(outcome, GatewayError) else None
        action = advance(connection, ledger, operation, self._pace, told)
        follow = self._others(connection, ledger, operation.operation_key)
        if isinstance(action, Send | Look):
            wait = max((action.due - ledger.payment.at).total_seconds(), 0.0)
            follow = Follow((*follow.operations, (operation.operation_key, wait)))
        if seconds is None:
            return follow
        # Not at once: most of the platform's answers are confirmed by a webhook, which is looked at anyway.
        return Follow(follow.operations, (claim.payment_key, max(seconds, self._settings.gap_seconds)))


def _age(ledger: Ledger) -> float | None:
    """Seconds since the payment was last looked at, None when it never was."""
    payment = ledger.payment
    return None if payment.refreshed_at is None else (payment.at - payment.refreshed_at).total_seconds()


__all__ = ["EXHAUSTED", "NOTHING", "Claim", "Follow", "Sender", "idempotence_key"]
