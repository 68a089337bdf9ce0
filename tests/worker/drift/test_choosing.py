"""Payments are chosen by what is asked for, and drawn by lot where a sample is."""

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select

from worker.database import Database, now, seconds_from_now
from worker.drift import Wanted, at_rest, choose
from worker.models import Payment

OURS = ["acme"]


def store(database: Database, count: int, *, start: int = 1, **values: Any) -> list[int]:
    """Captured payments of ours at rest, unless said otherwise; their keys."""
    usual = {"merchant_id": "acme", "state": "captured", "status_code": 9, "refreshed_at": now(), "changed_at": now()}
    keys = list(range(start, start + count))
    with database.transaction() as connection:
        rows = [{"payment_key": key, "payment_id": str(key)} for key in keys]
        connection.execute(insert(Payment).values(**{**usual, **values}), rows)
    return keys


def test_every_payment_of_ours_the_longest_unseen_first(database: Database) -> None:
    """One never looked at before all others; a merchant that is not ours is left out; each costs what a look does."""
    fresh = store(database, 2)
    old = store(database, 1, start=11, refreshed_at=seconds_from_now(-3600))
    never = store(database, 1, start=21, refreshed_at=None, state="created")
    store(database, 3, start=31, merchant_id="another")

    with database.reading() as connection:
        chosen = choose(connection, Wanted(OURS))

    assert chosen.payment_keys == (*never, *old, *fresh)
    assert chosen.calls == {"acme": 4 * 4}


def test_those_that_changed_since_and_one_by_its_id(database: Database) -> None:
    """By when something of them changed, not by when they were looked at."""
    store(database, 2, changed_at=seconds_from_now(-7200))
    lately = store(database, 2, start=11)
    with database.reading() as connection:
        since = connection.execute(select(now())).scalar_one() - timedelta(hours=1)

        assert choose(connection, Wanted(OURS, since=since)).payment_keys == tuple(lately)
        assert choose(connection, Wanted(OURS, payment_id="12")).payment_keys == (12,)
        assert choose(connection, Wanted(OURS, payment_id="99")).payment_keys == ()


@pytest.mark.parametrize("sample", [1, 550, 5000])
def test_a_sample_has_the_size_that_was_asked_for(database: Database, sample: int) -> None:
    """Or all there are; nobody twice."""
    keys = store(database, 600)

    with database.reading() as connection:
        chosen = choose(connection, Wanted(OURS, sample=sample)).payment_keys

    assert len(chosen) == len(set(chosen)) == min(sample, 600)
    assert set(chosen) <= set(keys)


def test_few_among_many_are_found(database: Database) -> None:
    """Where lots find too few, all there are are read."""
    store(database, 50, merchant_id="another")
    few = store(database, 5, start=9_000_001)

    with database.reading() as connection:
        assert set(choose(connection, Wanted(OURS, sample=3)).payment_keys) <= set(few)
        assert sorted(at_rest(connection, OURS, 50)) == few


def test_each_is_as_likely_as_any_other(sqlite: Database) -> None:
    """Whatever gaps there are between the keys."""
    store(sqlite, 50)
    store(sqlite, 50, start=900)
    drawn = Counter[int]()

    with sqlite.reading() as connection:
        for _ in range(150):
            drawn.update(choose(connection, Wanted(OURS, sample=10)).payment_keys)

    assert len(drawn) == 100
    assert max(drawn.values()) < 40  # 15 of 150, give or take six times the usual chance


def test_a_sample_reads_no_more_than_it_must(postgres: Database, statements: list[str]) -> None:
    """One statement finds the ends, and one or two the keys: never the whole table."""
    store(postgres, 500)
    statements.clear()

    with postgres.reading() as connection:
        at_rest(connection, OURS, 20)

    assert len(statements) <= 3, statements


@pytest.mark.parametrize(
    "values",
    [
        {"due_at": seconds_from_now(60)},
        {"wanted": 2, "applied": 1},
        {"refreshed_at": None},
        {"merchant_id": "another"},
    ],
    ids=["is polled", "waits for a look", "was never seen", "is not ours"],
)
def test_only_what_rests_is_at_rest(database: Database, values: dict[str, Any]) -> None:
    """Somebody looks at all others, sooner or later."""
    resting = store(database, 3)
    store(database, 3, start=11, **values)

    with database.reading() as connection:
        assert sorted(at_rest(connection, OURS, 50)) == resting


def test_nothing_is_drawn_from_nothing(database: Database) -> None:
    """An empty database is no error, and neither is a sample of none."""
    with database.reading() as connection:
        assert at_rest(connection, OURS, 50) == []
        assert choose(connection, Wanted(OURS, sample=5)).payment_keys == ()
    store(database, 3)
    with database.reading() as connection:
        assert at_rest(connection, OURS, 0) == []
