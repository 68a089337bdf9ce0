"""The policy that does nothing."""

import pytest

from tests.worker.policies.conftest import MakePayment
from worker.policies import PaymentState, open_policies


@pytest.mark.parametrize("state", PaymentState)
def test_it_wants_nothing(payment: MakePayment, state: PaymentState) -> None:
    """In no state, and at no time."""
    (manual,) = open_policies("manual")

    assert manual.name == "manual"
    assert list(manual.wants(payment(state=state))) == []
    assert manual.asks_at(payment(state=state)) is None
