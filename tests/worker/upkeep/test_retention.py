"""Retention: what is old and finished goes, what tells a repetition from something new stays."""

import contextlib
import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as tried
from sqlalchemy import Connection, delete, event, func, insert, null, select, update

from tests.worker.conftest import MERCHANT, Deliver, FakePlatform, Paper, moved, settings_of, view_of
from worker import inbox, journal, operations
from worker.database import Database, seconds_from_now
from worker.lifecycle import MovementKind
from worker.models import Base, JournalEntry, Movement, Operation, Payment, WebhookEvent
from worker.operations.requests import make_known
from worker.reconciliation import Reconciler
from worker.settings import Settings
from worker.traffic import Traffic
from worker.upkeep import Done, Tools, retention

PAYMENT = "3254564310"
OURS = frozenset([MERCHANT])

#: Older than anything is kept, in days.
LONG_AGO = 1000.0


def days_ago(days: float) -> Any:
    return seconds_from_now(-days * 86400.0)


class Attic:
    """A record of which parts can be made old, and what retention leaves of it."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.database, self.settings = database, settings
        self.tools = Tools(database, {}, settings, Traffic(database, settings))

    def clear(self) -> Counter[str]:
        """All that is due; what went, without what did not."""
        counts = Counter[str]()
        for step in retention.walk(self.database, self.settings):
            counts.update(step.counts)
        return +counts

    def would_clear(self) -> Counter[str]:
        counts = Counter[str]()
        for step in retention.walk(self.database, self.settings, dry=True):
            counts.update(step.counts)
        return +counts

    def do(self, statement: Any) -> None:
        with self.database.transaction() as connection:
            connection.execute(statement)

    def finish(self, days: float, *event_keys: int, outcome: str = "reconciled") -> None:
        """As if these events had come, and been finished, so long ago."""
        values = {"received_at": days_ago(days), "done_at": days_ago(days), "due_at": null(), "outcome": outcome}
        self.do(update(WebhookEvent).where(WebhookEvent.event_key.in_(event_keys)).values(**values))

    def leave(self, days: float, **values: Any) -> None:
        """As if nothing had happened to any payment for so long, but for what is said."""
        rest = {"due_at": None, "changed_at": days_ago(days), "refreshed_at": days_ago(days)}
        self.do(update(Payment).values(**rest))
        self.do(update(JournalEntry).values(at=days_ago(days)))
        if values:
            self.do(update(Payment).values(**values))

    def count(self, table: Any) -> int:
        with self.database.reading() as connection:
            return int(connection.execute(select(func.count()).select_from(table)).scalar_one())

    def everything(self) -> dict[str, list[Any]]:
        with self.database.reading() as connection:
            return {
                table.name: sorted(map(tuple, connection.execute(select(table))), key=lambda row: int(row[0]))
                for table in Base.metadata.sorted_tables
            }

    def subjects(self) -> list[str]:
        with self.database.reading() as connection:
            return sorted(connection.execute(select(JournalEntry.subject)).scalars())


@pytest.fixture
def attic(database: Database, settings: Settings) -> Attic:
    return Attic(database, settings)


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few rows take several pages and transactions."""
    monkeypatch.setattr(retention, "PAGE", 4)
    monkeypatch.setattr(retention, "BATCH", 3)
    monkeypatch.setattr(retention, "RUN_SECONDS", 60.0)


def keep(database: Database, body: bytes) -> list[int]:
    return inbox.keep(database, body, "key-1", key_merchant_id=None, merchant_ids=None, ring_seconds=5.0).due


def array_of(*payment_ids: str, number: int = 1) -> bytes:
    """A body of several events."""
    events = [
        {
            "apiVersion": "v1",
            "id": f"event-{number}-{at}",
            "merchantId": MERCHANT,
            "type": "payment.captured",
            "payment": {"id": f"{payment_id}_0"},
        }
        for at, payment_id in enumerate(payment_ids)
    ]
    return json.dumps(events if len(events) > 1 else events[0]).encode()


def ask(database: Database, request_id: str) -> int:
    """A request for a capture; its operation's key."""
    wanted = {"payment_id": PAYMENT, "request_id": request_id, "source": "shop", "amount": 300, "currency": "EUR"}
    return int(operations.request(database, MovementKind.CAPTURE, wanted, OURS, unnamed="x").operation_key)


@pytest.mark.parametrize("outcome", ["reconciled", "ignored", "quarantined"])
def test_the_body_goes_and_the_facts_stay(attic: Attic, deliver: Deliver, paper: Paper, outcome: str) -> None:
    """Of a quarantined event too, for it is personal data; only the body of what is younger is kept."""
    old, young = deliver(PAYMENT) + deliver(PAYMENT)
    attic.finish(91, old, outcome=outcome)
    attic.finish(89, young, outcome=outcome)
    before = paper.event(old)._asdict()

    went = attic.clear()

    assert went == {"bodies": 1}
    assert paper.event(old)._asdict() == {**before, "body": None}
    assert paper.event(young).body is not None


def test_an_event_that_is_replayed_makes_its_body_no_younger(attic: Attic, deliver: Deliver, paper: Paper) -> None:
    """It counts from when it came: whoever replays an event each month would keep personal data for good."""
    (event_key,) = deliver(PAYMENT)
    attic.finish(91, event_key)
    attic.do(update(WebhookEvent).values(done_at=days_ago(1)))

    went = attic.clear()

    assert went == {"bodies": 1}
    assert paper.event(event_key).body is None


def test_an_open_event_keeps_everything(attic: Attic, deliver: Deliver, paper: Paper) -> None:
    """However long nobody could finish it."""
    (key,) = deliver(PAYMENT)
    attic.do(update(WebhookEvent).values(received_at=days_ago(LONG_AGO), due_at=None))

    assert attic.clear() == {}
    assert paper.event(key).body is not None


def test_an_array_shares_its_body(attic: Attic, paper: Paper) -> None:
    """It is kept once, at position 0: as long as one event of the array is open, the body and all its rows stay."""
    first, second = keep(attic.database, array_of(PAYMENT, "3254564311"))
    attic.finish(LONG_AGO, first)
    attic.do(update(WebhookEvent).where(WebhookEvent.event_key == second).values(received_at=days_ago(LONG_AGO)))

    while_open = attic.clear()
    body = paper.event(first).body
    attic.finish(100, second)
    when_done = attic.clear()
    rows = paper.events()
    attic.finish(LONG_AGO, second)
    when_old = attic.clear()

    assert while_open == {}
    assert body is not None
    assert when_done == {"bodies": 1}
    assert [row.position for row in rows] == [0, 1]
    assert when_old == {"webhook_events": 2}


def test_a_redelivery_after_the_body_was_erased_is_a_duplicate(attic: Attic, paper: Paper) -> None:
    """The hash tells, for as long as the row is there; the body is not stored again."""
    body = array_of(PAYMENT)
    (key,) = keep(attic.database, body)
    attic.finish(399, key)
    assert attic.clear() == {"bodies": 1}

    rung = keep(attic.database, body)

    (row,) = paper.events()
    assert (rung, row.event_key, row.deliveries, row.body) == ([], key, 2, None)
    assert row.done_at is not None


def test_what_comes_again_after_its_row_is_gone_is_looked_at_anew(
    attic: Attic, reconciler: Reconciler, platform: FakePlatform, paper: Paper
) -> None:
    """Event, payment and movements come back, and the record is the platform's again: it costs a look."""
    platform.truth[PAYMENT] = view_of(PAYMENT, moved(f"{PAYMENT}_1", MovementKind.CAPTURE, 1000), code=9, acquired=1000)
    body = array_of(PAYMENT)
    (key,) = keep(attic.database, body)
    reconciler.event(key)
    before = paper.payment(PAYMENT)
    attic.finish(LONG_AGO, key)
    attic.leave(LONG_AGO)
    went = attic.clear()

    (again,) = keep(attic.database, body)
    reconciler.event(again)

    assert went == {"bodies": 1, "webhook_events": 1, "payments": 1, "movements": 1, "journal": 1}
    after = paper.payment(PAYMENT)
    assert (after.state, after.amount_captured) == (before.state, before.amount_captured) == ("captured", 1000)
    assert attic.count(Movement) == 1


@pytest.mark.parametrize("state", ["planned", "unknown", "review", "succeeded", "refused", "withdrawn"])
def test_a_request_that_is_repeated_is_the_same_operation_for_ever(
    attic: Attic, reconciler: Reconciler, deliver: Deliver, state: str
) -> None:
    """Neither it nor its payment nor their journal is ever deleted, whether it is open or ended."""
    (event_key,) = deliver(PAYMENT)
    reconciler.event(event_key)
    key = ask(attic.database, "order-7")
    attic.do(update(Operation).values(state=state, created_at=days_ago(LONG_AGO), due_at=None))
    attic.leave(LONG_AGO, wanted=Payment.applied)
    before = attic.everything()

    went = attic.clear()

    after = attic.everything()
    assert went == {}
    assert [after[name] for name in ("operations", "payments", "journal")] == [
        before[name] for name in ("operations", "payments", "journal")
    ]
    assert ask(attic.database, "order-7") == key
    assert attic.count(Operation) == 1


@pytest.mark.parametrize(
    "values",
    [
        {"due_at": days_ago(-1.0)},
        {"due_at": days_ago(LONG_AGO)},
        {"claim_token": "somebody"},
        {"wanted": Payment.applied + 1},
        {"changed_at": days_ago(399)},
        {"refreshed_at": days_ago(399)},
        {"changed_at": None},
        {"has_operations": True},
    ],
    ids=["due", "overdue", "claimed", "wanted", "changed", "refreshed", "never changed", "promised"],
)
def test_a_payment_that_is_not_at_rest_stays(
    attic: Attic, reconciler: Reconciler, deliver: Deliver, values: dict[str, Any]
) -> None:
    """With all that is told of it, however old."""
    (event_key,) = deliver(PAYMENT)
    reconciler.event(event_key)
    attic.leave(LONG_AGO, **values)

    assert attic.clear() == {}
    assert (attic.count(Payment), attic.subjects()) == (1, ["payment"])


def test_young_lines_of_the_journal_stay(attic: Attic, database: Database) -> None:
    """Of events, requests and payments that are gone too, for as long as any finished row is kept."""
    with database.transaction() as connection:
        for subject, name in (("event", "1"), ("request", "r-1"), ("payment", f"{MERCHANT}/999")):
            for days in (399, 401):
                journal.write(connection, subject, name, before=None, after=str(days), why="test")
                line = select(func.max(JournalEntry.journal_key)).scalar_subquery()
                connection.execute(
                    update(JournalEntry).where(JournalEntry.journal_key == line).values(at=days_ago(days))
                )

    went = attic.clear()

    assert went == {"journal": 3}
    with database.reading() as connection:
        assert set(connection.execute(select(JournalEntry.to_state)).scalars()) == {"399"}


def test_the_journal_of_what_is_there_stays(attic: Attic, reconciler: Reconciler, deliver: Deliver) -> None:
    """Of events, requests and payments that are gone the old lines go; of operations, keys and others none."""
    (event_key,) = deliver(PAYMENT)
    reconciler.event(event_key)
    attic.leave(1)
    told = {"before": None, "after": "x", "why": "x"}
    with attic.database.transaction() as connection:
        for subject, subject_id in [
            ("event", "1"),
            ("request", "shop/"),
            ("payment", f"{MERCHANT}/9{PAYMENT}"),
            ("payment", f"other/{PAYMENT}"),
            ("operation", "1"),
            ("key", "key-1"),
            ("fingerprint", "fingerprint"),
        ]:
            journal.write(connection, subject, subject_id, **told)

    young = attic.clear()
    attic.do(update(JournalEntry).values(at=days_ago(401)))
    old = attic.clear()

    assert (young, old) == ({}, {"journal": 4})
    assert attic.subjects() == ["fingerprint", "key", "operation", "payment"]


def test_an_operation_promised_at_this_very_moment_keeps_its_payment(
    postgres: Database, settings: Settings, platform: FakePlatform
) -> None:
    """While its transaction is open the payment is passed over, and no longer at rest when that is committed."""
    attic = Attic(postgres, settings)
    make_old_payments(attic, 2)

    with postgres.transaction() as connection:
        make_known(connection, MERCHANT, "1000000001")
        meanwhile = attic.clear()
    afterwards = attic.clear()

    assert (meanwhile, afterwards) == ({"payments": 1}, {})
    assert [payment.payment_id for payment in Paper(postgres).payments()] == ["1000000001"]


def make_old_payments(attic: Attic, count: int) -> None:
    old = {"changed_at": days_ago(LONG_AGO), "refreshed_at": days_ago(LONG_AGO)}
    new = insert(Payment).values(merchant_id=MERCHANT, state="cancelled", **old)
    with attic.database.transaction() as connection:
        connection.execute(new, [{"payment_id": str(1_000_000_000 + number)} for number in range(count)])


def make_old_events(attic: Attic, count: int) -> None:
    for number in range(count):
        keep(attic.database, array_of(str(2_000_000_000 + number), number=number))
    with attic.database.reading() as connection:
        keys = connection.execute(select(WebhookEvent.event_key)).scalars().all()
    attic.finish(LONG_AGO, *keys)


ALL_OF_IT = {"bodies": 20, "webhook_events": 20, "payments": 20}


@pytest.mark.usefixtures("small_pages")
def test_a_dry_run_counts_what_a_run_does(attic: Attic) -> None:
    """To the row, movements and journal lines of payments that would go too; nothing is changed by it."""
    make_old_events(attic, 20)
    make_old_payments(attic, 20)
    with attic.database.transaction() as connection:
        tell_of_payments(connection)
    before = attic.everything()

    would_go = attic.would_clear()
    between = attic.everything()
    went = attic.clear()

    assert would_go == went == {**ALL_OF_IT, "movements": 20, "journal": 20}
    assert between == before
    assert attic.would_clear() == {}


def tell_of_payments(connection: Connection) -> None:
    """A movement and an old line of each payment."""
    at = days_ago(LONG_AGO)
    for payment in connection.execute(select(Payment.payment_key, Payment.payment_id)).all():
        capture = {"kind": "capture", "state": "done", "amount": 1, "currency": "EUR"}
        seen = {"payment_key": payment.payment_key, "first_seen_at": at, "last_seen_at": at}
        theirs = {"merchant_id": MERCHANT, "platform_operation_id": f"{payment.payment_id}_1"}
        connection.execute(insert(Movement).values(**capture, **seen, **theirs))
        journal.write(connection, "payment", f"{MERCHANT}/{payment.payment_id}", before=None, after="captured", why="x")
    connection.execute(update(JournalEntry).values(at=at))


@pytest.mark.usefixtures("small_pages")
def test_two_workers_at_once_do_each_row_once(attic: Attic) -> None:
    """Neither waits for the other's rows, and what both say they did is what there was."""
    make_old_events(attic, 20)
    make_old_payments(attic, 20)
    together = threading.Barrier(2)

    def work() -> Counter[str]:
        together.wait(20)
        return attic.clear()

    with ThreadPoolExecutor(2) as pool:
        one, other = [future.result(60) for future in [pool.submit(work), pool.submit(work)]]

    assert one + other + attic.clear() == ALL_OF_IT
    assert (attic.count(WebhookEvent), attic.count(Payment)) == (0, 0)


def test_a_row_that_is_held_is_passed_over(postgres: Database, settings: Settings) -> None:
    """Retention waits for nobody: the next pass takes what this one could not."""
    attic = Attic(postgres, settings)
    make_old_payments(attic, 3)

    with postgres.transaction() as connection:
        connection.execute(select(Payment.payment_key).where(Payment.payment_id == "1000000001").with_for_update())
        held = attic.clear()
    free = attic.clear()

    assert (held, free) == ({"payments": 2}, {"payments": 1})


@pytest.mark.usefixtures("small_pages")
def test_a_run_is_short_and_the_next_goes_on(attic: Attic, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page a run here: soon again while there is more, once a day when there is not; no page is looked at twice."""
    monkeypatch.setattr(retention, "RUN_SECONDS", 0.0)
    make_old_events(attic, 20)
    make_old_payments(attic, 20)

    runs, counts = list[Done](), Counter[str]()
    while not runs or runs[-1].seconds < 60:
        runs.append(retention.run_once(attic.tools, json.loads(json.dumps(dict(runs[-1].state if runs else {})))))
        counts.update(runs[-1].counts)

    assert +counts == ALL_OF_IT
    assert all(sum(run.counts.values()) <= 4 for run in runs)
    assert len(runs) == 3 * 5 + 1
    assert (runs[-1].seconds, runs[-1].state) == (86400.0, {})


@pytest.mark.usefixtures("small_pages")
def test_a_run_that_is_cut_off_goes_on_where_it_was(attic: Attic, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was committed is done; the same place again finds nothing there, and the rest goes."""
    make_old_events(attic, 20)
    make_old_payments(attic, 20)
    erase: Callable[..., Any] = retention._erase
    batches = []

    class Killed(BaseException):
        """As SIGKILL would end it."""

    def cut_off(*given: Any) -> Any:
        if len(batches) == 5:
            raise Killed
        batches.append(erase(*given))
        return batches[-1]

    monkeypatch.setattr(retention, "_erase", cut_off)
    with pytest.raises(Killed):
        retention.run_once(attic.tools, {"part": "bodies", "after": 0})
    monkeypatch.setattr(retention, "_erase", erase)

    done = retention.run_once(attic.tools, {"part": "bodies", "after": 0})

    assert sum(map(Counter, batches), Counter[str]()) == {"bodies": 11}
    assert +Counter(done.counts) == {**ALL_OF_IT, "bodies": 9}
    assert attic.everything()["webhook_events"] == []


@pytest.mark.parametrize("state", [{}, {"part": "attempts", "after": 7}, {"part": "journal"}, {"after": "x"}])
def test_what_another_version_left_is_a_new_beginning(attic: Attic, state: dict[str, Any]) -> None:
    """Nothing is lost by it, nor passed over."""
    make_old_payments(attic, 2)

    assert retention.run_once(attic.tools, state).counts == {"payments": 2}


@pytest.mark.usefixtures("small_pages")
def test_the_young_end_of_a_table_is_not_walked(attic: Attic, statements: list[str], deliver: Deliver) -> None:
    """Events come in the order of their keys: behind a page of young ones nobody looks."""
    for _ in range(40):
        deliver(PAYMENT)
    statements.clear()

    assert attic.clear() == {}
    assert [statement for statement in statements if statement.startswith("SELECT webhook_events")] == []
    assert len([statement for statement in statements if statement.startswith("SELECT max(")]) == 8


def test_nothing_of_a_body_is_left_in_the_file(sqlite: Database, settings: Settings, tmp_path: Path) -> None:
    """On SQLite erased bytes are overwritten, not only let go of; and no table holds them."""
    # Debian builds SQLite so that it overwrites by itself; others do not.
    event.listen(sqlite.engine, "connect", lambda connection, _: connection.execute("PRAGMA secure_delete = OFF"))
    attic = Attic(sqlite, settings)
    canary = b"Anna Muster, Hauptstrasse 1"
    bodies = [json.dumps({"name": canary.decode() + "x" * size, "number": size}).encode() for size in (0, 9000)]
    for body in bodies:
        keep(sqlite, body)
    attic.finish(91, 1, 2, outcome="quarantined")
    file = tmp_path / "payhook.db"

    def found() -> int:
        with contextlib.closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return file.read_bytes().count(canary)

    before, went, after = found(), attic.clear(), found()

    assert (before, went, after) == (2, {"bodies": 2}, 0)
    assert canary.decode() not in str(attic.everything())


AGES = st.sampled_from([0.0, 89.0, 91.0, 399.0, 401.0, LONG_AGO])


@tried(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    arrays=st.lists(st.lists(st.tuples(AGES, st.booleans()), min_size=1, max_size=3), max_size=6),
    asked=st.lists(st.tuples(AGES, st.sampled_from(["planned", "accepted", "succeeded", "refused"])), max_size=3),
    page=st.integers(1, 5),
    passes=st.integers(1, 2),
)
def test_whatever_goes_every_repetition_is_known(
    sqlite: Database, arrays: list[list[tuple[float, bool]]], asked: list[tuple[float, str]], page: int, passes: int
) -> None:
    """A body with a row that is open, or done within 400 days, is a duplicate; a request is its operation always."""
    attic = Attic(sqlite, settings_of())
    for table in reversed(Base.metadata.sorted_tables):
        attic.do(delete(table))
    arrays.sort(key=lambda array: -max(age for age, _ in array))  # keys are given out as events come
    bodies = [array_of(*[PAYMENT] * len(array), number=number) for number, array in enumerate(arrays)]
    for body, array in zip(bodies, arrays, strict=True):
        oldest = max(age for age, _ in array)
        for key, (age, done) in zip(keep(sqlite, body), array, strict=True):
            attic.do(update(WebhookEvent).where(WebhookEvent.event_key == key).values(received_at=days_ago(oldest)))
            if done:
                ended = {"done_at": days_ago(age), "due_at": None, "outcome": "reconciled"}
                attic.do(update(WebhookEvent).where(WebhookEvent.event_key == key).values(**ended))
    keys = []
    for number, (age, state) in enumerate(asked):
        keys.append(ask(sqlite, f"order-{number}"))
        aged = {"state": state, "created_at": days_ago(age), "due_at": None}
        attic.do(update(Operation).where(Operation.operation_key == keys[-1]).values(**aged))
    attic.leave(LONG_AGO, wanted=0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retention, "PAGE", page)
        patch.setattr(retention, "BATCH", page)
        for _ in range(passes):
            attic.clear()

    for body, array in zip(bodies, arrays, strict=True):
        before, opened = attic.count(WebhookEvent), [key for key, row in enumerate(array) if not row[1]]
        rung = keep(sqlite, body)
        if any(age < 400 or not done for age, done in array):
            assert attic.count(WebhookEvent) == before
            assert len(rung) == len(opened)
        else:
            assert attic.count(WebhookEvent) == before + len(array)
    assert [ask(sqlite, f"order-{number}") for number in range(len(asked))] == keys
