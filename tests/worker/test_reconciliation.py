"""A payment brought in line with the platform: what one look costs, writes and leaves to follow."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Row, func, insert, select

from tests.worker.conftest import MERCHANT, Deliver, FakePlatform, Paper, deliver_to, moved, view_of
from worker.database import Database, now
from worker.gateways.gateway import (
    CredentialsRefused,
    NotSent,
    PaymentUnknown,
    PaymentView,
    Refused,
    SlowDown,
    TryAgain,
)
from worker.inbox import NOT_OURS
from worker.lifecycle import MovementKind, MovementState
from worker.models import JournalEntry, Movement, Operation
from worker.reconciliation import CannotAccept, Follow, Reconciler, records, request
from worker.reconciliation.claims import claim_payment, raise_hint
from worker.settings import Settings

RecordOf = Callable[[str], Row[Any]]

CAPTURE, REFUND, CANCEL = MovementKind.CAPTURE, MovementKind.REFUND, MovementKind.CANCEL
PENDING, REFUSED = MovementState.PENDING, MovementState.REFUSED

HOUR, DAY = 3600.0, 86400.0


def movements(database: Database) -> list[Row[Any]]:
    with database.reading() as connection:
        return list(connection.execute(select(Movement.__table__).order_by(Movement.platform_operation_id)))


def link(database: Database, payment_key: int, operation_id: str) -> int:
    """As sending will: an operation of ours, and the movement that the platform's answer named."""
    operation = {
        "operation_uuid": f"uuid-{operation_id}",
        "merchant_id": MERCHANT,
        "payment_id": "3254564310",
        "payment_key": payment_key,
        "kind": "capture",
        "amount": 1000,
        "currency": "EUR",
        "source": "test",
        "request_id": operation_id,
        "request_sha256": b"0" * 32,
        "state": "accepted",
        "created_at": now(),
    }
    movement = {
        "merchant_id": MERCHANT,
        "platform_operation_id": operation_id,
        "payment_key": payment_key,
        "kind": "capture",
        "state": "pending",
        "amount": 1000,
        "currency": "EUR",
        "first_seen_at": now(),
        "last_seen_at": now(),
    }
    with database.transaction() as connection:
        (key,) = connection.execute(insert(Operation).values(**operation).returning(Operation.operation_key)).one()
        connection.execute(insert(Movement).values(**movement, operation_key=key))
    return int(key)


def test_an_event_makes_its_payment_known(
    reconciler: Reconciler, platform: FakePlatform, deliver: Deliver, paper: Paper, database: Database
) -> None:
    """One look fills the whole row, its movements and the journal, and leaves nothing held."""
    (event_key,) = deliver("3254564310")
    platform.truth["3254564310"] = view_of(
        "3254564310", moved("3254564310_1", CAPTURE, 1000), moved("3254564310_2", REFUND, 300, PENDING), code=9
    )

    follow = reconciler.event(event_key)

    payment, event = paper.payment("3254564310"), paper.event(event_key)
    assert follow is None
    assert platform.looks_at("3254564310") == 1
    assert (payment.state, payment.status, payment.status_code) == ("captured", "STATUS_9", 9)
    assert (payment.currency, payment.merchant_reference) == ("EUR", "order-1")
    assert (payment.amount_authorised, payment.amount_captured, payment.amount_refund_pending) == (1000, 1000, 300)
    assert payment.snapshot == dict(platform.truth["3254564310"].snapshot)
    assert payment.refreshed_at is not None
    assert payment.changed_at is not None
    assert (payment.wanted, payment.applied, payment.claims, payment.failures) == (1, 1, 0, 0)
    assert (payment.claim_token, payment.problem) == (None, None)
    assert (event.outcome, event.due_at, event.claims) == ("reconciled", None, 1)
    assert event.done_at is not None
    assert [(one.platform_operation_id, one.kind, one.state, one.amount) for one in movements(database)] == [
        ("3254564310_1", "capture", "done", 1000),
        ("3254564310_2", "refund", "pending", 300),
    ]
    assert paper.journal() == [(None, "captured", "the platform says 9 STATUS_9")]


@pytest.mark.parametrize(
    ("code", "due_in"),
    [(0, 15.0), (51, 15.0), (5, HOUR), (91, 15.0), (9, DAY), (6, None), (2, None), (4711, 15.0)],
)
def test_what_a_look_saw_says_when_the_next_one_is_due(
    reconciler: Reconciler, platform: FakePlatform, deliver: Deliver, paper: Paper, code: int, due_in: float | None
) -> None:
    """Fresh payments under way are polled in seconds, authorised ones hourly, captured ones daily, ended ones never."""
    platform.truth["1234567890"] = view_of("1234567890", code=code)

    reconciler.event(deliver("1234567890")[0])

    due = paper.due_in(paper.payment("1234567890"))
    if due_in is None:
        assert due is None
    else:
        assert due is not None
        assert 0.5 * due_in < due <= due_in  # four fifths of it at least, had no time passed since


def test_a_movement_under_way_is_polled_for(
    reconciler: Reconciler, platform: FakePlatform, deliver: Deliver, paper: Paper
) -> None:
    """An authorised payment with a capture pending is looked at again in seconds, not in an hour."""
    platform.truth["1234567890"] = view_of("1234567890", moved("1234567890_1", CAPTURE, 1000, PENDING), code=91)

    reconciler.event(deliver("1234567890")[0])

    due = paper.due_in(paper.payment("1234567890"))
    assert due is not None
    assert due <= 15


def test_no_connection_is_held_while_the_platform_is_asked(
    database: Database, reconciler: Reconciler, platform: FakePlatform, deliver: Deliver, paper: Paper
) -> None:
    """The claim is committed before: a platform that is slow holds up no row and no connection."""
    held: list[object] = []
    platform.during = lambda: held.append(database.engine.pool.checkedout())  # type: ignore[attr-defined]
    reconciler.event(deliver("3254564310")[0])
    payment = paper.payment("3254564310")
    paper.change_payment(payment.payment_key, wanted=payment.wanted + 1)
    paper.open_the_gate()
    platform.during = lambda: held.append(database.engine.pool.checkedout())  # type: ignore[attr-defined]

    reconciler.payment(payment.payment_key)

    assert held == [0, 0]


def test_a_second_ring_does_nothing(
    reconciler: Reconciler, platform: FakePlatform, deliver: Deliver, paper: Paper
) -> None:
    """Rings for a done event and for a payment with every hint answered cost no fetch and write nothing."""
    (event_key,) = deliver("3254564310")
    reconciler.event(event_key)
    paper.open_the_gate()
    before = paper.payments(), paper.events(), paper.journal()

    follows = [reconciler.event(event_key), reconciler.payment(before[0][0].payment_key), reconciler.payment(4711)]

    assert follows == [None, None, None]
    assert len(platform.looks) == 1
    assert (paper.payments(), paper.events(), paper.journal()) == before


def test_a_payment_due_with_every_hint_answered_is_not_looked_at(
    reconciler: Reconciler, platform: FakePlatform, deliver: Deliver, paper: Paper
) -> None:
    """Work is told by hints, never by ``due_at``: a forged ring for a payment that is due wakes nothing."""
    reconciler.event(deliver("3254564310")[0])
    paper.pass_time()

    follow = reconciler.payment(paper.payment("3254564310").payment_key)

    assert follow is None
    assert len(platform.looks) == 1


def test_a_look_that_finds_nothing_new_is_not_in_the_journal(
    reconciler: Reconciler, platform: FakePlatform, deliver: Deliver, paper: Paper
) -> None:
    """The journal tells changes of state; ``changed_at`` stays, so that polling slows down."""
    reconciler.event(deliver("3254564310")[0])
    first = paper.payment("3254564310")
    paper.open_the_gate()

    reconciler.event(deliver("3254564310")[0])

    second = paper.payment("3254564310")
    assert len(platform.looks) == 2
    assert second.changed_at == first.changed_at
    assert second.refreshed_at > first.refreshed_at
    assert len(paper.journal()) == 1


def test_the_platform_may_move_a_payment_backwards(
    reconciler: Reconciler, platform: FakePlatform, deliver: Deliver, paper: Paper
) -> None:
    """A refused capture (93) returns a captured payment to authorised: the newest look is believed."""
    platform.truth["3254564310"] = view_of("3254564310", code=9)
    reconciler.event(deliver("3254564310")[0])
    platform.truth["3254564310"] = view_of("3254564310", moved("3254564310_1", CAPTURE, 1000, REFUSED), code=93)
    paper.open_the_gate()

    reconciler.event(deliver("3254564310")[0])

    payment = paper.payment("3254564310")
    assert (payment.state, payment.amount_captured) == ("authorised", 0)
    assert [line[:2] for line in paper.journal()] == [(None, "captured"), ("captured", "authorised")]


class Rings:
    """Carries out follow-up rings as the doorbell does, each at its time and one per payment, until none is left."""

    def __init__(self, reconciler: Reconciler) -> None:
        self.reconciler = reconciler
        self.waiting: dict[int, float] = {}
        self._lock = threading.Lock()

    def event(self, event_key: int) -> None:
        self.later(self.reconciler.event(event_key))

    def later(self, follow: Follow | None) -> None:
        if follow is not None:
            at = time.monotonic() + follow.seconds
            with self._lock:
                known = self.waiting.get(follow.payment_key, at)
                self.waiting[follow.payment_key] = min(at, known)

    def until_quiet(self) -> None:
        while self.waiting:
            with self._lock:
                key = min(self.waiting, key=self.waiting.__getitem__)
                at = self.waiting.pop(key)
            time.sleep(max(0.0, at - time.monotonic()))
            self.later(self.reconciler.payment(key))


@pytest.mark.parametrize("slow", [0.0, 0.03, 0.5])
def test_a_burst_costs_two_looks(
    reconciler: Reconciler, platform: FakePlatform, deliver: Deliver, paper: Paper, settings: Settings, slow: float
) -> None:
    """Five events within a gap: at most two looks however fast the platform answers, and the last truth is kept."""
    platform.slow = slow
    rings, at_work = Rings(reconciler), []
    began = time.monotonic()

    for code in (0, 46, 51, 5, 9):
        platform.truth["3254564310"] = view_of("3254564310", code=code)
        (event_key,) = deliver("3254564310")
        at_work.append(threading.Thread(target=rings.event, args=(event_key,)))
        at_work[-1].start()
        time.sleep(0.02)
    longer_than_a_gap = (time.monotonic() - began) // settings.gap_seconds  # on a busy machine: a look more for each
    for thread in at_work:
        thread.join()
    rings.until_quiet()

    payment = paper.payment("3254564310")
    assert platform.looks_at("3254564310") <= 2 + longer_than_a_gap
    assert platform.shortest_gap() >= settings.gap_seconds - 0.01
    assert (payment.status_code, payment.wanted - payment.applied) == (9, 0)
    assert paper.open_events() == []


def test_events_stored_before_a_look_are_answered_by_it(
    reconciler: Reconciler, platform: FakePlatform, deliver: Deliver, paper: Paper
) -> None:
    """Rings for events that a look under way has noted are no new hints: one look answers all five."""
    keys = [deliver("3254564310")[0] for _ in range(5)]
    follows: list[Follow | None] = []
    platform.during = lambda: follows.extend(reconciler.event(key) for key in keys[1:])

    follows.append(reconciler.event(keys[0]))

    assert follows == [None] * 5
    assert platform.looks_at("3254564310") == 1
    assert paper.open_events() == []


def test_a_hint_during_a_look_leads_to_one_more(
    reconciler: Reconciler, platform: FakePlatform, deliver: Deliver, paper: Paper, settings: Settings
) -> None:
    """What was stored after the claim is not answered by its look: it stays open, and the payment follows."""
    late: list[int] = []

    def another_event_comes() -> None:
        platform.truth["3254564310"] = view_of("3254564310", code=9)
        late.extend(deliver("3254564310"))
        assert reconciler.event(late[0]) is None  # the holder sees to it

    platform.during = another_event_comes

    follow = reconciler.event(deliver("3254564310")[0])

    payment = paper.payment("3254564310")
    assert follow == Follow(payment.payment_key, settings.gap_seconds)
    assert paper.open_events() == late
    assert (payment.state, payment.wanted - payment.applied) == ("authorised", 1)
    assert 0 < (paper.due_in(payment) or 0) <= settings.gap_seconds

    paper.open_the_gate()

    assert reconciler.payment(payment.payment_key) is None
    assert paper.payment("3254564310").state == "captured"
    assert paper.open_events() == []
    assert len(platform.looks) == 2


def test_an_event_with_a_lower_key_that_commits_during_a_look_is_not_done(
    postgres: Database, platform: FakePlatform, settings: Settings
) -> None:
    """Keys are given out before they are committed: a look answers the events it has noted, not all up to its own."""
    paper, deliver = Paper(postgres), deliver_to(postgres)
    reconciler = Reconciler(postgres, {MERCHANT: platform}, settings)
    (model,) = deliver("1111111111")
    slow_commit = postgres.engine.connect()
    transaction = slow_commit.begin()
    copied = (
        "INSERT INTO webhook_events (body_sha256, position, merchant_id, type, payment_id, key_id, received_at,"
        " deliveries, due_at, claims, rings) SELECT sha256('late'), 0, merchant_id, type, '3254564310', key_id,"
        " received_at, 1, due_at, 0, 0 FROM webhook_events WHERE event_key = %s RETURNING event_key"
    )
    lower = slow_commit.exec_driver_sql(copied, (model,)).scalar_one()
    (higher,) = deliver("3254564310")
    platform.during = transaction.commit

    follow = reconciler.event(higher)
    slow_commit.close()

    assert lower < higher
    assert follow is None
    assert paper.event(higher).outcome == "reconciled"
    assert (paper.event(lower).done_at, paper.event(lower).claims) == (None, 0)

    follow = reconciler.event(lower)

    assert follow is not None
    paper.open_the_gate()
    reconciler.payment(follow.payment_key)
    assert paper.event(lower).outcome == "reconciled"
    assert platform.looks_at("3254564310") == 2


def test_an_event_stored_during_a_look_with_a_key_of_its_own_ring_lost_is_open_for_the_sweep(
    reconciler: Reconciler, platform: FakePlatform, deliver: Deliver, paper: Paper
) -> None:
    """Nobody rang for the second event yet: it is neither done nor forgotten, its own ``due_at`` stands."""
    late: list[int] = []
    platform.during = lambda: late.extend(deliver("3254564310"))

    reconciler.event(deliver("3254564310")[0])

    event = paper.event(late[0])
    assert (event.done_at, event.claims) == (None, 0)
    assert 0 < (paper.due_in(event) or 0) <= 5


# What is written


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        pytest.param(
            view_of("3254564310", code=9, amount=1000, acquired=900), ("captured", 1000, 900, 0, 0, 0, 0), id="a sale"
        ),
        pytest.param(
            view_of("3254564310", code=9, amount=1000), ("captured", 1000, 1000, 0, 0, 0, 0), id="a sale, unacquired"
        ),
        pytest.param(
            view_of(
                "3254564310",
                moved("3254564310_1", CAPTURE, 400),
                moved("3254564310_2", CAPTURE, 300, PENDING),
                moved("3254564310_3", CAPTURE, 600, REFUSED),
                code=9,
                acquired=1000,
            ),
            ("captured", 1000, 400, 300, 0, 0, 0),
            id="captures listed go before the acquired amount, refused ones excluded",
        ),
        pytest.param(
            view_of(
                "3254564310",
                moved("3254564310_1", CAPTURE, 1000),
                moved("3254564310_2", REFUND, 250),
                moved("3254564310_3", REFUND, 250),
                moved("3254564310_4", REFUND, 100, PENDING),
                moved("3254564310_5", REFUND, 400, REFUSED),
                code=8,
            ),
            ("captured", 1000, 1000, 0, 500, 100, 0),
            id="partly refunded",
        ),
        pytest.param(
            view_of("3254564310", moved("3254564310_1", CAPTURE, 1000), moved("3254564310_2", REFUND, 1000), code=8),
            ("refunded", 1000, 1000, 0, 1000, 0, 0),
            id="refunded",
        ),
        pytest.param(
            view_of("3254564310", moved("3254564310_1", CANCEL, 1000), code=6),
            ("cancelled", 1000, 0, 0, 0, 0, 1000),
            id="cancelled",
        ),
        pytest.param(view_of("3254564310", code=2), ("rejected", 0, 0, 0, 0, 0, 0), id="rejected"),
    ],
)
def test_amounts_are_recomputed_from_movements(
    reconciler: Reconciler,
    platform: FakePlatform,
    deliver: Deliver,
    record_of: RecordOf,
    paper: Paper,
    view: PaymentView,
    expected: tuple[object, ...],
) -> None:
    """However often a payment is looked at, its amounts are what its movements add up to now."""
    platform.truth["3254564310"] = view
    for _ in range(2):
        reconciler.event(deliver("3254564310")[0])
        paper.open_the_gate()

    payment = record_of("3254564310")

    assert (
        payment.state,
        payment.amount_authorised,
        payment.amount_captured,
        payment.amount_capture_pending,
        payment.amount_refunded,
        payment.amount_refund_pending,
        payment.amount_cancelled,
    ) == expected


def test_a_movement_follows_the_platform_and_is_never_deleted(
    reconciler: Reconciler, platform: FakePlatform, deliver: Deliver, paper: Paper, database: Database
) -> None:
    """A movement changes its state in place; one that is no longer listed and not ours stays on paper."""
    platform.truth["3254564310"] = view_of(
        "3254564310", moved("3254564310_1", CAPTURE, 600, PENDING), moved("3254564310_2", CAPTURE, 400), code=91
    )
    reconciler.event(deliver("3254564310")[0])
    (before, _) = movements(database)
    platform.truth["3254564310"] = view_of("3254564310", moved("3254564310_1", CAPTURE, 600), code=9)
    paper.open_the_gate()

    reconciler.event(deliver("3254564310")[0])

    first, second = movements(database)
    assert (first.movement_key, first.state, first.first_seen_at) == (before.movement_key, "done", before.first_seen_at)
    assert first.last_seen_at > before.last_seen_at
    assert second.platform_operation_id == "3254564310_2"
    assert paper.payment("3254564310").amount_captured == 600


def test_the_link_to_our_operation_outlives_a_look(
    reconciler: Reconciler, platform: FakePlatform, deliver: Deliver, paper: Paper, database: Database
) -> None:
    """A movement that our own operation made is updated by what the platform lists, and stays ours."""
    reconciler.event(deliver("3254564310")[0])
    operation_key = link(database, paper.payment("3254564310").payment_key, "3254564310_1")
    platform.truth["3254564310"] = view_of("3254564310", moved("3254564310_1", CAPTURE, 1000), code=9)
    paper.open_the_gate()

    reconciler.event(deliver("3254564310")[0])

    (movement,) = movements(database)
    assert (movement.operation_key, movement.state) == (operation_key, "done")


def test_a_look_that_lacks_a_movement_of_ours_is_kept_out(
    reconciler: Reconciler, platform: FakePlatform, deliver: Deliver, paper: Paper, database: Database
) -> None:
    """The platform's replica was behind: nothing of it is written, the payment is due again in 30 s, and after three
    such looks the journal says so, once."""
    reconciler.event(deliver("3254564310")[0])
    payment_key = paper.payment("3254564310").payment_key
    link(database, payment_key, "3254564310_1")
    platform.truth["3254564310"] = view_of("3254564310", moved("3254564310_9", CAPTURE, 1), code=9)
    paper.open_the_gate()
    (event_key,) = deliver("3254564310")
    anomalies = []

    for stale_looks in range(1, 5):
        follow = reconciler.event(event_key)

        payment = paper.payment("3254564310")
        assert follow == Follow(payment_key, 30.0)
        assert 15 < (paper.due_in(payment) or 0) <= 30
        assert 15 < (paper.closed_for(payment) or 0) <= 30
        assert (payment.state, payment.amount_captured, payment.failures) == ("authorised", 0, stale_looks)
        assert payment.wanted > payment.applied
        assert payment.claim_token is None
        assert "lacks a movement" in payment.problem
        anomalies.append(sum("anomaly" in why for _, _, why in paper.journal()))
        paper.open_the_gate()

    assert anomalies == [0, 0, 1, 1]
    assert [one.platform_operation_id for one in movements(database)] == ["3254564310_1"]

    platform.truth["3254564310"] = view_of("3254564310", moved("3254564310_1", CAPTURE, 1000), code=9)
    reconciler.payment(payment_key)

    payment = paper.payment("3254564310")
    assert (payment.state, payment.failures, payment.problem) == ("captured", 0, None)
    assert paper.open_events() == []


def test_three_stale_looks_after_an_outage_are_an_anomaly_too(
    reconciler: Reconciler, platform: FakePlatform, deliver: Deliver, paper: Paper, database: Database
) -> None:
    """Looks that gave no answer at all before do not hide that the next three lacked a movement of ours."""
    reconciler.event(deliver("3254564310")[0])
    link(database, paper.payment("3254564310").payment_key, "3254564310_1")
    platform.errors.extend([TryAgain("get_payment: HTTP 503")] * 3)
    paper.open_the_gate()
    (event_key,) = deliver("3254564310")

    for _ in range(6):
        reconciler.event(event_key)
        paper.open_the_gate()

    assert sum("anomaly" in why for _, _, why in paper.journal()) == 1


# Looks that give no answer


def test_a_platform_that_gives_no_answer_is_asked_again_ever_later(
    reconciler: Reconciler, platform: FakePlatform, deliver: Deliver, paper: Paper, settings: Settings
) -> None:
    """1, 2, 4 … s up to the cap; the payment stays wanted, its events open, and success finishes everything."""
    errors = [TryAgain("get_payment: HTTP 503"), SlowDown("get_payment: HTTP 429"), NotSent("get_payment: refused")]
    platform.errors.extend(errors * 3)
    (event_key,) = deliver("3254564310")
    follow = reconciler.event(event_key)

    for wait in (1, 2, 4, 8, 16, 32, 45, 45, 45):
        payment = paper.payment("3254564310")
        assert follow is not None
        assert 0.8 * wait <= follow.seconds <= wait
        assert follow.seconds == pytest.approx(paper.due_in(payment) or 0, abs=5)
        assert payment.claimed_until == payment.due_at
        assert (payment.claim_token, payment.claims, payment.refreshed_at) == (None, 0, None)
        assert payment.wanted > payment.applied
        assert "gave no answer: get_payment" in payment.problem
        assert payment.problem == paper.event(event_key).problem
        assert (paper.due_in(paper.event(event_key)) or 0) > follow.seconds  # the payment's own ring comes first
        paper.open_the_gate()
        follow = reconciler.payment(payment.payment_key)

    payment = paper.payment("3254564310")
    assert follow is None
    assert (payment.failures, payment.problem, payment.wanted - payment.applied) == (0, None, 0)
    assert (paper.event(event_key).outcome, paper.event(event_key).problem) == ("reconciled", None)
    assert len(platform.looks) == 10


def test_events_do_not_bypass_a_back_off(
    reconciler: Reconciler, platform: FakePlatform, deliver: Deliver, paper: Paper
) -> None:
    """Events that come meanwhile are hints to be answered at the back-off's end, and cost no call before."""
    platform.errors.extend([TryAgain("get_payment: HTTP 503")] * 3)
    (first,) = deliver("3254564310")
    for _ in range(3):
        reconciler.event(first)
        paper.open_the_gate()
    platform.errors.append(TryAgain("get_payment: HTTP 503"))
    backing_off = reconciler.event(first)
    assert backing_off is not None

    follows = [reconciler.event(deliver("3254564310")[0]) for _ in range(5)]
    follows.append(reconciler.event(first))
    follows.append(reconciler.payment(backing_off.payment_key))

    payment = paper.payment("3254564310")
    assert len(platform.looks) == 4
    latest = backing_off.seconds + 0.001  # SQLite's clock counts in milliseconds, and may round the end up
    assert all(follow is not None and 5 < follow.seconds <= latest for follow in follows)
    assert (paper.due_in(payment) or 0) <= latest

    paper.open_the_gate()
    reconciler.payment(payment.payment_key)

    assert paper.open_events() == []
    assert len(platform.looks) == 5


def test_a_payment_the_platform_does_not_know_is_tried_four_times_and_parked(
    reconciler: Reconciler, platform: FakePlatform, deliver: Deliver, paper: Paper
) -> None:
    """A webhook can outrun the platform's replicas: 30 s, 2 min, 10 min, 1 h; then a person looks."""
    platform.errors.extend([PaymentUnknown("get_payment: HTTP 404 50001130")] * 5)
    (event_key,) = deliver("3254564310")
    follow = reconciler.event(event_key)

    for wait in (30, 120, 600, 3600):
        assert follow is not None
        assert 0.8 * wait <= follow.seconds <= wait
        paper.open_the_gate()
        follow = reconciler.payment(follow.payment_key)

    payment, event = paper.payment("3254564310"), paper.event(event_key)
    assert follow is None
    assert (payment.due_at, payment.claim_token) == (None, None)
    assert payment.problem == "the platform does not know this payment: get_payment: HTTP 404 50001130"
    assert event.outcome == "quarantined"
    assert payment.problem in event.problem
    assert [why for _, _, why in paper.journal()] == [f"parked: {payment.problem}"]


def test_refused_credentials_cost_a_back_off_and_no_event(
    reconciler: Reconciler, platform: FakePlatform, deliver: Deliver, paper: Paper
) -> None:
    """A wrong API key is a person's to mend; nothing is parked or lost until it is."""
    platform.errors.extend([CredentialsRefused("get_payment: HTTP 403")] * 12)
    (event_key,) = deliver("3254564310")

    for _ in range(12):
        follow = reconciler.event(event_key)
        assert follow is not None
        assert follow.seconds <= 45
        paper.open_the_gate()

    assert "refuses our credentials" in paper.payment("3254564310").problem
    assert paper.payment("3254564310").state == "created"
    assert paper.open_events() == [event_key]
    assert reconciler.event(event_key) is None
    assert paper.open_events() == []


def test_a_refused_look_parks_the_payment_until_an_event_comes(
    reconciler: Reconciler, platform: FakePlatform, deliver: Deliver, paper: Paper
) -> None:
    """A definitive no is not asked again by ourselves; the next event, or a person, is reason enough to."""
    platform.errors.append(Refused("get_payment: HTTP 400 1"))
    (event_key,) = deliver("3254564310")

    assert reconciler.event(event_key) is None

    payment, event = paper.payment("3254564310"), paper.event(event_key)
    assert (payment.due_at, payment.claim_token, event.outcome) == (None, None, "quarantined")
    assert payment.problem == "the platform refuses the request: get_payment: HTTP 400 1"
    paper.open_the_gate()

    assert reconciler.event(deliver("3254564310")[0]) is None

    payment = paper.payment("3254564310")
    assert (payment.problem, payment.wanted - payment.applied, len(platform.looks)) == (None, 0, 2)


@pytest.mark.parametrize("error", [Refused("get_payment: HTTP 400"), PaymentUnknown("get_payment: HTTP 404")])
def test_an_event_that_comes_during_a_look_that_parks_is_looked_at(
    reconciler: Reconciler, platform: FakePlatform, deliver: Deliver, paper: Paper, error: Exception
) -> None:
    """The no was said before the event came: it is not an answer to it."""
    late: list[int] = []

    def another_event_comes() -> None:
        late.extend(deliver("3254564310"))
        reconciler.event(late[0])

    (event_key,) = deliver("3254564310")
    if isinstance(error, PaymentUnknown):
        platform.errors.extend([error] * 4)
        for _ in range(4):
            reconciler.event(event_key)
            paper.open_the_gate()
    platform.errors.append(error)
    platform.during = another_event_comes

    follow = reconciler.event(event_key)

    assert paper.open_events() == [event_key, *late]
    assert follow is not None
    paper.open_the_gate()
    reconciler.payment(follow.payment_key)
    assert paper.event(late[0]).outcome == "reconciled"


def test_a_request_during_a_look_that_parks_is_looked_into(
    reconciler: Reconciler, platform: FakePlatform, deliver: Deliver, paper: Paper, database: Database
) -> None:
    """Somebody asks while the platform is about to refuse: the request was accepted, so it leads to a look."""

    def somebody_asks() -> None:
        key = request(database, frozenset([MERCHANT]), gap_seconds=2, payment_id="3254564310", merchant_id=None)
        assert reconciler.payment(key) is None  # the holder sees to it

    platform.errors.append(Refused("get_payment: HTTP 400"))
    platform.during = somebody_asks

    follow = reconciler.event(deliver("3254564310")[0])

    payment = paper.payment("3254564310")
    assert payment.due_at is not None
    assert follow is not None


def test_a_fault_of_ours_costs_a_back_off(
    reconciler: Reconciler, platform: FakePlatform, deliver: Deliver, paper: Paper
) -> None:
    """An exception nobody thought of neither escapes nor holds the claim; its text is not stored."""
    platform.errors.append(RuntimeError("4111111111111111"))
    (event_key,) = deliver("3254564310")

    follow = reconciler.event(event_key)

    payment = paper.payment("3254564310")
    assert follow is not None
    assert follow.seconds <= 1
    assert (payment.claim_token, payment.failures) == (None, 1)
    assert payment.problem == "the platform gave no answer: a fault of payhook: RuntimeError"
    paper.open_the_gate()
    assert reconciler.event(event_key) is None
    assert paper.open_events() == []


def test_the_text_of_an_unknown_exception_is_not_logged(
    reconciler: Reconciler, platform: FakePlatform, deliver: Deliver, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may hold what the platform sent: a card number, a name."""
    platform.errors.append(RuntimeError("4111111111111111"))

    reconciler.event(deliver("3254564310")[0])

    logged = "".join(capsys.readouterr())
    assert "RuntimeError" in logged
    assert "4111111111111111" not in logged


def test_an_answer_that_cannot_be_written_costs_a_back_off(
    reconciler: Reconciler, platform: FakePlatform, deliver: Deliver, paper: Paper
) -> None:
    """Captures that add up to more than a column holds put this payment off; they do not hold it for a lease."""
    captures = [moved(f"3254564310_{number}", CAPTURE, 2**62) for number in (1, 2)]
    platform.truth["3254564310"] = view_of("3254564310", *captures, code=9)

    follow = reconciler.event(deliver("3254564310")[0])

    payment = paper.payment("3254564310")
    assert follow is not None
    assert (payment.claim_token, payment.failures) == (None, 1)
    assert "a fault of payhook" in payment.problem


def test_an_event_of_a_merchant_that_is_not_ours_is_quarantined(
    reconciler: Reconciler, platform: FakePlatform, deliver: Deliver, paper: Paper
) -> None:
    """An ingress that does not know the merchants keeps it; the worker never asks the platform for it."""
    (event_key,) = deliver("3254564310", merchant_id="stranger")

    assert reconciler.event(event_key) is None

    event = paper.event(event_key)
    assert (event.outcome, event.problem, event.due_at) == ("quarantined", NOT_OURS, None)
    assert platform.looks == []
    assert paper.payments() == []


def test_a_payment_of_a_merchant_that_is_no_longer_ours_is_parked(
    reconciler: Reconciler, platform: FakePlatform, paper: Paper, database: Database
) -> None:
    """A merchant taken out of the settings: its payments wait, with the reason, and nobody else's key is used."""
    with database.transaction() as connection:
        payment_key = raise_hint(connection, "former", "3254564310", 2)

    assert reconciler.payment(payment_key) is None

    payment = paper.payment("3254564310", "former")
    assert (payment.due_at, payment.problem) == (None, f"the platform refuses the request: {NOT_OURS}")
    assert platform.looks == []


# Requests


def test_a_request_makes_a_payment_known_and_wanted(
    database: Database, reconciler: Reconciler, platform: FakePlatform, paper: Paper
) -> None:
    """A payment nobody spoke of becomes a row that is due now; a ring for it looks."""
    key = request(database, frozenset([MERCHANT]), gap_seconds=2, payment_id="9000003254564310000", merchant_id=None)

    payment = paper.payment("3254564310")
    assert (payment.payment_key, payment.wanted, payment.applied, payment.state) == (key, 1, 0, "created")
    assert (paper.due_in(payment) or 0) <= 0

    assert reconciler.payment(key) is None
    assert paper.payment("3254564310").state == "authorised"
    assert platform.looks_at("3254564310") == 1


def test_a_request_ends_a_back_off_but_not_the_gap(
    database: Database, reconciler: Reconciler, platform: FakePlatform, deliver: Deliver, paper: Paper
) -> None:
    """A person who asks waits for the gap and not for an outage's back-off; the platform's own pace is kept."""
    ours = frozenset([MERCHANT])
    platform.errors.extend([TryAgain("get_payment: HTTP 503")] * 7)
    (event_key,) = deliver("3254564310")
    for _ in range(7):
        paper.open_the_gate()
        reconciler.event(event_key)

    key = request(database, ours, gap_seconds=2, payment_id="3254564310", merchant_id=MERCHANT)

    assert 0 < (paper.closed_for(paper.payment("3254564310")) or 0) <= 2
    paper.open_the_gate()
    assert reconciler.payment(key) is None
    assert paper.open_events() == []
    assert len(platform.looks) == 8

    request(database, ours, gap_seconds=2, payment_id="3254564310", merchant_id=MERCHANT)
    follow = reconciler.payment(key)

    assert follow is not None
    assert 0 < follow.seconds <= 0.3
    assert len(platform.looks) == 8


@pytest.mark.parametrize(
    ("asked", "merchants", "reason"),
    [
        ({"payment_id": "12/../34", "merchant_id": None}, {"acme"}, "payment_id is not a payment's id"),
        ({"payment_id": 3254564310, "merchant_id": None}, {"acme"}, "payment_id is not a payment's id"),
        ({"payment_id": None, "merchant_id": None}, {"acme"}, "payment_id is not a payment's id"),
        ({"payment_id": "\ud800", "merchant_id": None}, {"acme"}, "payment_id is not a payment's id"),
        ({"payment_id": "3254564310", "merchant_id": None}, {"acme", "other"}, "merchant_id is missing"),
        ({"payment_id": "3254564310", "merchant_id": "stranger"}, {"acme"}, "merchant_id is not one of ours"),
        ({"payment_id": "3254564310", "merchant_id": 5}, {"acme"}, "merchant_id is not one of ours"),
        (
            {"payment_id": "3254564310", "merchant_id": None, "unknown": ("amount",)},
            {"acme"},
            "arguments besides payment_id and merchant_id",
        ),
    ],
)
def test_a_request_that_cannot_be_accepted_is_in_the_journal(
    database: Database, paper: Paper, asked: dict[str, Any], merchants: set[str], reason: str
) -> None:
    """It names no payment of ours, so its reason is all that is kept, and no payment is made."""
    with pytest.raises(CannotAccept, match=reason):
        request(database, frozenset(merchants), gap_seconds=2, **asked)

    (line,) = paper.journal()
    assert line[:2] == (None, "refused")
    assert reason in line[2]
    assert paper.payments() == []


@pytest.mark.parametrize("merchant_id", [["acme"], {"id": "acme"}])
def test_a_request_whose_merchant_is_no_text_is_in_the_journal(
    database: Database, paper: Paper, merchant_id: object
) -> None:
    """Whatever JSON a caller sends, the request is refused with its reason and not lost."""
    with pytest.raises(CannotAccept):
        request(database, frozenset([MERCHANT]), gap_seconds=2, payment_id="3254564310", merchant_id=merchant_id)

    assert len(paper.journal()) == 1


def test_a_request_with_a_nul_in_it_is_in_the_journal(postgres: Database) -> None:
    """What no database takes is written in a form that it does take."""
    with pytest.raises(CannotAccept):
        request(postgres, frozenset([MERCHANT]), gap_seconds=2, payment_id="32545\x0064310", merchant_id=None)

    with postgres.reading() as connection:
        assert connection.execute(select(func.count()).select_from(JournalEntry)).scalar_one() == 1


# Lost claims


@pytest.mark.parametrize("the_paused_one_writes", ["before the other", "after the other"])
def test_a_holder_whose_lease_ended_writes_nothing(
    database: Database,
    reconciler: Reconciler,
    platform: FakePlatform,
    deliver: Deliver,
    paper: Paper,
    settings: Settings,
    the_paused_one_writes: str,
) -> None:
    """A process that was stopped for longer than its lease comes back with an old answer: the other's record stays."""
    (event_key,) = deliver("3254564310")
    with database.transaction() as connection:
        payment_key = raise_hint(connection, MERCHANT, "3254564310", 2)
        paused = claim_payment(connection, payment_key, settings)
    old_answer = platform.look("3254564310", seconds=1)
    platform.truth["3254564310"] = view_of("3254564310", code=9)
    paper.open_the_gate()

    def it_writes() -> None:
        with pytest.raises(records.LostClaim), database.transaction() as connection:
            records.replace(connection, paused, old_answer, settings)  # type: ignore[arg-type]

    if the_paused_one_writes == "before the other":
        platform.during = it_writes
        reconciler.event(event_key)
    else:
        reconciler.event(event_key)
        before = paper.payments(), paper.events(), paper.journal()
        it_writes()
        assert (paper.payments(), paper.events(), paper.journal()) == before

    payment = paper.payment("3254564310")
    assert (payment.state, payment.status_code, payment.claims) == ("captured", 9, 0)
    assert paper.open_events() == []


def test_a_holder_that_lost_its_claim_during_the_look_lets_go_quietly(
    reconciler: Reconciler, platform: FakePlatform, deliver: Deliver, paper: Paper
) -> None:
    """Whether it has an answer, an error or a definitive no: none of it is written over the other's claim."""
    for outcome in (None, TryAgain("get_payment: HTTP 503"), Refused("get_payment: HTTP 400")):
        payment_id = str(1000000000 + len(platform.looks))
        (event_key,) = deliver(payment_id)
        if outcome is not None:
            platform.errors.append(outcome)

        def another_takes_over(payment_id: str = payment_id) -> None:
            paper.change_payment(paper.payment(payment_id).payment_key, claim_token="another's")

        platform.during = another_takes_over

        assert reconciler.event(event_key) is None

        payment = paper.payment(payment_id)
        assert (payment.claim_token, payment.refreshed_at, payment.problem) == ("another's", None, None)
        assert (payment.failures, payment.claims) == (0, 1)
        assert paper.event(event_key).done_at is None
