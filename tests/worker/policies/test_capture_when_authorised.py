"""The policy that captures at once."""

import pytest

from tests.worker.policies.conftest import MakePayment
from worker.policies import MovementKind, PaymentState, Policy, Wanted, open_policies


@pytest.fixture
def policy() -> Policy:
    (policy,) = open_policies("capture-when-authorised")
    return policy


def test_it_captures_all_that_is_left_of_an_authorised_payment(policy: Policy, payment: MakePayment) -> None:
    """How much that is, is told by the payment when the capture is promised; nothing is to be captured after it."""
    assert policy.name == "capture-when-authorised"
    assert list(policy.wants(payment())) == [Wanted(MovementKind.CAPTURE, amount=None, is_final=True)]


def test_it_wants_nothing_of_a_payment_that_cannot_be_captured(policy: Policy, payment: MakePayment) -> None:
    """Nothing is left, or it is not authorised, or no longer."""
    assert not policy.wants(payment(remainder=0))
    assert not policy.wants(payment(state=PaymentState.PENDING, status_code=51))
    assert not policy.wants(payment(state=PaymentState.CAPTURED, status_code=9))
    assert not policy.wants(payment(status_code=61))


def test_it_waits_for_no_time(policy: Policy, payment: MakePayment) -> None:
    """The look that sees the authorisation is the moment."""
    assert policy.asks_at(payment()) is None
