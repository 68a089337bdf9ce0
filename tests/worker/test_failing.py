"""A payment whose looks never succeed ends parked; in an outage none does, however long it lasts."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import select

from tests.worker.conftest import MERCHANT, Deliver, FakePlatform, Paper, moved, settings_of, view_of
from tests.worker.till import PAYMENT, Till
from worker.database import Database
from worker.gateways.gateway import (
    CredentialsRefused,
    GatewayError,
    OutcomeUnknown,
    PaymentUnknown,
    PaymentView,
    SlowDown,
    TryAgain,
)
from worker.lifecycle import MovementKind, MovementState
from worker.models import Payment
from worker.reconciliation import Reconciler
from worker.reconciliation.polling import OUTAGE_FAILURES, OWN_FAILURES
from worker.traffic import trouble

CAPTURE = MovementKind.CAPTURE

POISON = "6660000000"
OTHERS = tuple(str(1000000000 + number) for number in range(6))

#: Each with the words of its problem.
NO_ANSWERS = [
    pytest.param(TryAgain("get_payment: HTTP 500", http_status=500), "the platform gave no answer", id="500"),
    pytest.param(TryAgain("get_payment: no answer in time"), "the platform gave no answer", id="hangs"),
    pytest.param(OutcomeUnknown("get_payment: broke off"), "the platform gave no answer", id="breaks"),
    pytest.param(CredentialsRefused("get_payment: HTTP 403", http_status=403), "refuses our credentials", id="403"),
    pytest.param(RuntimeError("bug"), "a fault of payhook: RuntimeError", id="a fault of ours"),
]


class Poisonous(FakePlatform):
    """A platform that has no answer for some payments, whoever asks and however often."""

    def __init__(self) -> None:
        super().__init__()
        self.poison: dict[str, Exception] = {}

    def look(self, payment_id: str, *, seconds: float) -> PaymentView:
        view = super().look(payment_id, seconds=seconds)
        if payment_id in self.poison:
            raise self.poison[payment_id]
        return view


@pytest.fixture
def platform() -> Poisonous:
    return Poisonous()


class House:
    """Payments that are looked at again and again; back-offs pass at once."""

    def __init__(self, database: Database, platform: Poisonous, deliver: Deliver) -> None:
        # A circuit that opens may be tried again at once.
        settings = settings_of(circuit_seconds=(0.001, 0.001))
        self.database, self.platform, self.deliver, self.paper = database, platform, deliver, Paper(database)
        self.reconciler = Reconciler(database, {MERCHANT: platform}, settings)

    def event(self, payment_id: str) -> int:
        """An event comes, and is rung for."""
        self.paper.open_the_gate()
        (key,) = self.deliver(payment_id)
        self.reconciler.event(key)
        return key

    def try_again(self, payment_id: str, times: int) -> None:
        """The payment is rung for whenever its back-off is over."""
        for _ in range(times):
            self.paper.open_the_gate()
            self.reconciler.payment(self.paper.payment(payment_id).payment_key)

    def answered_for_others(self) -> None:
        for payment_id in OTHERS:
            self.event(payment_id)

    def parked(self) -> set[str]:
        chosen = select(Payment.payment_id).where(Payment.problem.is_not(None), Payment.due_at.is_(None))
        with self.database.reading() as connection:
            return set(connection.execute(chosen).scalars())


@pytest.fixture
def house(database: Database, platform: Poisonous, deliver: Deliver) -> House:
    return House(database, platform, deliver)


@pytest.mark.parametrize(("error", "said"), NO_ANSWERS)
def test_a_payment_that_always_fails_ends_parked(
    house: House, platform: Poisonous, error: Exception, said: str
) -> None:
    """After twenty looks in a row, while other payments are answered for: with its reason, and its event set aside."""
    house.answered_for_others()
    platform.poison[POISON] = error
    key = house.event(POISON)

    house.try_again(POISON, OWN_FAILURES - 2)
    before = house.parked(), house.paper.event(key).done_at
    house.try_again(POISON, 1)

    payment, event = house.paper.payment(POISON), house.paper.event(key)
    assert before == (set(), None)
    assert house.parked() == {POISON}
    assert (payment.claim_token, payment.failures, platform.looks_at(POISON)) == (None, OWN_FAILURES, OWN_FAILURES)
    assert said in payment.problem
    assert "20 times in a row, while other payments were answered for" in payment.problem
    assert (event.outcome, event.problem) == ("quarantined", f"its payment is parked: {payment.problem}")
    assert house.paper.journal()[-1] == ("created", "created", f"parked: {payment.problem}")


def test_an_event_has_a_parked_payment_looked_at_again(house: House, platform: Poisonous) -> None:
    """Once for each event while its trouble lasts; when that is over, it is as if it had never been."""
    house.answered_for_others()
    platform.poison[POISON] = TryAgain("get_payment: HTTP 500")
    house.event(POISON)
    house.try_again(POISON, OWN_FAILURES - 1)

    again = house.event(POISON)

    assert house.parked() == {POISON}
    assert house.paper.event(again).outcome == "quarantined"
    assert platform.looks_at(POISON) == OWN_FAILURES + 1

    platform.poison.clear()
    last = house.event(POISON)

    payment = house.paper.payment(POISON)
    assert (payment.state, payment.problem, payment.failures) == ("authorised", None, 0)
    assert (payment.wanted - payment.applied, house.paper.event(last).outcome) == (0, "reconciled")


def test_an_outage_parks_nothing(house: House, platform: Poisonous) -> None:
    """Two days of it or two minutes: every payment is tried until it is answered for, and then in line."""
    house.answered_for_others()
    platform.poison = dict.fromkeys(OTHERS, TryAgain("get_payment: HTTP 503"))
    keys = [house.event(payment_id) for payment_id in OTHERS]

    for _ in range(2 * OWN_FAILURES):
        for payment_id in OTHERS:
            house.try_again(payment_id, 1)
    in_outage = house.parked(), {house.paper.payment(payment_id).failures for payment_id in OTHERS}
    platform.poison.clear()
    platform.truth = {
        payment_id: view_of(payment_id, moved(f"{payment_id}_1", CAPTURE, 1000), code=9) for payment_id in OTHERS
    }
    for payment_id in OTHERS:
        house.try_again(payment_id, 2)

    assert in_outage[0] == set()
    assert max(in_outage[1]) <= OUTAGE_FAILURES
    assert {house.paper.payment(payment_id).state for payment_id in OTHERS} == {"captured"}
    assert {house.paper.event(key).outcome for key in keys} == {"reconciled"}


def test_an_outage_parks_nothing_of_a_merchant_with_few_payments(
    house: House, platform: Poisonous, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its circuit may never open: what tells is that nobody else is answered for any more."""
    house.answered_for_others()
    monkeypatch.setattr(trouble, "MEANWHILE_SECONDS", 0.0)  # so long ago
    platform.poison[POISON] = TryAgain("get_payment: HTTP 503")
    house.event(POISON)

    house.try_again(POISON, 2 * OWN_FAILURES)

    payment = house.paper.payment(POISON)
    assert (house.parked(), payment.failures) == (set(), OUTAGE_FAILURES)


def test_an_outage_of_a_part_of_the_platform_parks_nothing(house: House, platform: Poisonous) -> None:
    """It answers for others all the while: so many that fail have no trouble of their own."""
    poisoned = [str(int(POISON) + number) for number in range(7)]
    platform.poison = dict.fromkeys(poisoned, TryAgain("get_payment: HTTP 500", http_status=500))
    house.answered_for_others()
    for payment_id in poisoned:
        house.event(payment_id)

    for _ in range(2 * OWN_FAILURES):
        for payment_id in poisoned:
            house.try_again(payment_id, 1)
            house.reconciler._traffic.made(MERCHANT, int(OTHERS[0]), None)

    assert house.parked() == set()


def test_a_platform_that_asks_for_fewer_requests_parks_nothing(house: House, platform: Poisonous) -> None:
    """A 429 says nothing of the payment."""
    house.answered_for_others()
    platform.poison[POISON] = SlowDown("get_payment: HTTP 429", http_status=429)
    house.event(POISON)

    house.try_again(POISON, 2 * OWN_FAILURES)

    assert (house.parked(), house.paper.payment(POISON).failures) == (set(), OUTAGE_FAILURES)


def test_an_outage_after_its_own_trouble_parks_nothing(
    house: House, platform: Poisonous, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was counted stays, and goes on when others are answered for again."""
    house.answered_for_others()
    platform.poison[POISON] = TryAgain("get_payment: HTTP 500")
    house.event(POISON)
    house.try_again(POISON, OWN_FAILURES - 2)
    with monkeypatch.context() as outage:
        outage.setattr(trouble, "MEANWHILE_SECONDS", 0.0)
        house.try_again(POISON, OWN_FAILURES)
    in_outage = house.parked(), house.paper.payment(POISON).failures

    house.try_again(POISON, 1)

    assert in_outage == (set(), OWN_FAILURES - 1)
    assert house.parked() == {POISON}


def test_an_event_of_a_parked_payment_in_an_outage_is_kept_open(
    house: House, platform: Poisonous, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can tell whose trouble it is now: the payment is tried until somebody can."""
    house.answered_for_others()
    platform.poison[POISON] = TryAgain("get_payment: HTTP 500")
    house.event(POISON)
    house.try_again(POISON, OWN_FAILURES - 1)
    assert house.parked() == {POISON}
    monkeypatch.setattr(trouble, "MEANWHILE_SECONDS", 0.0)

    key = house.event(POISON)

    assert (house.parked(), house.paper.event(key).done_at) == (set(), None)


def test_a_payment_unknown_after_an_outage_has_all_its_tries(house: House, platform: Poisonous) -> None:
    """A replica may lag behind when the platform comes back: the failures before were no answers."""
    platform.poison[POISON] = TryAgain("get_payment: HTTP 503")
    house.event(POISON)
    house.try_again(POISON, OWN_FAILURES)
    platform.poison[POISON] = PaymentUnknown("get_payment: HTTP 404", http_status=404)

    house.try_again(POISON, 4)
    before = house.parked()
    house.try_again(POISON, 1)

    assert before == set()
    assert house.parked() == {POISON}


# Money under way


@pytest.fixture
def till(database: Database, platform: Poisonous, deliver: Deliver) -> Till:
    """A process that moves money, whose platform answers for others."""
    till = Till(database, platform, settings_of())
    for payment_id in OTHERS:
        till.reconciler.event(deliver(payment_id)[0])
    return till


def fail(till: Till, platform: Poisonous, error: GatewayError, times: int) -> None:
    platform.poison[PAYMENT] = error
    paper = Paper(till.database)
    for _ in range(times):
        paper.open_the_gate()
        till.reconciler.payment(till.payment().payment_key)


def lose_the_answer(platform: FakePlatform) -> None:
    platform.lost.append(OutcomeUnknown("capture_payment: no answer"))


@pytest.mark.parametrize(
    ("before_sending", "state"),
    [pytest.param(lambda _: None, "accepted", id="accepted"), pytest.param(lose_the_answer, "unknown", id="unknown")],
)
def test_money_under_way_keeps_its_payment_from_being_parked(
    till: Till, platform: Poisonous, before_sending: Callable[[FakePlatform], None], state: str
) -> None:
    """Only a look tells what became of it: the payment says what is wrong, and is tried until it is known."""
    before_sending(platform)
    key = till.sent(CAPTURE, 1000)
    fail(till, platform, TryAgain("get_payment: HTTP 500"), OWN_FAILURES + 5)

    payment = till.payment()
    due = Paper(till.database).due_in(payment)
    assert till.row(key).state == state
    assert 0 < (due or 0) <= till.settings.retry_max_seconds
    assert "HTTP 500 (20 times in a row" in payment.problem

    platform.poison.clear()
    (movement,) = platform.done.values()
    platform.truth[PAYMENT] = view_of(PAYMENT, replace(movement, state=MovementState.DONE), code=9)
    Paper(till.database).open_the_gate()
    till.reconciler.payment(payment.payment_key)

    assert till.row(key).state == "succeeded"


def test_money_that_was_never_promised_is_refused_with_the_reason(till: Till, platform: Poisonous) -> None:
    """A request waits for a look that never comes: with the payment parked, whoever asked is told."""
    key = till.ask(CAPTURE, 1000)
    till.step(key)

    fail(till, platform, TryAgain("get_payment: HTTP 500"), OWN_FAILURES)

    assert (till.payment().due_at, till.row(key).state) == (None, "refused")
    assert "HTTP 500" in till.row(key).reason
    assert platform.sent == []
