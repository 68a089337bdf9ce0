"""What happens now: read again and again, so that nothing is missed and nothing told twice."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, select

from worker.database import now
from worker.models import Attempt, JournalEntry, Operation, WebhookEvent
from worker.reports import lines
from worker.reports.lines import Line
from worker.reports.pages import last_key_before
from worker.reports.timeline import EVENT, operations_by_key

#: Rows read of each table at a time.
PAGE = 1000

#: A row's key is taken before it is committed, so a lower key may come to light after a higher one. No transaction
#: lasts longer than 10 s; rows as young as this are asked for again.
OVERLAP = timedelta(seconds=30)

#: Whoever begins with a moment that is over hears also of what had come in so long before, and was done since.
LOOK_BACK = timedelta(hours=1)

#: Endings that are remembered, so that what a replay of an event brings up again is not told again.
REMEMBERED = 100_000


class Happening:
    """What happens from a moment on. Not to be used by several threads.

    Args:
        since: the moment; None for the one at which it is first read.
    """

    def __init__(self, since: datetime | None = None):
        self._since = since
        self._events = _Rows(EVENT, WebhookEvent.event_key, WebhookEvent.received_at)
        self._journal = _Rows(tuple(JournalEntry.__table__.columns), JournalEntry.journal_key, JournalEntry.at)
        self._attempts = _Rows(tuple(Attempt.__table__.columns), Attempt.attempt_key, Attempt.started_at)
        self._open_events: dict[int, None] = {}  # keys whose end is to be told, in the order of asking
        self._open_attempts: dict[int, None] = {}
        self._ended: dict[int, datetime] = {}  # events whose end was told
        self._held: list[Line] = []
        self._begun = False

    def read(self, connection: Connection) -> tuple[list[Line], bool]:
        """What has happened since it was last read, in order of time.

        Returns:
            The lines, and whether there is more to be read at once.
        """
        if not self._begun:
            self._begin(connection)
        at = connection.execute(select(now())).scalar_one()
        sources = (self._journal, self._events, self._attempts)
        journal, events, attempts = (source.fresh(connection, at) for source in sources)
        self._held += self._journalled(connection, journal)
        self._held += self._received(connection, events)
        self._held += self._answered(connection, attempts)
        behind = [source.reached for source in sources if source.reached is not None]
        return self._told(min(behind, default=None)), bool(behind)

    def _told(self, upto: datetime | None) -> list[Line]:
        """What is certain to be next: a table that is read further than another is told no further."""
        told = [line for line in self._held if upto is None or line.at <= upto]
        self._held = [line for line in self._held if upto is not None and line.at > upto]
        return sorted((line for line in told if self._since and line.at >= self._since), key=lambda line: line.at)

    def _begin(self, connection: Connection) -> None:
        at = connection.execute(select(now())).scalar_one()
        looking_back = self._since is not None and self._since < at
        self._since = at if self._since is None else self._since
        for source in (self._events, self._journal, self._attempts):
            source.begin(connection, self._since)
        self._open_events.update(dict.fromkeys(self._waiting(connection)))
        self._open_attempts.update(dict.fromkeys(_under_way(connection, self._attempts.low)))
        if looking_back:
            self._open_events.update(dict.fromkeys(self._done_since(connection, self._since)))
        self._begun = True

    def _waiting(self, connection: Connection) -> list[int]:
        waiting = select(WebhookEvent.event_key).where(WebhookEvent.due_at.is_not(None))
        return list(connection.execute(waiting.where(WebhookEvent.event_key <= self._events.low)).scalars())

    def _done_since(self, connection: Connection, since: datetime) -> list[int]:
        low = last_key_before(connection, WebhookEvent.event_key, WebhookEvent.received_at, since - LOOK_BACK)
        recent = (WebhookEvent.event_key > low) | (WebhookEvent.outcome == "quarantined")
        done = select(WebhookEvent.event_key).where(recent, WebhookEvent.done_at >= since)
        return list(connection.execute(done.where(WebhookEvent.event_key <= self._events.low)).scalars())

    def _received(self, connection: Connection, rows: list[Row[Any]]) -> list[Line]:
        told = [lines.event_received(row) for row in rows]
        self._open_events.update(dict.fromkeys(row.event_key for row in rows))
        # A page of them, and those not asked about next time: of a backlog's ends none is missed, they are told later.
        chosen = select(*EVENT).where(WebhookEvent.event_key.in_(_turn(self._open_events, 4 * PAGE)))
        for row in connection.execute(chosen.where(WebhookEvent.done_at.is_not(None))):
            del self._open_events[row.event_key]
            if self._ended.get(row.event_key) != row.done_at:
                self._ended[row.event_key] = row.done_at
                told.append(lines.event_done(row))
        for key in list(self._ended)[:-REMEMBERED]:
            del self._ended[key]
        return told

    def _journalled(self, connection: Connection, rows: list[Row[Any]]) -> list[Line]:
        operations = operations_by_key(connection, {int(row.subject_id) for row in rows if row.subject == "operation"})
        told = []
        for row in rows:
            operation = operations.get(int(row.subject_id)) if row.subject == "operation" else None
            told.append(lines.journalled(row, operation))
            if row.subject == "event":  # replayed: it has an end again
                self._open_events[int(row.subject_id)] = None
        return told

    def _answered(self, connection: Connection, rows: list[Row[Any]]) -> list[Line]:
        self._open_attempts.update(dict.fromkeys(row.attempt_key for row in rows))
        chosen = select(Attempt.__table__).where(Attempt.attempt_key.in_(_turn(self._open_attempts, 4 * PAGE)))
        answered = connection.execute(chosen.where(Attempt.finished_at.is_not(None))).all()
        operations = operations_by_key(connection, {row.operation_key for row in answered})
        for row in answered:
            del self._open_attempts[row.attempt_key]
        return [lines.attempt_answered(row, operations[row.operation_key]) for row in answered]


class _Rows:
    """The rows of one table as they come."""

    def __init__(self, columns: Iterable[Any], key: Any, at: Any):
        self._columns, self._key, self._at = tuple(columns), key, at
        self._seen: dict[int, datetime] = {}  # keys above the low one
        self.low = 0  # up to here everything was read
        self.reached: datetime | None = None  # so far it is read, None when there is nothing more

    def begin(self, connection: Connection, since: datetime) -> None:
        """Leave out what is older for certain."""
        self.low = last_key_before(connection, self._key, self._at, since)

    def fresh(self, connection: Connection, at: datetime) -> list[Row[Any]]:
        """Rows that were not read before, a page at most."""
        found = list(self._unseen(connection))
        chosen = select(*self._columns).where(self._key.in_(found)).order_by(self._key)
        rows = list(connection.execute(chosen)) if found else []
        for row in rows:
            self._seen[row._mapping[self._key.key]] = row._mapping[self._at.key]
        self.reached = rows[-1]._mapping[self._at.key] if len(found) == PAGE else None
        self._settle(at - OVERLAP)
        return rows

    def _unseen(self, connection: Connection) -> list[int]:
        found: list[int] = []
        after = self.low
        while len(found) < PAGE:
            page = connection.execute(
                select(self._key).where(self._key > after).order_by(self._key).limit(PAGE)
            ).scalars()
            keys = list(page)
            found += [key for key in keys if key not in self._seen]
            if len(keys) < PAGE:
                break
            after = keys[-1]
        return found[:PAGE]

    def _settle(self, before: datetime) -> None:
        """Ask no more for what is so old that no lower key can come any more."""
        settled = [key for key, at in self._seen.items() if at < before]
        if settled:
            self.low = max(settled)
            self._seen = {key: at for key, at in self._seen.items() if key > self.low}


def _under_way(connection: Connection, upto: int) -> list[int]:
    """Attempts without an answer so far."""
    sending = select(Operation.operation_key).where(Operation.state.in_(["sending", "unknown"]))
    chosen = select(Attempt.attempt_key).where(Attempt.operation_key.in_(sending), Attempt.finished_at.is_(None))
    return list(connection.execute(chosen.where(Attempt.attempt_key <= upto)).scalars())


def _turn(waiting: dict[int, None], most: int) -> list[int]:
    """The first of those that wait, who go to the end of the line."""
    keys = list(waiting)[:most]
    for key in keys:
        del waiting[key]
    waiting.update(dict.fromkeys(keys))
    return keys
