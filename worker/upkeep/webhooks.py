"""Webhooks that no longer come: a merchant's endpoint is dead when its payments move and no event tells of it.

The usual pause between a merchant's events is learnt from them, a day at a time for a week.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Connection, func, select

from worker.database import now
from worker.models import Payment, WebhookEvent
from worker.settings import Settings
from worker.upkeep.job import Done, Tools

log = structlog.get_logger("payhook.upkeep")

#: How often it is looked at, and how many events one look reads; the next goes on from there at once.
EVERY_SECONDS = 60.0
MOST_EVENTS = 20_000

#: Of the usual pause, a longer one may just be a quiet night.
TIMES_THE_USUAL = 2.0
DAYS = 7

#: An event may come this much later than the change that it tells of: a look can be quicker than a webhook.
LATE = timedelta(minutes=5)


@dataclass
class Watched:
    """What is known of one merchant's webhooks."""

    last: datetime | None = None
    pauses: dict[str, float] = field(default_factory=dict)  # the longest of each day, in seconds
    moved: int = 0
    missed_since: datetime | None = None

    def hear(self, at: datetime) -> None:
        """An event came. The pause that it ends counts as usual only if nothing was missed in it."""
        if self.last is not None and self.missed_since is None:
            day = at.date().isoformat()
            self.pauses[day] = max(self.pauses.get(day, 0.0), (at - self.last).total_seconds())
        self.last = at if self.last is None else max(self.last, at)
        self.missed_since = None

    def forget(self, at: datetime) -> None:
        oldest = (at - timedelta(days=DAYS)).date().isoformat()
        self.pauses = {day: pause for day, pause in self.pauses.items() if day >= oldest}

    @property
    def usual_seconds(self) -> float:
        return max(self.pauses.values(), default=0.0)


def run_once(tools: Tools, state: Mapping[str, Any]) -> Done:
    """Read the events that came since the last run, and say whose webhooks are missed by now."""
    settings = tools.settings
    with tools.database.reading() as connection:
        watched = {name: _read(value) for name, value in state.get("merchants", {}).items()}
        last_key, more = _hear(connection, watched, state.get("last_key"))
        at = connection.execute(select(now())).scalar_one()
        # Not before all are read: the newest event may have come just now.
        for merchant_id in () if more else settings.merchants:
            _judge(connection, merchant_id, watched.setdefault(merchant_id, Watched()), at, settings)
    missed = sum(one.missed_since is not None for one in watched.values())
    return Done(
        seconds=0.0 if more else EVERY_SECONDS,
        counts={"missed": missed},
        state={
            "last_key": last_key,
            "merchants": {name: _written(watched[name]) for name in sorted(watched) if name in settings.merchants},
        },
    )


def _hear(connection: Connection, watched: dict[str, Watched], last_key: int | None) -> tuple[int, bool]:
    if last_key is None:  # an old database: the latest events tell what is usual
        newest = connection.execute(select(func.max(WebhookEvent.event_key))).scalar_one() or 0
        last_key = max(newest - MOST_EVENTS, 0)
    rows = connection.execute(
        select(WebhookEvent.event_key, WebhookEvent.merchant_id, WebhookEvent.received_at)
        .where(WebhookEvent.event_key > last_key, WebhookEvent.merchant_id.is_not(None))
        .order_by(WebhookEvent.event_key)
        .limit(MOST_EVENTS)
    ).all()
    for row in rows:
        watched.setdefault(row.merchant_id, Watched()).hear(row.received_at)
        last_key = row.event_key
    return last_key, len(rows) == MOST_EVENTS


def _judge(connection: Connection, merchant_id: str, one: Watched, at: datetime, settings: Settings) -> None:
    """Whether its webhooks are missed: a pause beyond the usual, in which its payments moved."""
    one.forget(at)
    shortest, longest = settings.webhook_gap_seconds
    patience = min(max(one.usual_seconds * TIMES_THE_USUAL, shortest), longest)
    moved_since = at - timedelta(seconds=longest) if one.last is None else one.last + LATE
    moved, first = connection.execute(
        select(func.count(), func.min(Payment.changed_at)).where(
            Payment.changed_at > moved_since, Payment.merchant_id == merchant_id
        )
    ).one()
    one.moved = moved
    silent_since: datetime | None = one.last or first
    if silent_since is None or moved == 0 or (at - silent_since).total_seconds() <= patience:
        one.missed_since = None
        return
    if one.missed_since is None:
        log.error("webhooks.missed", merchant_id=merchant_id, since=silent_since.isoformat(), payments_moved=moved)
        one.missed_since = silent_since


def _read(value: Mapping[str, Any]) -> Watched:
    return Watched(_time(value["last"]), dict(value["pauses"]), value["moved"], _time(value["missed_since"]))


def _written(one: Watched) -> dict[str, Any]:
    return {
        "last": one.last and one.last.isoformat(),
        "pauses": one.pauses,
        "usual_seconds": one.usual_seconds,
        "moved": one.moved,
        "missed_since": one.missed_since and one.missed_since.isoformat(),
    }


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
