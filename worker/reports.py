"""Read-only questions, for readiness and the command line."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from worker.database import now
from worker.models import SWEEP_FACT, Fact, Payment, WebhookEvent


@dataclass(frozen=True)
class Backlog:
    """What waits to be looked at."""

    events: int  # received and not done
    oldest_seconds: float  # since the oldest of them was received
    payments: int  # with hints unanswered and not parked


def backlog(connection: Connection) -> Backlog:
    """What waits, and for how long; the partial indexes make this cheap however many rows are done."""
    waiting = WebhookEvent.due_at.is_not(None)
    count, oldest, at = connection.execute(
        select(func.count(), func.min(WebhookEvent.received_at), now()).where(waiting)
    ).one()
    wanted = connection.execute(
        select(func.count()).where(Payment.due_at.is_not(None), Payment.wanted > Payment.applied)
    ).scalar_one()
    return Backlog(count, (at - oldest).total_seconds() if oldest else 0.0, wanted)


def seconds_since_sweep(connection: Connection) -> float | None:
    """How long ago a sweep last ran anywhere, None when none ever did."""
    row = connection.execute(select(Fact.value, now().label("at")).where(Fact.name == SWEEP_FACT)).one_or_none()
    if row is None or not row.value:
        return None
    return float((row.at - datetime.fromisoformat(row.value["at"])).total_seconds())
