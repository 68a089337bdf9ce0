"""Looks take turns: a payment waits for its own, keeps it, pays once, and says so when the platform is not asked."""

import time
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select

from tests.worker.conftest import MERCHANT, Deliver, FakePlatform, Paper, settings_of
from tests.worker.till import PAYMENT, Till
from worker.database import Database, seconds_from_now
from worker.gateways.gateway import TryAgain
from worker.lifecycle import MovementKind
from worker.models import BUDGET_FACT, Fact
from worker.reconciliation import Reconciler, turns
from worker.settings import Settings
from worker.traffic import Traffic
from worker.traffic.budget import SHARES, Budget, Lane

#: Looks have four fifths of it.
PER_SECOND = 10.0


@pytest.fixture
def settings() -> Settings:
    return settings_of(budget_per_second=PER_SECOND)


def taken_until(database: Database) -> float:
    """How far the looks' slots are taken."""
    with database.reading() as connection:
        value = connection.execute(select(Fact.value).where(Fact.name == f"{BUDGET_FACT}{MERCHANT}")).scalar_one()
    return float(value[Lane.LOOKS])


def use_up(database: Database, seconds: float) -> None:
    """As if others had taken the looks' slots of so many seconds from now on."""
    Budget(database, PER_SECOND).reserve(MERCHANT, Lane.LOOKS, int((seconds + 2) * PER_SECOND * 0.8))


def test_a_payment_waits_for_its_turn_and_pays_for_it_once(
    database: Database, reconciler: Reconciler, platform: FakePlatform, deliver: Deliver, paper: Paper
) -> None:
    """Put back with the time of its slots; when that has come it is looked at without taking any more, and its event
    waits with it."""
    use_up(database, 20.0)
    (event_key,) = deliver(PAYMENT)

    follow = reconciler.event(event_key)
    put_back, taken, looks = paper.payment(PAYMENT), taken_until(database), len(platform.looks)
    again = reconciler.payment(put_back.payment_key)
    # Its time comes.
    paper.change_payment(put_back.payment_key, claimed_until=seconds_from_now(-0.1), turn_at=seconds_from_now(-0.1))
    reconciler.payment(put_back.payment_key)

    assert follow is not None
    assert follow.seconds == pytest.approx(20, abs=2)
    assert again is not None  # too early: a ring costs it neither its place nor another slot
    assert paper.due_in(put_back) == pytest.approx(follow.seconds, abs=1)
    assert put_back.turn_at == put_back.claimed_until == put_back.due_at
    assert (put_back.claims, put_back.failures, put_back.problem) == (0, 0, None)
    assert looks == 0
    assert len(platform.looks) == 1
    assert taken_until(database) == taken
    assert paper.event(event_key).outcome == "reconciled"
    assert paper.payment(PAYMENT).turn_at is None


def test_a_turn_that_was_missed_is_taken_anew(
    database: Database, reconciler: Reconciler, platform: FakePlatform, deliver: Deliver, paper: Paper
) -> None:
    """Long after it has come, others have had it."""
    use_up(database, 20.0)
    (event_key,) = deliver(PAYMENT)
    reconciler.event(event_key)
    payment, taken = paper.payment(PAYMENT), taken_until(database)
    long_ago = seconds_from_now(-turns.KEPT.total_seconds() - 1)
    paper.change_payment(payment.payment_key, claimed_until=long_ago, turn_at=long_ago)

    reconciler.payment(payment.payment_key)

    assert platform.looks == []
    assert taken_until(database) > taken


def test_a_turn_that_comes_while_the_platform_is_away_is_none(
    database: Database, settings: Settings, platform: FakePlatform, deliver: Deliver, paper: Paper
) -> None:
    """Whatever was waiting for its turn when the circuit opened does not ask in vain, and says what it waits for."""
    traffic = Traffic(database, settings)
    reconciler = Reconciler(database, {MERCHANT: platform}, settings, traffic=traffic)
    use_up(database, 20.0)
    (event_key,) = deliver(PAYMENT)
    reconciler.event(event_key)
    payment = paper.payment(PAYMENT)
    for subject in range(5):
        traffic.made(MERCHANT, subject, TryAgain("no answer: ConnectTimeout"))
    paper.change_payment(payment.payment_key, claimed_until=seconds_from_now(-0.1), turn_at=seconds_from_now(-0.1))

    reconciler.payment(payment.payment_key)

    waiting = paper.payment(PAYMENT)
    assert platform.looks == []
    assert waiting.problem == "the platform is not asked for now: no answer: ConnectTimeout"
    assert paper.event(event_key).problem == waiting.problem
    assert waiting.turn_at is None
    assert 0 < (paper.due_in(waiting) or 0) <= 2 + 4


def test_a_look_that_an_operation_waits_for_goes_first(
    database: Database, platform: FakePlatform, settings: Settings, paper: Paper
) -> None:
    """With the looks' slots taken for a minute, it has those of the operations; the looks' are left as they were."""
    till = Till(database, platform, settings)
    till.look()
    use_up(database, 60.0)
    taken = taken_until(database)
    looks = len(platform.looks)
    till.ask(MovementKind.CAPTURE)

    till.look()

    assert len(platform.looks) == looks + 1
    assert taken_until(database) <= taken + 1
    assert till.states() == ["planned"]


def test_a_look_for_an_operation_takes_the_earlier_of_both_turns(database: Database, settings: Settings) -> None:
    """Where the operations' lane is the longer one, it leaves that to requests that have no other."""
    traffic = Traffic(database, settings)
    use_up(database, 20.0)
    Budget(database, PER_SECOND).reserve(MERCHANT, Lane.OPERATIONS, int(32 * PER_SECOND * 0.2))
    began, operations = time.monotonic(), traffic.operation_turn(MERCHANT, within=0).seconds

    look = traffic.turn(MERCHANT, 4, for_operation=lambda: True)

    still = traffic.operation_turn(MERCHANT, within=0).seconds
    assert operations > 25
    assert 15 < look.seconds < 22
    assert still == pytest.approx(operations - (time.monotonic() - began), abs=0.01)


@pytest.mark.parametrize(
    ("state", "code", "looked_at", "calls"),
    [
        ("created", None, False, 4),
        ("created", 0, True, 1),
        ("pending", 51, True, 1),
        ("pending", 4, True, 4),
        ("authorised", 5, True, 3),
        ("captured", 9, True, 4),
        ("cancelled", 6, True, 4),
    ],
)
def test_a_look_is_paid_for_by_where_its_payment_stood(
    state: str, code: int | None, looked_at: bool, calls: int
) -> None:
    """A first one by the most there may be: what many that wait in line do not need is given back, never overdrawn."""
    payment: Any = SimpleNamespace(state=state, status_code=code, refreshed_at=looked_at or None)

    assert turns.calls_of(payment) == calls


def test_a_first_look_gives_back_what_it_did_not_need(
    database: Database, reconciler: Reconciler, deliver: Deliver
) -> None:
    """Looks of one request each at payments unknown so far cost the budget one each in the end."""
    begin = None
    for number in range(12):
        (event_key,) = deliver(str(1_000_000_000 + number))
        reconciler.event(event_key)
        begin = begin or taken_until(database)

    taken = (taken_until(database) - (begin or 0.0)) * PER_SECOND * SHARES[Lane.LOOKS]
    assert taken <= 12 + 2 * turns.MOST_CALLS
