"""Questions about events: one, and a list of them; never their bodies, which are personal data."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select, text, tuple_

from worker.database import seconds_from_now
from worker.models import Payment, WebhookEvent
from worker.reports.pages import last_key_before, merchants, newest_keys

#: What an event that is not done is called in lists; a done one is called by its outcome.
WAITING = "waiting"

EVENT_STATES = (WAITING, "reconciled", "ignored", "quarantined")

#: An event that waits for longer than this waits for somebody.
STUCK_SECONDS = 120.0

#: A merchant with no more events than this has few: they are quickly gathered, and might be the oldest of all.
FEW = 20_000

_COLUMNS = [column for column in WebhookEvent.__table__.columns if column.name != "body"]

#: As the partial indexes have it, word for word, or SQLite does not use them.
_OPEN = WebhookEvent.due_at.is_not(None)
_SET_ASIDE = text("outcome IN ('ignored', 'quarantined')")


@dataclass(frozen=True)
class WantedEvents:
    """Which events are asked about; what is None asks for any."""

    states: tuple[str, ...] = ()
    payment_id: str | None = None  # canonical
    merchant_id: str | None = None
    reference: str | None = None  # the merchant's, of the payment
    since: datetime | None = None  # received since
    stuck: bool = False  # quarantined, or waiting for longer than usual
    before: int | None = None  # keys below this one
    limit: int = 100

    @property
    def narrows(self) -> bool:
        """Whether it asks for less than everything."""
        return WantedEvents(before=self.before, limit=self.limit) != self


def event(connection: Connection, event_key: int) -> dict[str, Any]:
    """An event: all its columns but the body.

    Raises:
        LookupError: there is none.
    """
    row = connection.execute(select(*_COLUMNS).where(WebhookEvent.event_key == event_key)).one_or_none()
    if row is None:
        raise LookupError(f"there is no event {event_key}")
    return dict(row._mapping)


def body_of_event(connection: Connection, event_key: int) -> bytes | None:
    """The exact bytes in which an event came, an array's with all its events; None when they have been erased."""
    of_event = select(WebhookEvent.body_sha256).where(WebhookEvent.event_key == event_key).scalar_subquery()
    chosen = select(WebhookEvent.body).where(WebhookEvent.body_sha256 == of_event, WebhookEvent.position == 0)
    return connection.execute(chosen).scalar_one_or_none()


def events(connection: Connection, wanted: WantedEvents) -> list[dict[str, Any]]:
    """Events, the newest first."""
    keys = event_keys(connection, wanted)
    chosen = select(*_COLUMNS).where(WebhookEvent.event_key.in_(keys)).order_by(WebhookEvent.event_key.desc())
    return [dict(row._mapping) for row in connection.execute(chosen)]


def event_keys(connection: Connection, wanted: WantedEvents) -> list[int]:
    """The keys of events, the newest first."""
    common, is_few = _common(connection, wanted)
    states = [_in_state(state) for state in wanted.states] or [([], False)]
    if wanted.stuck:
        late = [_OPEN, WebhookEvent.received_at < seconds_from_now(-STUCK_SECONDS)]
        stuck = [(late, True), _in_state("quarantined")]
        states = [([*one, *two], few or fewer) for one, few in states for two, fewer in stuck]
    branches = [([*common, *conditions], is_few or few) for conditions, few in states]
    return newest_keys(connection, WebhookEvent.event_key, branches, before=wanted.before, limit=wanted.limit)


def _in_state(state: str) -> tuple[list[ColumnElement[bool]], bool]:
    if state == WAITING:
        return [_OPEN, WebhookEvent.done_at.is_(None)], True
    conditions: list[Any] = [WebhookEvent.outcome == state]
    return ([*conditions, _SET_ASIDE] if state in ("ignored", "quarantined") else conditions), False


def _common(connection: Connection, wanted: WantedEvents) -> tuple[list[ColumnElement[bool]], bool]:
    """What every event must meet, and whether few do."""
    conditions: list[ColumnElement[bool]] = []
    is_few = wanted.payment_id is not None or wanted.reference is not None
    if wanted.payment_id is not None:
        conditions.append(WebhookEvent.payment_id == wanted.payment_id)
        if wanted.merchant_id is None:  # the index begins with it
            conditions.append(WebhookEvent.merchant_id.in_(merchants(connection, WebhookEvent.merchant_id)))
    if wanted.merchant_id is not None:
        is_few = is_few or _has_few(connection, wanted.merchant_id)
        # Of many, some are among the newest: nothing is to be gathered by the merchant's index, and sorted.
        merchant = WebhookEvent.merchant_id if is_few else WebhookEvent.merchant_id.concat("")
        conditions.append(merchant == wanted.merchant_id)
    if wanted.reference is not None:
        of_reference = select(Payment.merchant_id, Payment.payment_id).where(
            Payment.merchant_reference == wanted.reference
        )
        payments = [tuple(row) for row in connection.execute(of_reference)]
        conditions.append(tuple_(WebhookEvent.merchant_id, WebhookEvent.payment_id).in_(payments))
    if wanted.since is not None:
        last = last_key_before(connection, WebhookEvent.event_key, WebhookEvent.received_at, wanted.since)
        conditions += [WebhookEvent.event_key > last, WebhookEvent.received_at >= wanted.since]
    return conditions, is_few


def _has_few(connection: Connection, merchant_id: str) -> bool:
    some = select(WebhookEvent.merchant_id).where(WebhookEvent.merchant_id == merchant_id).limit(FEW + 1).subquery()
    return connection.execute(select(func.count()).select_from(some)).scalar_one() <= FEW
