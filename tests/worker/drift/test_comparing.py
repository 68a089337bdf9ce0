"""A difference is told when it is one: of no payment that moves, of no replica that lags; and within the budget."""

import time
from dataclasses import replace
from itertools import takewhile
from typing import Any

import pytest
from sqlalchemy import delete, insert

from tests.worker.conftest import MERCHANT, Deliver, FakePlatform, Paper, settings_of, view_of
from tests.worker.drift.conftest import CAPTURED, PAYMENT, Compare, Know
from worker.database import Database, now
from worker.drift import Comparer, Verdict, comparing, counted
from worker.gateways.gateway import CredentialsRefused, PaymentUnknown, SlowDown, TryAgain
from worker.models import Fact, Movement, Operation, Payment
from worker.reconciliation import Reconciler
from worker.reconciliation.claims import claim_payment, raise_hint
from worker.settings import Settings
from worker.traffic import Traffic

REFUNDED = replace(CAPTURED, status_code=8, status="REFUNDED")


def dump(database: Database) -> list[Any]:
    """Everything but the budget's and the circuit's facts."""
    with database.reading() as connection:
        tables = [Payment.metadata.tables[name] for name in ("payments", "movements", "journal", "webhook_events")]
        return [connection.execute(table.select()).all() for table in tables]


def test_comparing_writes_nothing(know: Know, compare: Compare, platform: FakePlatform, database: Database) -> None:
    """Neither a payment, nor what moved, nor a line in the journal."""
    keys = [know(), know(view_of("1000000001"))]
    platform.truth[PAYMENT] = REFUNDED
    before = dump(database)

    assert [one.verdict for one in compare(keys)] == [Verdict.DIFFERENT, Verdict.EQUAL]

    assert dump(database) == before


def test_a_difference_is_looked_at_twice_before_it_is_told(
    know: Know, compare: Compare, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the lag of the platform's replicas between the two looks; what is equal is looked at once."""
    keys = [know(), know(view_of("1000000001"))]
    monkeypatch.setattr(comparing, "LAG_SECONDS", 0.4)
    platform.truth[PAYMENT] = REFUNDED
    platform.looks.clear()

    compare(keys)

    assert (platform.looks_at(PAYMENT), platform.looks_at("1000000001")) == (2, 1)
    assert platform.shortest_gap() >= 0.4


def test_a_replica_that_lags_is_no_difference(know: Know, compare: Compare, platform: FakePlatform) -> None:
    """The first look shows an older state, the second one what we have."""
    key = know()
    platform.truth[PAYMENT] = view_of(PAYMENT)
    platform.during = lambda: platform.truth.update({PAYMENT: CAPTURED})

    assert [one.verdict for one in compare([key])] == [Verdict.EQUAL]


def test_two_looks_that_disagree_are_not_yet_a_difference(
    know: Know, compare: Compare, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A third one decides; before it, nothing is certain."""
    key = know()
    later = [REFUNDED, replace(REFUNDED, merchant_reference="order-2")]
    platform.truth[PAYMENT] = view_of(PAYMENT)
    look = platform.look

    def changing(payment_id: str, *, seconds: float) -> Any:
        view = look(payment_id, seconds=seconds)
        if later:
            platform.truth[PAYMENT] = later.pop(0)
        return view

    monkeypatch.setattr(platform, "look", changing)

    assert [one.verdict for one in compare([key])] == [Verdict.IN_MOTION]


def test_a_payment_that_was_looked_at_meanwhile_is_compared_once_more(
    know: Know, compare: Compare, platform: FakePlatform, reconciler: Reconciler, deliver: Deliver, paper: Paper
) -> None:
    """A webhook told of the change while we compared: our record is in line by then."""
    key = know()
    platform.truth[PAYMENT] = REFUNDED

    def webhook() -> None:
        paper.open_the_gate()
        reconciler.event(deliver(PAYMENT)[0])

    platform.during = webhook

    assert [one.verdict for one in compare([key])] == [Verdict.EQUAL]
    assert platform.looks_at(PAYMENT) == 4


def _claim(database: Database, key: int, deliver: Deliver, settings: Settings, paper: Paper) -> None:
    paper.open_the_gate()
    with database.transaction() as connection:
        raise_hint(connection, MERCHANT, PAYMENT, 0.1)
        assert claim_payment(connection, key, settings) is not None


def _hint(database: Database, key: int, deliver: Deliver, settings: Settings, paper: Paper) -> None:
    with database.transaction() as connection:
        raise_hint(connection, MERCHANT, PAYMENT, 0.1)


def _event(database: Database, key: int, deliver: Deliver, settings: Settings, paper: Paper) -> None:
    deliver(PAYMENT)


def _send(database: Database, key: int, deliver: Deliver, settings: Settings, paper: Paper) -> None:
    named = {"operation_uuid": "u", "source": "s", "request_id": "r", "request_sha256": b"", "payment_id": PAYMENT}
    money = {"kind": "refund", "amount": 1, "currency": "EUR", "state": "sending", "created_at": now()}
    with database.transaction() as connection:
        connection.execute(insert(Operation).values(payment_key=key, **named, **money))


@pytest.mark.parametrize("happens", [_claim, _hint, _event, _send])
def test_a_payment_in_motion_is_told_as_such(
    know: Know,
    compare: Compare,
    platform: FakePlatform,
    database: Database,
    deliver: Deliver,
    settings: Settings,
    paper: Paper,
    happens: Any,
) -> None:
    """Somebody looks at it or is about to, or money of it is on its way: what differs is about to be in line."""
    key = know()
    platform.truth[PAYMENT] = REFUNDED
    happens(database, key, deliver, settings, paper)

    (found,) = compare([key])

    assert found.verdict is Verdict.IN_MOTION
    assert counted({found.verdict: 1}) == {"compared": 1, "different": 0, "in_motion": 1, "failed": 0}


def test_a_parked_payment_is_not_in_motion(know: Know, compare: Compare, platform: FakePlatform, paper: Paper) -> None:
    """Its hint waits for nobody: that it differs is told."""
    key = know()
    platform.truth[PAYMENT] = REFUNDED
    paper.change_payment(key, wanted=5, due_at=None, problem="parked")

    assert [one.verdict for one in compare([key])] == [Verdict.DIFFERENT]


def test_a_look_without_an_answer_is_made_again(know: Know, compare: Compare, platform: FakePlatform) -> None:
    """Twice; an answer then is as good as one at once."""
    key = know()
    platform.errors += [TryAgain("HTTP 500"), SlowDown("HTTP 429", http_status=429)]

    assert [one.verdict for one in compare([key])] == [Verdict.EQUAL]


@pytest.mark.parametrize(
    ("errors", "why"),
    [
        ([TryAgain("HTTP 500"), TryAgain("HTTP 500"), TryAgain("HTTP 502")], "HTTP 502"),
        ([PaymentUnknown("HTTP 404 50001130")], "HTTP 404 50001130"),
        ([CredentialsRefused("HTTP 403")], "HTTP 403"),
        ([ZeroDivisionError("4330264936344675")], "a fault of payhook: ZeroDivisionError"),
    ],
)
def test_a_payment_that_cannot_be_compared_says_why(
    know: Know, compare: Compare, platform: FakePlatform, errors: list[Exception], why: str
) -> None:
    """And the others are compared all the same."""
    keys = [know(), know(view_of("1000000001"))]
    platform.errors += errors

    failed, other = compare(keys) if len(errors) == 1 else (compare(keys[:1])[0], compare(keys[1:])[0])

    assert (failed.verdict, failed.why, other.verdict) == (Verdict.FAILED, why, Verdict.EQUAL)


def test_a_payment_that_is_gone_is_not_told_of(know: Know, compare: Compare, database: Database) -> None:
    """Retention may have deleted it after it was chosen."""
    key = know()
    with database.transaction() as connection:
        connection.execute(delete(Movement))
        connection.execute(delete(Payment))

    assert compare([key, 4711]) == []


def test_an_open_circuit_ends_it_for_the_merchant(
    know: Know, platform: FakePlatform, database: Database, settings: Settings
) -> None:
    """Refused twice, the platform is not asked any more; whoever gives us keys learns that, and those left say why."""
    keys = [know(view_of(str(1_000_000_000 + number))) for number in range(8)]
    comparer = Comparer(database, {MERCHANT: platform}, settings, Traffic(database, settings))
    platform.errors += [CredentialsRefused("HTTP 403 of our key")] * 8
    platform.looks.clear()

    found = list(comparer.compare(takewhile(lambda _: not comparer.is_over, keys)))

    assert [one.verdict for one in found] == [Verdict.FAILED, Verdict.FAILED, Verdict.NOT_ASKED]
    assert (len(platform.looks), comparer.shut) == (2, {MERCHANT: "HTTP 403 of our key"})
    with database.reading() as connection:
        assert connection.execute(Fact.__table__.select().where(Fact.name == f"circuit:{MERCHANT}")).one().due_at


def test_several_looks_at_a_time_and_no_more(know: Know, compare: Compare, platform: FakePlatform) -> None:
    """As many as there are threads."""
    keys = [know(view_of(str(1_000_000_000 + number))) for number in range(12)]
    platform.slow = 0.02
    platform.most_at_once = 0

    assert len(compare(keys, threads=3)) == 12

    assert platform.most_at_once == 3


def test_the_budget_is_kept(know: Know, database: Database, platform: FakePlatform) -> None:
    """40 looks at 20 requests a second, of which four fifths are for looks: a burst of two seconds' worth at most at
    once, and the rest as they come."""
    keys = [know(view_of(str(1_000_000_000 + number), code=2)) for number in range(40)]
    settings = settings_of(budget_per_second=20)
    with database.transaction() as connection:
        connection.execute(delete(Fact))
    comparer = Comparer(database, {MERCHANT: platform}, settings, Traffic(database, settings), threads=8)
    platform.looks.clear()
    began = time.monotonic()

    assert len(list(comparer.compare(keys))) == 40

    took = time.monotonic() - began
    assert 16 * (took + 2) + 1 >= 40
    assert took < 3


def test_ended_early_no_other_look_begins(know: Know, database: Database, platform: FakePlatform) -> None:
    """What was found so far was told already."""
    keys = [know(view_of(str(1_000_000_000 + number))) for number in range(6)]
    settings = settings_of()
    found = Comparer(database, {MERCHANT: platform}, settings, Traffic(database, settings)).compare(keys)
    platform.looks.clear()

    next(found)
    found.close()

    looks = len(platform.looks)
    time.sleep(0.1)
    assert len(platform.looks) == looks <= 2
