"""Retention: bodies are erased and finished rows deleted once they are old enough, a page at a time.

What is never touched: an event that is open, and what an array shares with one; an operation, for a request may be
repeated at any time and its (merchant, source, request id) is what tells; the payment, the movements and the attempts
of an operation; a payment that anything is due or wanted of, or that waits for a person; the journal of what is there.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, false, func, or_, select, update
from sqlalchemy.orm import aliased

from worker.database import Database, seconds_from_now
from worker.models import JournalEntry, Movement, Operation, Payment, WebhookEvent
from worker.settings import Settings
from worker.upkeep.job import Done, Tools

#: Rows looked at by one statement.
PAGE = 1000

#: Rows written in one transaction: while it lasts, SQLite takes no webhook. A thousand took 49 ms, two cores busy.
BATCH = 100

#: One run looks at pages for so long; while there are more the next begins soon, else a pass begins every day.
RUN_SECONDS, SOON_SECONDS, PASS_SECONDS = 1.0, 5.0, 86400.0

DAY_SECONDS = 86400.0


@dataclass(frozen=True)
class Part:
    """One kind of what grows old; found by its table's primary key, so that no statement is as long as the table."""

    name: str  # what is counted
    key: Any  # the primary key of its table
    born: Any = None  # rows come in this order, near enough: behind a page of young ones there are only younger

    def since(self, settings: Settings) -> ColumnElement[Any]:
        """The end of what is old; finished rows go after ``keep_rows_days``."""
        return seconds_from_now(-settings.keep_rows_days * DAY_SECONDS)

    def due(self, settings: Settings) -> ColumnElement[bool]:
        """Which rows are old and needed no more."""
        raise NotImplementedError

    def count(self, connection: Connection, keys: list[int]) -> Mapping[str, int]:
        """What goes with these rows."""
        return {self.name: len(keys)}

    def erase(self, connection: Connection, keys: list[int]) -> None:
        """Let go of these rows."""
        connection.execute(delete(self.key.class_).where(self.key.in_(keys)))


_Sibling = aliased(WebhookEvent)

#: The other events of the same body, in an array; it is kept once, with the first.
_OF_THE_SAME_BODY = and_(_Sibling.body_sha256 == WebhookEvent.body_sha256, _Sibling.position != WebhookEvent.position)


class Bodies(Part):
    """Raw bodies hold personal data: those of finished events go first, a quarantined one's too."""

    def since(self, settings: Settings) -> ColumnElement[Any]:
        return seconds_from_now(-settings.keep_bodies_days * DAY_SECONDS)

    def due(self, settings: Settings) -> ColumnElement[bool]:
        # By when it came, not by when it was done: an event that is replayed does not make its body any younger.
        old = WebhookEvent.received_at < self.since(settings)
        shared = exists().where(_OF_THE_SAME_BODY, _Sibling.done_at.is_(None))
        return and_(WebhookEvent.body.is_not(None), WebhookEvent.done_at.is_not(None), old, ~shared)

    def erase(self, connection: Connection, keys: list[int]) -> None:
        if connection.dialect.name == "sqlite":  # else the bytes stay in the file until something is written there
            connection.exec_driver_sql("PRAGMA secure_delete = ON")
        connection.execute(update(WebhookEvent).where(WebhookEvent.event_key.in_(keys)).values(body=None))


class Events(Part):
    """Only its row tells that a delivery was here before: the setting is never below 400 days.

    The rows of an array go together: a new first row among old ones would be an event once more.
    """

    def due(self, settings: Settings) -> ColumnElement[bool]:
        since = self.since(settings)
        needed = exists().where(_OF_THE_SAME_BODY, or_(_Sibling.done_at.is_(None), _Sibling.done_at >= since))
        return and_(WebhookEvent.done_at < since, ~needed)


class Payments(Part):
    """Payments at rest for which we never moved money, with their movements.

    One that an event or a request names again afterwards is new, and looked at as any new one: the platform has the
    final say anyhow.
    """

    def due(self, settings: Settings) -> ColumnElement[bool]:
        return _at_rest(self.since(settings))

    def count(self, connection: Connection, keys: list[int]) -> Mapping[str, int]:
        theirs = select(func.count()).select_from(Movement).where(Movement.payment_key.in_(keys))
        return {self.name: len(keys), "movements": connection.execute(theirs).scalar_one()}

    def erase(self, connection: Connection, keys: list[int]) -> None:
        connection.execute(delete(Movement).where(Movement.payment_key.in_(keys)))
        super().erase(connection, keys)


class Journal(Part):
    """Lines of events, of requests that became no operation, and of payments that are gone or go with this pass.

    Those of operations and keys stay for good: they tell who moved money, and who could speak for a merchant.
    """

    def due(self, settings: Settings) -> ColumnElement[bool]:
        since = self.since(settings)
        # "MERCHANT/123": whatever the merchant is called, a payment's id is the digits at the end. By its two parts,
        # for they have an index.
        merchant = func.rtrim(JournalEntry.subject_id, "0123456789")
        theirs = and_(
            Payment.merchant_id == func.rtrim(merchant, "/"),
            Payment.payment_id == func.substr(JournalEntry.subject_id, func.length(merchant) + 1),
        )
        # Not "a payment that is not at rest": of one that was never looked at SQL can tell neither.
        gone = or_(~exists().where(theirs), exists().where(theirs, _at_rest(since)))
        subject = JournalEntry.subject
        return and_(JournalEntry.at < since, or_(subject.in_(("event", "request")), and_(subject == "payment", gone)))


def _at_rest(since: ColumnElement[Any]) -> ColumnElement[bool]:
    """Payments of which nothing is due or wanted, that nobody holds, and that have not changed since.

    ``has_operations`` is asked for beside the operations themselves: it is in the row that is locked, so that an
    operation which is promised at this very moment is seen.
    """
    return and_(
        Payment.due_at.is_(None),
        Payment.claim_token.is_(None),
        Payment.wanted <= Payment.applied,
        Payment.changed_at < since,
        Payment.refreshed_at < since,
        Payment.has_operations == false(),
        ~exists().where(Operation.payment_key == Payment.payment_key),
    )


#: In this order: what the journal tells of a payment goes after it.
PARTS: tuple[Part, ...] = (
    Bodies("bodies", WebhookEvent.event_key, WebhookEvent.received_at),
    Events("webhook_events", WebhookEvent.event_key, WebhookEvent.received_at),
    Payments("payments", Payment.payment_key),
    Journal("journal", JournalEntry.journal_key, JournalEntry.at),
)
NAMES = tuple(part.name for part in PARTS)

#: Everything that is counted, by the names of the tables but for the bodies.
COUNTED = ("bodies", "webhook_events", "payments", "movements", "journal")


@dataclass(frozen=True)
class Place:
    """How far a pass has come."""

    part: str = NAMES[0]
    after: int = 0  # every row of the part up to this key has been looked at


@dataclass(frozen=True)
class Step:
    """One page of a pass."""

    place: Place
    counts: Mapping[str, int]
    share: float  # of the whole pass, from 0 to 1


def run_once(tools: Tools, state: Mapping[str, Any]) -> Done:
    """The periodic job: as many pages as fit into a second, going on where the last run has stopped."""
    began, counts = time.monotonic(), Counter[str]()
    for step in walk(tools.database, tools.settings, _place_in(state)):
        counts.update(step.counts)
        if time.monotonic() - began > RUN_SECONDS:
            return Done(SOON_SECONDS, +counts, asdict(step.place))
    return Done(PASS_SECONDS, +counts)


def walk(database: Database, settings: Settings, place: Place | None = None, *, dry: bool = False) -> Iterator[Step]:
    """Pass over everything, a page at a time, in short transactions. Any number of passes at once is harmless.

    Args:
        database: where.
        settings: how long what is kept.
        place: where to go on, None from the beginning.
        dry: only count what would go.

    Raises:
        DatabaseUnavailable: no answer in time; what was gone over is done.
    """
    place = place or Place()
    for at in range(NAMES.index(place.part), len(PARTS)):
        part, after = PARTS[at], place.after if NAMES[at] == place.part else 0
        with database.reading() as connection:
            end = connection.execute(select(func.max(part.key))).scalar_one() or 0
        while (last := _end_of_page(database, part, after, end, settings)) is not None:
            due = select(part.key).where(part.key > after, part.key <= last, part.due(settings))
            yield Step(Place(part.name, last), _done(database, part, due, dry=dry), (at + last / end) / len(PARTS))
            after = last


def _end_of_page(database: Database, part: Part, after: int, end: int, settings: Settings) -> int | None:
    """The last key of the next page, None when nothing is left that could be old."""
    page = select(part.key.label("key"), *([] if part.born is None else [part.born.label("born")]))
    rows = page.where(part.key > after, part.key <= end).order_by(part.key).limit(PAGE).subquery()
    young = false() if part.born is None else func.min(rows.c.born) >= part.since(settings)
    with database.reading() as connection:
        last, is_young = connection.execute(select(func.max(rows.c.key), young)).one()
    return None if is_young else last


def _done(database: Database, part: Part, due: Any, *, dry: bool) -> Mapping[str, int]:
    """Erase what is due of one page, but for rows that somebody else is at; or only count it."""
    with database.reading() as connection:
        keys = list(connection.execute(due).scalars())
        if dry or not keys:  # most pages: nothing is locked for them
            return part.count(connection, keys)
    counts = Counter[str]()
    for start in range(0, len(keys), BATCH):
        counts.update(_erase(database, part, due.where(part.key.in_(keys[start : start + BATCH]))))
    return counts


def _erase(database: Database, part: Part, due: Any) -> Mapping[str, int]:
    began = time.monotonic()
    with database.transaction() as connection:
        keys = list(connection.execute(due.with_for_update(skip_locked=True)).scalars())
        counts = part.count(connection, keys)
        part.erase(connection, keys)
    # As long a pause as the lock was held: SQLite's waiters poll, and would hardly ever find it free.
    time.sleep(time.monotonic() - began)
    return counts


def _place_in(state: Mapping[str, Any]) -> Place:
    """Where the last run stopped; the beginning, if another version left something else."""
    part, after = state.get("part"), state.get("after")
    return Place(part, after) if part in NAMES and isinstance(after, int) else Place()
