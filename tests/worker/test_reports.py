"""What waits, and how long ago anybody swept."""

import hashlib
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from sqlalchemy import insert, select

from worker import reports, rescue
from worker.database import Database, migrate, now
from worker.models import SWEEP_FACT, Fact, Payment, WebhookEvent

numbers = count(1)


@pytest.fixture
def database(database_url: str) -> Any:
    """A migrated database of each kind in turn."""
    migrate(database_url)
    database = Database(database_url, connections=2, seconds=5, revision=None)
    yield database
    database.close()


def receive(database: Database, seconds_ago: float, *, done: bool = False) -> None:
    with database.transaction() as connection:
        at = connection.execute(select(now())).scalar_one()
        received = at - timedelta(seconds=seconds_ago)
        outcome = {"done_at": at, "outcome": "reconciled"} if done else {"due_at": at}
        digest = hashlib.sha256(str(next(numbers)).encode()).digest()
        connection.execute(
            insert(WebhookEvent).values(body=b"{}", body_sha256=digest, key_id="k", received_at=received, **outcome)
        )


def know(database: Database, *, wanted: int, applied: int, due: bool) -> None:
    with database.transaction() as connection:
        connection.execute(
            insert(Payment).values(
                merchant_id="acme",
                payment_id=str(next(numbers)),
                state="pending",
                wanted=wanted,
                applied=applied,
                due_at=now() if due else None,
            )
        )


def test_nothing_waits_in_an_empty_database(database: Database) -> None:
    """No event, no payment, and nothing is old."""
    with database.reading() as connection:
        assert reports.backlog(connection) == reports.Backlog(
            events=0, oldest_seconds=0.0, payments=0, overdue_seconds=0.0
        )


def test_the_backlog_is_what_is_not_done(database: Database) -> None:
    """Events received and not done, by the age of the oldest; payments with hints that nobody has answered."""
    receive(database, 3600, done=True)
    receive(database, 90)
    receive(database, 5)
    know(database, wanted=2, applied=1, due=True)
    know(database, wanted=1, applied=1, due=True)  # waits for a poll only
    know(database, wanted=2, applied=1, due=False)  # parked

    with database.reading() as connection:
        waiting = reports.backlog(connection)

    assert (waiting.events, waiting.payments) == (2, 1)
    assert waiting.oldest_seconds == pytest.approx(90, abs=5)


def test_nobody_has_ever_swept(database: Database) -> None:
    """That is told apart from long ago."""
    with database.reading() as connection:
        assert reports.seconds_since_sweep(connection) is None


def test_how_long_ago_anybody_swept_is_told_by_the_databases_clock(database: Database) -> None:
    """The sign of life is the moment of the last sweep, of whichever worker."""
    with database.transaction() as connection:
        at = connection.execute(select(now())).scalar_one() - timedelta(seconds=42)
        connection.execute(insert(Fact).values(name=SWEEP_FACT, value={"at": at.isoformat()}))

    with database.reading() as connection:
        assert reports.seconds_since_sweep(connection) == pytest.approx(42, abs=5)


def test_a_sign_of_life_without_a_moment_is_none(database: Database) -> None:
    """An empty fact says nothing."""
    with database.transaction() as connection:
        connection.execute(insert(Fact).values(name=SWEEP_FACT))

    with database.reading() as connection:
        assert reports.seconds_since_sweep(connection) is None


def test_a_real_sweep_is_seen(database: Database) -> None:
    """What the sweep leaves is what the report reads."""
    rescue.sweep(database, 10)

    with database.reading() as connection:
        ago = reports.seconds_since_sweep(connection)
    assert ago is not None
    assert 0 <= ago < 5


def test_asking_writes_nothing(database: Database) -> None:
    """A question may be put while another process writes."""
    receive(database, 1)

    with database.transaction() as writing:
        writing.execute(insert(Fact).values(name="x"))
        with database.reading() as connection:
            assert reports.backlog(connection).events == 1
