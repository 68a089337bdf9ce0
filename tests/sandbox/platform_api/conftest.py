"""Requests to the platform's API, good until a test changes them."""

from collections.abc import Callable
from typing import Any

import pytest
from onlinepayments.sdk.domain.create_payment_request import CreatePaymentRequest

from sandbox import SandboxClient

Json = dict[str, Any]


@pytest.fixture
def card() -> Json:
    return {"cardNumber": "4012000033330026", "expiryDate": "1299", "cvv": "123", "cardholderName": "Wile E. Coyote"}


@pytest.fixture
def create(merchant, card) -> Callable[..., Any]:
    """Make a payment; what is named replaces what is usual. ``card_input`` adds to the card's part; None takes away."""

    def create(amount: Any = 1500, card_input: Json | None = None, references: Json | None = None, **parts: Any) -> Any:
        given = {"card": card} | (card_input or {})
        body = {
            "order": {
                "amountOfMoney": {"amount": amount, "currencyCode": "EUR"},
                "references": {"merchantReference": "order-1"} if references is None else references,
            },
            "cardPaymentMethodSpecificInput": {name: value for name, value in given.items() if value is not None},
            **parts,
        }
        return merchant.payments().create_payment(CreatePaymentRequest().from_dictionary(body))

    return create


@pytest.fixture
def told(control: SandboxClient, settled) -> Callable[[], list[str]]:
    """The types of the events so far, in the order they were published."""

    def told() -> list[str]:
        return [entry["type"] for entry in settled()["deliveries"]]

    control.settings(webhooks={"drop_share": 1})  # dropped events are in the log, in order, and go nowhere
    return told
