"""The sweep: what is due is rung for once, ever later, and alone when it may have killed its worker."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update

from tests.worker.conftest import MERCHANT, Deliver, FakePlatform, Paper, settings_of
from worker import reports
from worker.database import Database, now, seconds_from_now
from worker.models import BUDGET_FACT, Fact, Operation, Payment, WebhookEvent
from worker.reconciliation import Reconciler
from worker.reconciliation.claims import claim_for_event
from worker.rescue import Due, sweep
from worker.settings import Settings
from worker.traffic.budget import BEHIND_SECONDS, BURST_SECONDS, SHARES, Budget, Lane

OURS = frozenset([MERCHANT])


def store_due(database: Database, count: int, *, claims: int = 0, start: int = 0) -> None:
    """Payments with a hint unanswered and an open event each, all due since a second ago."""
    past = seconds_from_now(-1.0)
    payments = [
        {"merchant_id": MERCHANT, "payment_id": str(1_000_000_000 + number), "state": "created", "wanted": 1}
        for number in range(start, start + count)
    ]
    events = [
        {"body_sha256": (start + number).to_bytes(32, "big"), "payment_id": payment["payment_id"]}
        for number, payment in enumerate(payments)
    ]
    common = {"merchant_id": MERCHANT, "key_id": "key-1", "received_at": now()}
    with database.transaction() as connection:
        connection.execute(insert(Payment).values(due_at=past, claims=claims), payments)
        connection.execute(insert(WebhookEvent).values(due_at=past, claims=claims, **common), events)


def test_what_is_due_is_rung_for_once(database: Database, settings: Settings, paper: Paper) -> None:
    """Rows that are due, and no others; the same statement moves them on, so that a second sweep is silent."""
    store_due(database, 3)
    store_due(database, 2, start=10)
    later = [payment.payment_key for payment in paper.payments()[3:]]
    with database.transaction() as connection:
        connection.execute(update(Payment).where(Payment.payment_key.in_(later)).values(due_at=seconds_from_now(60.0)))
        connection.execute(update(WebhookEvent).where(WebhookEvent.event_key > 3).values(due_at=None))

    first, second = sweep(database, settings.sweep_limit), sweep(database, settings.sweep_limit)

    due = paper.payments()[:3]
    assert sorted(first.payment_keys) == [payment.payment_key for payment in due]
    assert len(first.event_keys) == len(first) - 3
    assert (first.payments_alone, first.events_alone) == ([], [])
    assert len(second) == 0
    assert all(2 < (paper.due_in(payment) or 0) <= 5 for payment in due)
    assert all(payment.claimed_until is None and payment.wanted == 1 for payment in due)


def test_an_empty_database_is_swept(database: Database, settings: Settings) -> None:
    """Nothing is due: nothing is rung for, and the sweep has left its sign of life all the same."""
    assert sweep(database, settings.sweep_limit) == Due([], [], [], [], [], [])

    with database.reading() as connection:
        assert (reports.seconds_since_sweep(connection) or 99) < 5


def test_every_sweep_leaves_one_sign_of_life(database: Database, settings: Settings) -> None:
    """One fact, renewed; readiness tells from it how long ago a sweep ran anywhere."""
    with database.reading() as connection:
        assert reports.seconds_since_sweep(connection) is None

    for _ in range(3):
        sweep(database, settings.sweep_limit)

    with database.reading() as connection:
        (fact,) = connection.execute(select(Fact.name, Fact.due_at)).all()
    assert fact == ("heartbeat:sweep", None)


def test_a_row_nobody_answers_for_is_rung_ever_later(database: Database, settings: Settings, paper: Paper) -> None:
    """5, 10, 20 … 300 s, and then every 300 s: a backlog is not rung again and again."""
    store_due(database, 1)

    for wait in (5, 10, 20, 40, 80, 160, 300, 300, 300):
        assert len(sweep(database, settings.sweep_limit)) == 2

        (payment,), (event,) = paper.payments(), paper.events()
        assert wait / 2 < (paper.due_in(payment) or 0) <= wait
        assert wait / 2 < (paper.due_in(event) or 0) <= wait
        paper.pass_time()


def test_a_claim_begins_the_waits_anew(
    database: Database, reconciler: Reconciler, settings: Settings, deliver: Deliver, paper: Paper
) -> None:
    """Rings count from the last claim: a worker that answered and died is rung for 5 s later, not 300."""
    (event_key,) = deliver("3254564310")
    for _ in range(4):
        paper.pass_time()
        sweep(database, settings.sweep_limit)
    with database.transaction() as connection:
        claim_for_event(connection, event_key, OURS, settings)
    paper.pass_time()

    sweep(database, settings.sweep_limit)

    payment, event = paper.payment("3254564310"), paper.event(event_key)
    assert (payment.rings, event.rings) == (1, 1)
    assert (paper.due_in(payment) or 99) <= 5


def test_what_may_have_killed_its_worker_is_rung_alone(database: Database, settings: Settings) -> None:
    """One claim that was not released may be bad luck; two set the row apart from its neighbours."""
    store_due(database, 2, claims=0)
    store_due(database, 2, claims=1, start=10)
    store_due(database, 2, claims=2, start=20)
    store_due(database, 1, claims=7, start=30)

    due = sweep(database, settings.sweep_limit)

    assert (len(due.payment_keys), len(due.payments_alone)) == (4, 3)
    assert len(due.event_keys) == 4


def test_an_event_is_not_rung_for_beside_its_payment_that_is_alone(
    database: Database, settings: Settings, paper: Paper
) -> None:
    """One look answers both, and two of them would keep two processes to themselves; it is rung for without it."""
    store_due(database, 2, claims=2)
    with database.transaction() as connection:
        connection.execute(update(Payment).where(Payment.payment_id == "1000000001").values(due_at=None))

    due = sweep(database, settings.sweep_limit)

    assert due.payments_alone == [paper.payment("1000000000").payment_key]
    assert [paper.event(key).payment_id for key in due.events_alone] == ["1000000001"]


def test_operations_that_are_due_are_rung_for_too(database: Database, settings: Settings) -> None:
    """Each by its own key, moved on like the others; one that may have killed its worker is alone here as well."""
    common = {"payment_id": "1", "kind": "capture", "source": "test", "request_sha256": b"0" * 32, "created_at": now()}
    rows = [
        {"operation_key": 1, "due_at": seconds_from_now(-1.0), "claims": 0},
        {"operation_key": 2, "due_at": seconds_from_now(-1.0), "claims": 2},
        {"operation_key": 3, "due_at": seconds_from_now(60.0), "claims": 0},
        {"operation_key": 4, "due_at": None, "claims": 0},
    ]
    with database.transaction() as connection:
        for row in rows:
            named = {"operation_uuid": f"uuid-{row['operation_key']}", "request_id": str(row["operation_key"])}
            connection.execute(insert(Operation).values(**common, **named, **row, state="requested"))

    first, second = sweep(database, settings.sweep_limit), sweep(database, settings.sweep_limit)

    assert (first.operation_keys, first.operations_alone) == ([1], [2])
    assert len(first) == 2
    assert len(second) == 0


def test_a_poll_that_is_due_is_a_hint(
    database: Database,
    reconciler: Reconciler,
    platform: FakePlatform,
    deliver: Deliver,
    settings: Settings,
    paper: Paper,
) -> None:
    """Nobody spoke of the payment: the sweep raises one hint, however often it rings before somebody answers."""
    reconciler.event(deliver("3254564310")[0])
    payment_key = paper.payment("3254564310").payment_key
    assert len(sweep(database, settings.sweep_limit)) == 0

    for _ in range(3):
        paper.pass_time()
        assert sweep(database, settings.sweep_limit) == Due([], [payment_key], [], [], [], [])
        payment = paper.payment("3254564310")
        assert payment.wanted == payment.applied + 1

    assert reconciler.payment(payment_key) is None
    assert platform.looks_at("3254564310") == 2
    payment = paper.payment("3254564310")
    assert (payment.wanted, payment.applied) == (2, 2)
    assert (paper.due_in(payment) or 0) > 600


def test_a_payment_that_waits_for_a_look_is_no_poll(database: Database, settings: Settings, paper: Paper) -> None:
    """Its hint is there already."""
    store_due(database, 1)

    sweep(database, settings.sweep_limit)

    assert [(payment.wanted, payment.applied) for payment in paper.payments()] == [(1, 0)]


def test_a_parked_payment_is_left_alone(database: Database, settings: Settings, paper: Paper) -> None:
    """``due_at`` NULL means never, whatever the hints say."""
    store_due(database, 1)
    with database.transaction() as connection:
        for table in (Payment, WebhookEvent):
            connection.execute(update(table).values(due_at=None))

    assert len(sweep(database, settings.sweep_limit)) == 0


def test_the_longest_due_come_first_and_no_more_than_the_limit(database: Database, paper: Paper) -> None:
    """A backlog is taken in portions, the oldest of each table first."""
    store_due(database, 30)
    settings = settings_of(sweep_limit=10)
    oldest = [payment.payment_key for payment in paper.payments()[20:]]
    with database.transaction() as connection:
        connection.execute(
            update(Payment).where(Payment.payment_key.in_(oldest)).values(due_at=seconds_from_now(-60.0))
        )

    portions = [sweep(database, settings.sweep_limit) for _ in range(4)]

    assert sorted(portions[0].payment_keys) == oldest
    assert [len(portion) for portion in portions] == [20, 20, 20, 0]
    assert len({key for portion in portions for key in portion.event_keys}) == 30


def test_dead_workers_payment_is_rung_for_when_its_lease_ends(
    database: Database,
    reconciler: Reconciler,
    settings: Settings,
    deliver: Deliver,
    platform: FakePlatform,
    paper: Paper,
) -> None:
    """A process that dies after its claim leaves a due row: swept, taken over, done."""
    (event_key,) = deliver("3254564310")
    with database.transaction() as connection:
        claim_for_event(connection, event_key, OURS, settings)
    assert len(sweep(database, settings.sweep_limit)) == 0
    paper.pass_time()

    due = sweep(database, settings.sweep_limit)

    assert (len(due.payment_keys), due.event_keys) == (1, [event_key])
    assert reconciler.payment(due.payment_keys[0]) is None
    assert reconciler.event(event_key) is None
    assert paper.open_events() == []
    assert len(platform.looks) == 1


def test_sweeps_at_once_ring_each_row_once(postgres: Database) -> None:
    """Eight sweeps over 2,000 rows: every row is rung for, none of them twice."""
    store_due(postgres, 1000)
    settings = settings_of(sweep_limit=100)
    barrier = threading.Barrier(8)

    def until_silent(_: int) -> tuple[list[int], list[int]]:
        payments: list[int] = []
        events: list[int] = []
        barrier.wait()
        silent = 0
        for _ in range(50):
            due = sweep(postgres, settings.sweep_limit)
            payments += due.payment_keys
            events += due.event_keys
            silent = 0 if due else silent + 1
            if silent == 2:  # rows another sweep holds are skipped: one silence may be that
                break
        return payments, events

    with ThreadPoolExecutor(8) as pool:
        rung = list(pool.map(until_silent, range(8)))

    for which in (0, 1):
        keys = [key for one in rung for key in one[which]]
        assert len(keys) == len(set(keys)) == 1000


def test_a_locked_row_is_skipped(postgres: Database, settings: Settings) -> None:
    """A row that somebody is writing is not waited for; the sweep after that finds it, if it is still due."""
    paper = Paper(postgres)
    store_due(postgres, 3)
    locked = paper.payments()[1].payment_key

    with postgres.transaction() as connection:
        connection.execute(update(Payment).where(Payment.payment_key == locked).values(problem="being written"))
        with ThreadPoolExecutor(1) as pool:
            first: Any = pool.submit(sweep, postgres, settings.sweep_limit).result(timeout=3)

    assert len(first.payment_keys) == 2
    assert locked not in first.payment_keys
    assert sweep(postgres, settings.sweep_limit).payment_keys == [locked]


@pytest.mark.parametrize("rows", [1, 3])
def test_whatever_is_lost_is_found(
    database: Database,
    reconciler: Reconciler,
    platform: FakePlatform,
    settings: Settings,
    deliver: Deliver,
    paper: Paper,
    rows: int,
) -> None:
    """Events whose every ring was lost are done after one sweep."""
    keys = [deliver(str(1_000_000_000 + number))[0] for number in range(rows)]
    paper.pass_time()

    for event_key in sweep(database, settings.sweep_limit).event_keys:
        reconciler.event(event_key)

    assert [paper.event(key).outcome for key in keys] == ["reconciled"] * rows
    assert len(platform.looks) == rows


def test_polls_of_a_merchant_that_is_behind_stay_due(database: Database, settings: Settings, paper: Paper) -> None:
    """What was asked for is rung for; what is due for a poll waits, due as it was, and comes the longest due first."""
    store_due(database, 6)
    payments = paper.payments()
    polls, asked_for = payments[:4], payments[4:]
    with database.transaction() as connection:
        for number, poll in enumerate(polls):
            due = {"due_at": seconds_from_now(-10.0 - number), "applied": 1}
            connection.execute(update(Payment).where(Payment.payment_key == poll.payment_key).values(**due))
        connection.execute(
            update(Payment).where(Payment.payment_key == payments[0].payment_key).values(merchant_id="globex")
        )
    take_slots(database, settings, seconds=BEHIND_SECONDS + 5)

    behind = sweep(database, settings.sweep_limit)
    left = paper.payments()[1:4]
    free_slots(database)
    first, then = sweep(database, 2), sweep(database, 2)

    assert sorted(behind.payment_keys) == [polls[0].payment_key, *(payment.payment_key for payment in asked_for)]
    assert all((paper.due_in(payment) or 0) < -10 for payment in left)
    assert all((payment.wanted, payment.rings) == (1, 0) for payment in left)
    assert sorted(first.payment_keys) == [polls[2].payment_key, polls[3].payment_key]
    assert then.payment_keys == [polls[1].payment_key]


def take_slots(database: Database, settings: Settings, *, seconds: float) -> None:
    """As if looks had taken the merchant's slots for so long ahead."""
    calls = settings.budget_per_second * SHARES[Lane.LOOKS] * (seconds + BURST_SECONDS)
    Budget(database, settings.budget_per_second).reserve(MERCHANT, Lane.LOOKS, int(calls))


def free_slots(database: Database) -> None:
    """As if that time were over."""
    with database.transaction() as connection:
        connection.execute(delete(Fact).where(Fact.name == f"{BUDGET_FACT}{MERCHANT}"))
