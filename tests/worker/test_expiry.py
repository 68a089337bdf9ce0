"""Authorisations that run out: told once, in time, of what is not captured; and the policy knows."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.worker.conftest import MERCHANT, Deliver, FakePlatform, Paper, moved, settings_of, view_of
from worker.database import Database
from worker.gateways.gateway import Movement, PaymentView
from worker.lifecycle import MovementKind, MovementState
from worker.policies import PaymentFacts, Policy, Wanted
from worker.reconciliation import Reconciler
from worker.reports.standing import standing
from worker.settings import Settings

CAPTURE, CANCEL = MovementKind.CAPTURE, MovementKind.CANCEL
PENDING = MovementState.PENDING

PAYMENT = "3254564310"
HOUR, DAY = 3600.0, 86400.0

#: Seven days of authorisation, told two days before: five days in.
NOTICE_AT = 5 * DAY


class House:
    """One payment and the looks at it; time passes by making its authorisation older."""

    def __init__(
        self,
        database: Database,
        platform: FakePlatform,
        deliver: Deliver,
        settings: Settings,
        policies: Sequence[Policy] = (),
    ) -> None:
        self.paper, self.platform, self._deliver = Paper(database), platform, deliver
        self._reconciler = Reconciler(database, {MERCHANT: platform}, settings, {MERCHANT: policies})

    def look(self) -> None:
        self.paper.open_the_gate()
        self._reconciler.event(self._deliver(PAYMENT)[0])

    def pass_time(self, seconds: float) -> None:
        payment = self.paper.payment(PAYMENT)
        older = {
            name: getattr(payment, name) - timedelta(seconds=seconds)
            for name in ("authorised_at", "refreshed_at", "changed_at", "expires_at")
            if getattr(payment, name) is not None
        }
        self.paper.change_payment(payment.payment_key, **older)

    def notices(self) -> list[str]:
        return [why for before, after, why in self.paper.journal() if before == after and "ends about" in why]

    @property
    def days_left(self) -> float:
        payment = self.paper.payment(PAYMENT)
        return float((payment.expires_at - payment.authorised_at).total_seconds() / DAY)


@pytest.fixture
def house(database: Database, platform: FakePlatform, deliver: Deliver, settings: Settings) -> House:
    return House(database, platform, deliver, settings)


def of_product(view: PaymentView, product: object) -> PaymentView:
    return replace(view, snapshot={**view.snapshot, "paymentProductId": product})


@pytest.mark.parametrize(
    ("product", "days"),
    [
        pytest.param(840, 29, id="named"),
        pytest.param("840", 29, id="named, as text"),
        pytest.param(1, 7, id="not named"),
        pytest.param(None, 7, id="not told"),
    ],
)
def test_an_authorisation_lasts_as_its_product_says(
    database: Database, platform: FakePlatform, deliver: Deliver, product: object, days: float
) -> None:
    """The platform does not say when it ends; the settings do, by product, and by default for all others."""
    platform.truth[PAYMENT] = of_product(view_of(PAYMENT), product)
    house = House(database, platform, deliver, settings_of(authorisation_days={"default": 7, "840": 29}))

    house.look()

    assert house.days_left == pytest.approx(days, abs=0.001)


@pytest.mark.parametrize("code", [0, 46, 51, 2])
def test_what_is_not_authorised_does_not_run_out(house: House, platform: FakePlatform, code: int) -> None:
    """A payment that the shopper has not finished, or that was rejected, has no end."""
    platform.truth[PAYMENT] = view_of(PAYMENT, code=code)

    house.look()

    assert house.paper.payment(PAYMENT).expires_at is None
    assert house.notices() == []


def test_the_end_is_told_once_at_the_first_look_within_the_notice(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not before, and not again at every poll: one line in the journal, one in the log."""
    house.look()
    house.pass_time(NOTICE_AT - HOUR)
    house.look()
    before = house.notices()
    house.pass_time(2 * HOUR)

    house.look()
    house.pass_time(HOUR)
    house.look()

    (told,) = house.notices()
    assert before == []
    assert told.endswith("UTC with 1000 EUR not captured")
    assert f"{house.paper.payment(PAYMENT).expires_at + timedelta(hours=1):%Y-%m-%d %H}" in told
    assert "".join(capsys.readouterr()).count("authorisation.expiring") == 1


def test_a_payment_first_seen_near_its_end_is_told_of(
    database: Database, platform: FakePlatform, deliver: Deliver
) -> None:
    """An authorisation shorter than the notice is within it from its first look on."""
    house = House(database, platform, deliver, settings_of(authorisation_days={"default": 1}))

    house.look()
    house.look()

    assert len(house.notices()) == 1


@pytest.mark.parametrize(
    ("code", "movements"),
    [
        pytest.param(9, [moved("1_1", CAPTURE, 1000)], id="captured"),
        pytest.param(91, [moved("1_1", CAPTURE, 1000, PENDING)], id="its capture under way"),
        pytest.param(6, [moved("1_1", CANCEL, 1000)], id="cancelled"),
        pytest.param(5, [moved("1_1", CAPTURE, 400, PENDING), moved("1_2", CANCEL, 600)], id="nothing left of it"),
    ],
)
def test_of_what_is_captured_no_end_is_told(
    house: House, platform: FakePlatform, code: int, movements: list[Movement]
) -> None:
    """Nothing can be lost of it."""
    house.look()
    platform.truth[PAYMENT] = view_of(PAYMENT, *movements, code=code)
    house.pass_time(NOTICE_AT + HOUR)

    house.look()

    assert house.notices() == []


def test_what_is_left_is_told(house: House, platform: FakePlatform) -> None:
    """Half of it is captured: the end concerns the other half."""
    house.look()
    platform.truth[PAYMENT] = view_of(PAYMENT, moved("1_1", CAPTURE, 400, PENDING), code=5)
    house.pass_time(NOTICE_AT + HOUR)

    house.look()

    assert house.notices()[0].endswith("with 600 EUR not captured")


def test_a_look_comes_at_the_notice_however_long_the_polls_are(
    database: Database, platform: FakePlatform, deliver: Deliver
) -> None:
    """Polled for once a month, the payment is due when its end is to be told; afterwards its polls are as before."""
    house = House(database, platform, deliver, settings_of(poll_authorised_seconds=30 * DAY))
    house.look()
    first = house.paper.due_in(house.paper.payment(PAYMENT)) or 0
    house.pass_time(NOTICE_AT - 2 * HOUR)
    house.look()
    second = house.paper.due_in(house.paper.payment(PAYMENT)) or 0
    house.pass_time(3 * HOUR)
    house.look()
    third = house.paper.due_in(house.paper.payment(PAYMENT)) or 0

    assert first == pytest.approx(NOTICE_AT, abs=60)
    assert second == pytest.approx(2 * HOUR, abs=60)
    assert third >= 24 * DAY


def test_polls_that_are_shorter_stay_as_they_are(house: House) -> None:
    """The notice only brings a look forward."""
    house.look()

    assert 0.7 * HOUR < (house.paper.due_in(house.paper.payment(PAYMENT)) or 0) <= HOUR


class Watches(Policy):
    """A policy that remembers what it was shown and captures what is about to end."""

    name = "watches"

    def __init__(self) -> None:
        self.shown: list[PaymentFacts] = []

    def wants(self, payment: PaymentFacts) -> Sequence[Wanted]:
        self.shown.append(payment)
        near = payment.expires_at is not None and payment.expires_at - payment.now < timedelta(days=2)
        return [Wanted(CAPTURE)] if near and payment.remainder else []


def test_the_policy_is_asked_at_the_notice_and_sees_the_end(
    database: Database, platform: FakePlatform, deliver: Deliver, settings: Settings
) -> None:
    """It may capture what would otherwise be lost."""
    policy = Watches()
    house = House(database, platform, deliver, settings, [policy])
    house.look()
    early = list(policy.shown)
    house.pass_time(NOTICE_AT + HOUR)

    house.look()

    assert [facts.expires_at is not None and facts.expires_at - facts.now > timedelta(days=6) for facts in early]
    assert policy.shown[-1].expires_at == house.paper.payment(PAYMENT).expires_at
    with database.reading() as connection:
        assert [state for state, _ in standing(connection, notice_seconds=1.0).operations.items()] == ["planned"]


def test_what_stands_counts_authorisations_that_run_out(house: House, database: Database) -> None:
    """Those that end within the notice, and those that have ended and are open all the same."""

    def expiring() -> int:
        with database.reading() as connection:
            return standing(connection, notice_seconds=2 * DAY).expiring

    house.look()
    counts = [expiring()]
    house.pass_time(NOTICE_AT + HOUR)
    counts.append(expiring())
    house.pass_time(30 * DAY)
    counts.append(expiring())
    house.platform.truth[PAYMENT] = view_of(PAYMENT, moved("1_1", CAPTURE, 1000), code=9)
    house.look()
    counts.append(expiring())

    assert counts == [0, 1, 1, 0]
