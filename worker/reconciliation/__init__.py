"""Bring our record of a payment in line with the platform's: claim, look, write, release.

No transaction is open and no connection held while the platform is asked. What should follow is returned, never
rung for here.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import structlog
from sqlalchemy import Connection, Row, update

from worker import journal, metrics
from worker.database import Database, DatabaseUnavailable, now
from worker.gateways.gateway import (
    Gateway,
    GatewayError,
    PaymentUnknown,
    PaymentView,
    Refused,
    TryAgain,
)
from worker.inbox import NOT_OURS
from worker.lifecycle import canonical_payment_id
from worker.logs import place_of
from worker.models import WebhookEvent
from worker.operations import CannotAccept
from worker.policies import Policy
from worker.policies.manual import Manual
from worker.reconciliation import polling, records, turns
from worker.reconciliation.aftermath import bring_forward, refuse_requests
from worker.reconciliation.claims import MOST_CLAIMS, Busy, Claim, claim_for_event, claim_payment, raise_hint
from worker.reconciliation.failing import Verdict, has_money_under_way, judge, times_of
from worker.reconciliation.records import Failed
from worker.reconciliation.telling import telling
from worker.reconciliation.writing import Written, write_insistently
from worker.settings import Settings
from worker.traffic import Traffic, Turn

log = structlog.get_logger("payhook.reconciliation")

STALE = "the platform's answer lacks a movement that it had shown before"
EXHAUSTED = f"claimed {MOST_CLAIMS} times and never finished: the worker died of it or with it each time"


@dataclass(frozen=True)
class Follow:
    """What is to be rung for, and in how many seconds."""

    payment_key: int
    seconds: float | None  # None: the payment itself is not to be rung for
    operation_keys: tuple[int, ...] = ()  # to be rung for now


class Reconciler:
    """Looks at payments for one process.

    Args:
        database: our record.
        gateways: the platform, by merchant.
        settings: leases, gaps and back-offs.
        policies: what is done of our own accord, by merchant; nothing for a merchant that is not there.
        traffic: what the platform is asked, when others of this process ask it too.
    """

    def __init__(
        self,
        database: Database,
        gateways: Mapping[str, Gateway],
        settings: Settings,
        policies: Mapping[str, Sequence[Policy]] = MappingProxyType({}),
        traffic: Traffic | None = None,
    ):
        self._database = database
        self._traffic = traffic or Traffic(database, settings)
        self._gateways = gateways
        self._settings = settings
        self._policies = {name: [one for one in ours if not isinstance(one, Manual)] for name, ours in policies.items()}

    def event(self, event_key: int) -> Follow | None:
        """Look at the payment an event is about, unless it is done, or being looked at."""
        with self._database.transaction() as connection:
            claim = claim_for_event(connection, event_key, frozenset(self._gateways), self._settings)
            if claim is None:
                self._quarantine_stranger(connection, event_key)
        return self._after(claim)

    def payment(self, payment_key: int) -> Follow | None:
        """Look at a payment that is wanted; for any other a ring does nothing."""
        with self._database.transaction() as connection:
            claim = claim_payment(connection, payment_key, self._settings)
        return self._after(claim)

    def _after(self, claim: Claim | Busy | None) -> Follow | None:
        if isinstance(claim, Claim):
            with telling(claim):
                return self._look(claim)
        if claim is None:
            return None
        if claim.exhausted:
            self._park_exhausted(claim.payment)
            return None
        return None if claim.seconds is None else Follow(claim.payment.payment_key, claim.seconds)

    def _look(self, claim: Claim) -> Follow | None:
        payment = claim.payment
        gateway = self._gateways.get(payment.merchant_id)
        try:
            if gateway is None:
                raise Refused(NOT_OURS)
            turn = self._turn(claim)
            if turn.seconds > turns.SOON:
                return self._wait(claim, turn)
            time.sleep(turn.seconds)
            view = self._asked(claim, gateway)
            return self._seen(claim, view)
        except GatewayError as error:
            return self._failed(claim, error)
        except DatabaseUnavailable:
            raise  # what was seen could not be written: the lease ends, and the payment is looked at again
        except Exception as error:  # a fault of ours must cost this payment a back-off, not its claim for a lease
            log.error("look.broke", payment_key=payment.payment_key, error=type(error).__name__, where=place_of(error))
            return self._failed(claim, TryAgain(f"a fault of payhook: {type(error).__name__}"))

    def _turn(self, claim: Claim) -> Turn:
        def for_operation() -> bool:
            with self._database.reading() as connection:
                return turns.serves_operation(connection, claim.payment)

        # A turn that was waited for is not paid for twice; whether the platform is asked at all may have changed since.
        calls = 0 if turns.has_come(claim.payment) else turns.calls_of(claim.payment)
        return self._traffic.turn(claim.payment.merchant_id, calls, for_operation=for_operation)

    def _wait(self, claim: Claim, turn: Turn) -> Follow | None:
        def write(connection: Connection) -> bool:
            return records.wait(connection, claim, turn, self._settings)

        return Follow(claim.payment.payment_key, turn.seconds) if self._write(claim, write) else None

    def _asked(self, claim: Claim, gateway: Gateway) -> PaymentView:
        payment = claim.payment
        with self._traffic.asking(payment.merchant_id, payment.payment_key) as asked:
            view = gateway.look(payment.payment_id, seconds=claim.seconds_left(self._settings))
            asked.more = view.calls - turns.calls_of(payment)
        return view

    def _seen(self, claim: Claim, view: PaymentView) -> Follow | None:
        payment_key = claim.payment.payment_key
        policies = self._policies.get(claim.payment.merchant_id, ())

        def write(connection: Connection) -> tuple[records.Replaced, tuple[int, ...]]:
            replaced = records.replace(connection, claim, view, self._settings)
            return replaced, bring_forward(connection, claim, policies, self._settings)

        try:
            replaced, operation_keys = self._write(claim, write)
        except records.LostClaim:
            log.warning("claim.lost", payment_key=payment_key)
            metrics.CLAIMS_LOST.labels("payment").inc()
            return None
        except records.StaleView:
            return self._stale(claim)
        metrics.LOOKS.labels("reconciled").inc()
        for delay in replaced.delays:
            metrics.EVENT_DELAY_SECONDS.observe(delay)
        log.info("payment.reconciled", state=replaced.state, events=len(claim.events), **replaced.changes)
        if replaced.seconds is None and not operation_keys:
            return None
        return Follow(payment_key, replaced.seconds, operation_keys)

    def _failed(self, claim: Claim, error: GatewayError) -> Follow | None:
        payment, is_answer = claim.payment, isinstance(error, PaymentUnknown | Refused)
        own = not is_answer and self._traffic.own_trouble(payment.merchant_id, payment.payment_key, error)
        verdict = judge(payment, error, own=own, settings=self._settings)
        metrics.LOOKS.labels(metrics.outcome_of(error)).inc()
        kind, times = type(error).__name__, verdict.failed.times
        log.warning("look.failed", payment_key=payment.payment_key, kind=kind, told=error.told, failures=times)
        return self._put_off(claim, verdict)

    def _put_off(self, claim: Claim, verdict: Verdict) -> Follow | None:
        payment, failed = claim.payment, verdict.failed

        def write(connection: Connection) -> float | None:
            seconds = verdict.seconds
            if verdict.under_way_seconds is not None and has_money_under_way(connection, payment):
                seconds = verdict.under_way_seconds
            if seconds is None or verdict.hopeless:
                refuse_requests(connection, payment, failed.problem, token=claim.token)
            if seconds is None:
                return records.park(connection, claim, failed, self._settings)
            return seconds if records.postpone(connection, claim, failed, seconds, self._settings) else None

        later = self._write(claim, write)
        return None if later is None else Follow(payment.payment_key, later)

    def _write(self, claim: Claim, write: Callable[[Connection], Written]) -> Written:
        def left() -> float:
            return claim.seconds_left(self._settings)

        return write_insistently(self._database, write, left, payment_key=claim.payment.payment_key)

    def _stale(self, claim: Claim) -> Follow | None:
        payment = claim.payment
        metrics.LOOKS.labels("stale").inc()
        times = times_of(payment) if payment.problem == STALE else 1
        if times == polling.STALE_LOOKS:
            name, state = journal.payment_name(payment.merchant_id, payment.payment_id), payment.state
            with self._database.transaction() as connection:
                journal.write(connection, "payment", name, before=state, after=state, why=f"{journal.ANOMALY}{STALE}")
        return self._put_off(claim, Verdict(Failed(STALE, times), polling.STALE_RETRY))

    def _park_exhausted(self, payment: Row[Any]) -> None:
        with self._database.transaction() as connection:
            if records.park_exhausted(connection, payment, EXHAUSTED):
                refuse_requests(connection, payment, EXHAUSTED)

    def _quarantine_stranger(self, connection: Connection, event_key: int) -> None:
        connection.execute(
            update(WebhookEvent)
            .where(WebhookEvent.event_key == event_key, WebhookEvent.done_at.is_(None))
            .where(WebhookEvent.merchant_id.not_in(sorted(self._gateways)))
            .values(done_at=now(), outcome="quarantined", due_at=None, problem=NOT_OURS)
        )


def request(
    database: Database,
    merchant_ids: frozenset[str],
    *,
    gap_seconds: float,
    payment_id: object,
    merchant_id: object,
    unknown: Collection[str] = (),
) -> int:
    """Make a payment known and wanted because somebody asks; after this commit the request cannot be lost.

    Args:
        database: our record.
        merchant_ids: our merchants.
        gap_seconds: no payment is fetched twice within it, however often it is asked for.
        payment_id: the payment, in either of the platform's formats.
        merchant_id: whose it is; may be left out when there is one merchant.
        unknown: names of arguments that the request has and that mean nothing here.

    Returns:
        The payment's key, to be rung for.

    Raises:
        CannotAccept: it names no payment of ours; the reason is in the journal.
        DatabaseUnavailable: it is not a row yet; the message must be kept.
    """
    canonical = canonical_payment_id(payment_id) if isinstance(payment_id, str) else None
    if merchant_id is None and len(merchant_ids) == 1:
        (merchant_id,) = merchant_ids
    problem = None
    if canonical is None:
        problem = "payment_id is not a payment's id (digits, perhaps with _ and a number after them)"
    elif merchant_id is None:
        problem = "merchant_id is missing, and there are several merchants"
    elif not isinstance(merchant_id, str) or merchant_id not in merchant_ids:
        problem = "merchant_id is not one of ours"
    elif unknown:
        problem = "it has arguments besides payment_id and merchant_id"
    with database.transaction() as connection:
        if problem is None and canonical is not None:
            return raise_hint(connection, str(merchant_id), canonical, gap_seconds)
        subject = journal.printable(payment_id)
        journal.write(
            connection, "request", subject, before=None, after="refused", why=f"reconcile: {problem}", actor="task"
        )
    raise CannotAccept(problem)
