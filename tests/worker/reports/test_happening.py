"""What happens, read again and again: nothing is missed, nothing told twice."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from tests.worker.conftest import MERCHANT, Deliver, FakePlatform, Paper, body_of
from tests.worker.till import PAYMENT, Till
from worker import inbox, journal
from worker.database import Database, now
from worker.lifecycle import MovementKind
from worker.models import Attempt, WebhookEvent
from worker.replay import Admission, replay
from worker.reports import Happening, Line, happening

OURS = Admission(frozenset([MERCHANT]), {})


def read(database: Database, tail: Happening) -> list[Line]:
    """All that is there to be read."""
    told, more = [], True
    while more:
        with database.reading() as connection:
            lines, more = tail.read(connection)
        told += lines
    return told


def age(database: Database, column: Any, condition: Any) -> None:
    """As if a row had been written two minutes earlier, well before what is read in any case."""
    with database.transaction() as connection:
        key = connection.execute(select(column.parent.primary_key[0], column).where(condition)).one()
        older = update(column.parent.class_).where(column.parent.primary_key[0] == key[0])
        connection.execute(older.values({column: key[1] - timedelta(minutes=2)}))


def words(lines: list[Line]) -> list[tuple[str, str | None, str]]:
    return [(line.what, line.state, line.key) for line in lines]


def test_what_happens_is_told_once_as_it_happens(database: Database, till: Till, deliver: Deliver) -> None:
    """An event's coming, its end, and what changed by it; before the beginning nothing, and nothing again."""
    deliver(PAYMENT)
    tail = Happening()
    assert read(database, tail) == []

    (key,) = deliver(PAYMENT)
    coming = read(database, tail)
    till.reconciler.event(key)
    ends = read(database, tail)

    assert words(coming) == [("event received", "waiting", str(key))]
    assert ("event done", "reconciled", str(key)) in words(ends)
    assert ("payment", "authorised", PAYMENT) in words(ends)
    assert {line.payment_id for line in coming + ends} == {PAYMENT}
    assert len(ends) == 3  # the end of the event that was there before the beginning is told too
    assert read(database, tail) == []


def test_an_operations_steps_and_answers_are_told(database: Database, platform: FakePlatform, till: Till) -> None:
    """Also the answer to a request that was on its way at the beginning."""
    key = int(till.asked(MovementKind.CAPTURE, 400).operation_key)
    tail = Happening()
    told: list[Line] = []

    def begin() -> None:
        age(database, Attempt.started_at, Attempt.finished_at.is_(None))
        told.extend(read(database, tail))

    platform.on_the_way = begin

    till.step(key)
    told += read(database, tail)

    assert ("answered", "done", str(key)) in words(told)
    assert ("operation", "accepted", str(key)) in words(told)
    assert [line.what for line in told].count("answered") == 1
    assert {line.payment_id for line in told} == {PAYMENT}
    assert {line.type for line in told if line.subject == "operation"} == {"capture"}


def test_from_a_moment_on_all_that_happened_since_is_told_in_order(
    database: Database, till: Till, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page by page, however much it is, as well as the end of what had come before it."""
    monkeypatch.setattr(happening, "PAGE", 3)
    (before,) = deliver(PAYMENT)
    with database.reading() as connection:
        since = connection.execute(select(now())).scalar_one() + timedelta(milliseconds=1)
    while True:  # SQLite's clock has milliseconds
        with database.reading() as connection:
            if connection.execute(select(now())).scalar_one() > since:
                break
    till.reconciler.event(before)
    keys = [key for number in range(8) for key in deliver(str(1000 + number))]
    for key in keys:
        till.reconciler.event(key)
    age(database, WebhookEvent.received_at, WebhookEvent.event_key == before)

    told = read(database, Happening(since))

    assert [line.at for line in told] == sorted(line.at for line in told)
    assert sorted(line.key for line in told if line.what == "event received") == sorted(map(str, keys))
    assert sorted(line.key for line in told if line.what == "event done") == sorted(map(str, [before, *keys]))
    assert sum(line.what == "payment" for line in told) == 9


def test_a_row_that_comes_to_light_after_a_later_one_is_told(postgres: Database, deliver: Deliver) -> None:
    """Its key was taken first and committed last."""
    tail = Happening()
    read(postgres, tail)
    slow = postgres.engine.connect()
    journal.write(slow, "payment", "acme/1", before=None, after="captured", why="slow")
    with postgres.transaction() as connection:
        journal.write(connection, "payment", "acme/2", before=None, after="captured", why="quick")

    first = read(postgres, tail)
    slow.commit()
    slow.close()
    second = read(postgres, tail)

    assert [line.detail for line in first] == ["quick"]
    assert [line.detail for line in second] == ["slow"]
    assert read(postgres, tail) == []


def test_what_is_settled_is_not_asked_for_again(database: Database, deliver: Deliver) -> None:
    """A tail that runs for days remembers only the last half minute."""
    tail = Happening()
    read(database, tail)
    deliver(*[PAYMENT, *["payment.captured"] * 4])
    assert len(read(database, tail)) == 4
    with database.transaction() as connection:
        past = connection.execute(select(now())).scalar_one() - timedelta(minutes=1)
        connection.execute(update(WebhookEvent).values(received_at=past))
    tail._events._seen = dict.fromkeys(tail._events._seen, past)

    assert read(database, tail) == []
    assert tail._events._seen == {}
    (key,) = deliver(PAYMENT)
    assert words(read(database, tail)) == [("event received", "waiting", str(key))]


def test_an_event_that_is_replayed_ends_again(
    database: Database, till: Till, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ends are told, each once, and the replay between them; who comes later hears of the last one, once too."""
    tail = Happening()
    read(database, tail)
    (key,) = deliver(PAYMENT)
    till.reconciler.event(key)
    first = read(database, tail)

    replay(database, [key], OURS, gap_seconds=0, why="replayed")
    Paper(database).pass_time()
    till.reconciler.event(key)
    second = read(database, tail)

    assert [line.what for line in first].count("event done") == 1
    assert [(line.what, line.state) for line in second] == [("event", "waiting"), ("event done", "reconciled")]
    monkeypatch.setattr(happening, "PAGE", 1)  # the replay is read long after the event
    assert len(read(database, Happening(first[0].at))) == len(first) - 1 + len(second)


@pytest.mark.timeout(60)
def test_nothing_is_missed_and_nothing_told_twice_while_many_write(postgres: Database) -> None:
    """Eight write at once, some slowly; each event is told exactly once."""
    tail = Happening()
    read(postgres, tail)
    stored: list[int] = []

    def write(writer: int) -> None:
        for number in range(25):
            body = body_of(str(writer), number=1000 * writer + number)
            kept = inbox.keep(postgres, body, "key-1", key_merchant_id=None, merchant_ids=None, ring_seconds=5.0)
            stored.extend(kept.event_keys)
            with postgres.transaction() as connection:
                journal.write(connection, "payment", f"acme/{writer}", before=None, after="captured", why=str(number))
                connection.exec_driver_sql(f"SELECT pg_sleep({writer / 1000})")

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(1, 9)]
    for thread in threads:
        thread.start()
    told: list[Line] = []
    while any(thread.is_alive() for thread in threads):
        told += read(postgres, tail)
    told += read(postgres, tail)

    received = [line.key for line in told if line.what == "event received"]
    changes = [(line.key, line.detail) for line in told if line.what == "payment"]
    assert sorted(received) == sorted(map(str, stored))
    assert len(changes) == len(set(changes)) == 8 * 25
