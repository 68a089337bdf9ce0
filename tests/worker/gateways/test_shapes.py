"""Answers of another shape than a payment's: none of them is used, in any part."""

import json
from typing import Any

import pytest

from tests.worker.gateways.platform_stub import (
    Stub,
    answer,
    capture,
    changed,
    details,
    errors,
    money,
    operation,
    payment,
    refund,
)
from worker.gateways.gateway import TryAgain
from worker.gateways.worldline import WorldlineGateway

WRONG_PAYMENTS: dict[str, Any] = {
    "nothing": b"",
    "an empty object": {},
    "null": None,
    "a list": [],
    "a string": "x",
    "a number": 7,
    "no id": changed(id=None),
    "id of another payment": changed(id="3254564311_0"),
    "id of a number": changed(id=3254564310),
    "id with more after it": changed(id="3254564310_0\n"),
    "no status output": changed(statusOutput=None),
    "empty status output": changed(statusOutput={}),
    "code missing": changed(statusCode=None),
    "code as text": changed(statusCode="0"),
    "code as a truth": changed(statusCode=False),
    "code beyond reason": changed(statusCode=10**30),
    "no payment output": changed(paymentOutput=None),
    "empty payment output": changed(paymentOutput={}),
    "amount missing": changed(amountOfMoney={}),
    "amount as text": changed(amountOfMoney=money("1500")),
    "amount as a fraction": changed(amountOfMoney=money(15.0)),
    "amount as a truth": changed(amountOfMoney=money(True)),
    "amount not a number": changed(amountOfMoney=money(float("nan"))),
    "amount below nothing": changed(amountOfMoney=money(-1)),
    "amount no column holds": changed(amountOfMoney=money(2**63)),
    "amount of thousands of digits": json.dumps(changed()).replace("1500", "9" * 5000),
    "no currency": changed(amountOfMoney=money(1500, None)),
    "no such currency": changed(amountOfMoney=money(1500, "Euro")),
    "acquired in another currency": changed(acquiredAmount=money(0, "USD")),
    "NUL in the status": changed(status="CREA\0TED"),
    "half a character in the category": changed(statusCategory="\ud800"),
    "NUL in the reference": changed(references={"merchantReference": "order\0"}),
    "status of another type": changed(status=["CREATED"]),
    "reference of another type": changed(references={"merchantReference": {"a": 1}}),
    "errors that are null": changed(statusOutput={"statusCode": 0, "errors": None}),
    "too deep": "[" * 100_000,
    "half of it": json.dumps(changed())[:200],
    "not UTF-8": b'{"id": "\xff\xfe"}',
}


@pytest.mark.parametrize("body", WRONG_PAYMENTS.values(), ids=WRONG_PAYMENTS)
def test_a_payment_of_another_shape_is_asked_for_again(stub: Stub, gateway: WorldlineGateway, body: Any) -> None:
    """What is not a whole payment of the id asked for is not used, in any part."""
    stub.replies["payment"] = answer(200, body)

    with pytest.raises(TryAgain) as raised:
        gateway.look("3254564310", seconds=5)

    assert type(raised.value) is TryAgain


WRONG_PARTS: dict[str, tuple[str, Any]] = {
    "details of another payment": ("details", details(payment_id="3254564311_0")),
    "an operation without a code": ("details", details(operation("3254564310_3", None))),
    "a cancellation of another payment": ("details", details(operation("3254564311_3", 6))),
    "a cancellation without an amount": ("details", details(operation("3254564310_3", 6, None))),
    "no answer on captures": ("captures", b""),
    "captures that are null": ("captures", {"captures": None}),
    "a capture that is null": ("captures", {"captures": [None]}),
    "an empty capture": ("captures", {"captures": [{}]}),
    "a capture of another payment": ("captures", {"captures": [capture("3254564311_1")]}),
    "a capture without an id": ("captures", {"captures": [capture(None)]}),
    "a capture of less than nothing": ("captures", {"captures": [capture("3254564310_1", amount=-5)]}),
    "captures that contradict each other": (
        "captures",
        {"captures": [capture("3254564310_1", amount=5), capture("3254564310_1", amount=6)]},
    ),
    "a refund without a code": ("refunds", {"refunds": [refund("3254564310_2", None)]}),
    "a refund with the id of a capture": ("refunds", {"refunds": [refund("3254564310_1")]}),
}


@pytest.mark.parametrize(("where", "body"), WRONG_PARTS.values(), ids=WRONG_PARTS)
def test_a_part_of_another_shape_spoils_the_whole(stub: Stub, gateway: WorldlineGateway, where: str, body: Any) -> None:
    """A look is complete or it is none: a good payment beside a bad list is not used."""
    stub.replies[where] = answer(200, body)

    with pytest.raises(TryAgain):
        gateway.look("3254564310", seconds=5)


def test_a_list_left_out_is_an_empty_list(stub: Stub, gateway: WorldlineGateway) -> None:
    """An answer that leaves a list out says nothing is in it; the payment can be read all the same."""
    stub.replies |= {
        "payment": answer(200, payment(code=9)),
        "details": answer(200, payment(code=9)),
        "captures": answer(200, {}),
        "refunds": answer(200, {}),
    }

    view = gateway.look("3254564310", seconds=5)

    assert view.movements == ()


def test_movements_in_another_currency_spoil_the_whole(stub: Stub, gateway: WorldlineGateway) -> None:
    """Amounts of two currencies cannot be added up."""
    stub.replies["payment"] = answer(200, payment(code=9) | {"paymentOutput": {"amountOfMoney": money(1500, "USD")}})

    with pytest.raises(TryAgain, match="another currency"):
        gateway.look("3254564310", seconds=5)


@pytest.mark.parametrize("where", ["details", "captures", "refunds"])
def test_a_part_that_fails_spoils_the_whole(stub: Stub, gateway: WorldlineGateway, where: str) -> None:
    """Captures answered and details failed is a failed look."""
    stub.replies[where] = answer(500, errors({"errorCode": "99999999"}))

    with pytest.raises(TryAgain):
        gateway.look("3254564310", seconds=5)


def test_a_payment_just_answered_is_not_unknown(stub: Stub, gateway: WorldlineGateway) -> None:
    """A list that knows no such payment lags behind: the payment itself was answered a moment ago."""
    stub.replies["captures"] = answer(404, errors({"errorCode": "50001130", "id": "UNKNOWN_PAYMENT_ID"}))

    with pytest.raises(TryAgain) as raised:
        gateway.look("3254564310", seconds=5)

    assert raised.value.http_status == 404
