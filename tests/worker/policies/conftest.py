"""A payment for policies to look at: 800 authorised, an hour ago, nothing of it captured."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from worker.policies import PaymentFacts, PaymentState

MakePayment = Callable[..., PaymentFacts]

NOW = datetime(2030, 5, 17, 12, tzinfo=UTC)


@pytest.fixture
def payment() -> MakePayment:
    """Makes the payment, with other facts where they are given."""

    def make(**facts: Any) -> PaymentFacts:
        usual: dict[str, Any] = {
            "merchant_id": "acme",
            "payment_id": "3254564310",
            "merchant_reference": "order-7",
            "state": PaymentState.AUTHORISED,
            "status_code": 5,
            "currency": "EUR",
            "amount_authorised": 800,
            "amount_captured": 0,
            "amount_capture_pending": 0,
            "amount_refunded": 0,
            "amount_refund_pending": 0,
            "amount_cancelled": 0,
            "remainder": 800,
            "authorised_at": NOW - timedelta(hours=1),
            "now": NOW,
        }
        return PaymentFacts(**{**usual, **facts})

    return make
