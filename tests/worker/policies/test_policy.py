"""What policies see of a payment, and how several of them are asked."""

from collections.abc import Sequence
from dataclasses import FrozenInstanceError
from datetime import datetime, timedelta

import pytest

from tests.worker.policies.conftest import NOW, MakePayment
from worker.lifecycle import MOVING_CODES
from worker.policies import MovementKind, PaymentFacts, PaymentState, Policy, Wanted, asked, open_policies


class Fake(Policy):
    """Wants and asks what it is told to."""

    def __init__(self, name: str, *wanted: Wanted, at: datetime | None = None):
        self.name = name
        self._wanted = wanted
        self._at = at

    def wants(self, payment: PaymentFacts) -> Sequence[Wanted]:
        return self._wanted

    def asks_at(self, payment: PaymentFacts) -> datetime | None:
        return self._at


def test_a_payment_is_read_only(payment: MakePayment) -> None:
    """A function of somebody's cannot change what the next policy sees."""
    seen = payment()

    with pytest.raises(FrozenInstanceError):
        seen.remainder = 801  # type: ignore[misc]


def test_an_authorised_payment_with_something_left_is_capturable(payment: MakePayment) -> None:
    """Also when a part was captured before, or the platform refused a capture (93) or a cancellation (63)."""
    assert payment().is_capturable
    assert payment(amount_captured=300, remainder=500).is_capturable
    assert payment(status_code=93).is_capturable
    assert payment(status_code=63).is_capturable


@pytest.mark.parametrize("state", [state for state in PaymentState if state is not PaymentState.AUTHORISED])
def test_no_other_state_is_capturable(payment: MakePayment, state: PaymentState) -> None:
    """Whatever its amounts seem to leave."""
    assert not payment(state=state).is_capturable


@pytest.mark.parametrize("remainder", [0, -1])
def test_a_payment_with_nothing_left_is_not_capturable(payment: MakePayment, remainder: int) -> None:
    """Captured, cancelled or promised already; below nothing when more was captured than we knew of."""
    assert not payment(remainder=remainder).is_capturable


@pytest.mark.parametrize("code", sorted(MOVING_CODES))
def test_a_payment_that_is_moving_is_not_capturable(payment: MakePayment, code: int) -> None:
    """A capture or cancellation made in the portal may not be listed yet, and the remainder not know of it."""
    assert not payment(status_code=code).is_capturable


def test_policies_are_asked_in_order_and_named(payment: MakePayment) -> None:
    """The caller promises the first one's first: it decides what is left for the others."""
    deposit, rest = Wanted(MovementKind.CAPTURE, 300), Wanted(MovementKind.CAPTURE)
    cancel = Wanted(MovementKind.CANCEL)

    wanted, _ = asked([Fake("b", deposit), Fake("none"), Fake("a", rest, cancel)], payment())

    assert wanted == [("b", deposit), ("a", rest), ("a", cancel)]


def test_the_earliest_time_counts(payment: MakePayment) -> None:
    """One that asks for no time does not stand in the way of those that do."""
    times = [NOW + timedelta(hours=3), None, NOW + timedelta(hours=2)]

    _, at = asked([Fake(str(number), at=time) for number, time in enumerate(times)], payment())

    assert at == NOW + timedelta(hours=2)


def test_nobody_asking_is_no_time(payment: MakePayment) -> None:
    """The payment is left to its usual looks."""
    assert asked(open_policies("manual"), payment()) == ([], None)
