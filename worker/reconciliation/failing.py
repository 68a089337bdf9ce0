"""What follows from a look that failed: when it is tried again, and when the payment is given up."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, exists, select

from worker.gateways.gateway import CredentialsRefused, GatewayError, PaymentUnknown, Refused
from worker.lifecycle import OperationState
from worker.models import Operation
from worker.reconciliation import polling
from worker.reconciliation.records import Failed
from worker.settings import Settings

#: Failures are counted no further: what follows from them has long been the same.
MOST_COUNTED = 1000

#: Promised, and not known to have ended: looks are what resolves them.
UNDER_WAY = (OperationState.PLANNED, OperationState.SENDING, OperationState.UNKNOWN, OperationState.ACCEPTED)


@dataclass(frozen=True)
class Verdict:
    """What is to be done about a payment whose look gave nothing to record."""

    failed: Failed
    seconds: float | None  # until the next try; None: it is parked
    hopeless: bool = False  # what is asked for the payment is refused, parked or not
    under_way_seconds: float | None = None  # until the next try all the same, as long as an operation is under way


def judge(payment: Row[Any], error: GatewayError, *, own: bool, settings: Settings) -> Verdict:
    """What follows from an error.

    Args:
        payment: as it was claimed.
        error: why there was no usable answer.
        own: whether it is this payment's trouble, and not its platform's.
        settings: the back-offs.
    """
    problem = f"{_SAID.get(type(error), 'the platform gave no answer')}: {error.told}"
    if isinstance(error, Refused):
        return Verdict(Failed(problem, times_of(payment)), None)
    if isinstance(error, PaymentUnknown):
        # The failures of an outage before it are no answers: a replica may lag behind when the platform comes back.
        times = times_of(payment) if (payment.problem or "").startswith(_SAID[PaymentUnknown]) else 1
        seconds = polling.unknown_retry(times)
        return Verdict(Failed(problem, times), seconds, hopeless=times >= polling.REQUESTS_WAIT_FOR)
    times = polling.counted(payment.failures, own=own)
    seconds = polling.retry(times, settings)
    if not own or times < polling.OWN_FAILURES:
        return Verdict(Failed(problem, times), seconds)
    problem += f" ({polling.OWN_FAILURES} times in a row, while other payments were answered for)"
    return Verdict(Failed(problem, times), None, under_way_seconds=seconds)


def times_of(payment: Row[Any]) -> int:
    """How many looks in a row have failed, with the one that just did."""
    return int(min(payment.failures + 1, MOST_COUNTED))


def has_money_under_way(connection: Connection, payment: Row[Any]) -> bool:
    """Whether a promised operation of the payment may still be waiting for what a look tells."""
    if not payment.has_operations:
        return False
    chosen = exists().where(Operation.payment_key == payment.payment_key, Operation.state.in_(UNDER_WAY))
    return bool(connection.execute(select(chosen)).scalar_one())


_SAID: dict[type[GatewayError], str] = {
    PaymentUnknown: "the platform does not know this payment",
    CredentialsRefused: "the platform refuses our credentials (API key, clock or merchant)",
    Refused: "the platform refuses the request",
}
