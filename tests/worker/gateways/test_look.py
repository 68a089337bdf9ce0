"""What a look at a payment returns, and what makes it return nothing."""

import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.worker.gateways.platform_stub import (
    CANARIES,
    MakeGateway,
    Stub,
    answer,
    capture,
    changed,
    details,
    errors,
    operation,
    payment,
    refund,
)
from worker.gateways.gateway import (
    CredentialsRefused,
    GatewayError,
    Movement,
    PaymentUnknown,
    Refused,
    SlowDown,
    TryAgain,
)
from worker.gateways.worldline import WorldlineGateway
from worker.lifecycle import MovementKind, MovementState, PaymentState


def paths(stub: Stub) -> list[str]:
    return [asked.target.removeprefix("/v2/acme/payments/") for asked in stub.asked]


def test_a_created_payment_costs_one_call(stub: Stub, gateway: WorldlineGateway) -> None:
    """No money can have moved, so nothing but the payment is asked for."""
    stub.replies["payment"] = answer(200, payment(code=0))

    view = gateway.look("3254564310", seconds=5)

    assert view.state is PaymentState.CREATED
    assert view.movements == ()
    assert paths(stub) == ["3254564310_0"]


def test_an_authorised_payment_without_captures_is_not_asked_for_refunds(stub: Stub, gateway: WorldlineGateway) -> None:
    """Where nothing was captured nothing can be refunded."""
    stub.replies |= {"payment": answer(200, payment()), "captures": answer(200, {"captures": []})}

    view = gateway.look("3254564310", seconds=5)

    assert view.state is PaymentState.AUTHORISED
    assert paths(stub) == ["3254564310_0", "3254564310_0/details", "3254564310_0/captures"]


def test_a_listed_capture_is_reason_to_ask_for_refunds(stub: Stub, gateway: WorldlineGateway) -> None:
    """After a partial capture the payment itself stays authorised, and yet what was captured can be refunded."""
    stub.replies["payment"] = answer(200, payment())

    view = gateway.look("3254564310", seconds=5)

    assert view.state is PaymentState.AUTHORISED
    assert [one.kind for one in view.movements] == [MovementKind.CAPTURE, MovementKind.REFUND]


def test_every_part_of_a_payment_is_in_the_view(stub: Stub, gateway: WorldlineGateway) -> None:
    """Captures and refunds come from their lists, cancellations from the operations, each with its own reference."""
    stub.replies |= {
        "payment": answer(200, payment(code=9)),
        "details": answer(200, details(operation("3254564310_0", 9), operation("3254564310_3", 6, 300, "ours-3"))),
        "captures": answer(200, {"captures": [capture("3254564310_1", 9, 1200, "ours-1")]}),
        "refunds": answer(200, {"refunds": [refund("3254564310_2", 81, 500, "ours-2")]}),
    }

    view = gateway.look("3254564310_2", seconds=5)

    assert (view.merchant_id, view.payment_id, view.state) == ("acme", "3254564310", PaymentState.CAPTURED)
    assert (view.status, view.status_code, view.status_category) == ("CAPTURED", 9, "COMPLETED")
    assert (view.amount, view.acquired, view.currency, view.merchant_reference) == (1500, 1500, "EUR", "order-7")
    done, pending = MovementState.DONE, MovementState.PENDING
    assert view.movements == (
        Movement("3254564310_3", MovementKind.CANCEL, done, 300, "EUR", "WHATEVER", 6, "ours-3"),
        Movement("3254564310_1", MovementKind.CAPTURE, done, 1200, "EUR", "CAPTURED", 9, "ours-1"),
        Movement("3254564310_2", MovementKind.REFUND, pending, 500, "EUR", "REFUNDED", 81, "ours-2"),
    )


@pytest.mark.parametrize(
    ("named", "asked"),
    [
        ("3254564310", "3254564310_0"),
        ("3254564310_0", "3254564310_0"),
        ("3254564310_12", "3254564310_0"),
        ("9000003254564310000", "3254564310_0"),
        ("9000003254564310002", "3254564310_0"),
        ("00000200000143570012", "00000200000143570012"),
    ],
)
def test_the_initial_transaction_is_asked_for(stub: Stub, gateway: WorldlineGateway, named: str, asked: str) -> None:
    """Whichever way a payment is spelt, the platform is asked for one and the same id."""
    stub.replies["payment"] = answer(200, payment(asked, code=0))

    view = gateway.look(named, seconds=5)

    assert paths(stub) == [asked]
    assert view.payment_id == asked.split("_")[0]


def test_an_answer_spelt_in_the_other_format_is_of_the_same_payment(stub: Stub, gateway: WorldlineGateway) -> None:
    """The platform may answer a short id with a long one."""
    stub.replies["payment"] = answer(200, payment("9000003254564310000", code=0))

    assert gateway.look("3254564310_0", seconds=5).payment_id == "3254564310"


@pytest.mark.parametrize(
    "named",
    ["", "1_0/../../x", "1_0?x=1", "1%2f0", "12345_", "٣٢٥٤", "3254564310\n", "3254564310_0\n", "a", "1" * 21],
)
def test_what_is_no_payment_id_is_never_sent(stub: Stub, gateway: WorldlineGateway, named: str) -> None:
    """The SDK puts ids into URLs as they are, so anything else would choose another URL."""
    with pytest.raises(Refused):
        gateway.look(named, seconds=5)

    assert stub.asked == []


def test_each_merchant_is_asked_as_itself(stub: Stub, gateway_to: MakeGateway) -> None:
    """Two merchants share a process and nothing else: path and key are their own."""
    first, second = gateway_to(stub.endpoint), gateway_to(stub.endpoint, merchant="other")

    views = [one.look("3254564310", seconds=5) for one in (first, second)]

    assert [view.merchant_id for view in views] == ["acme", "other"]
    assert {(one.target.split("/")[2], one.headers["authorization"].split(":")[1]) for one in stub.asked} == {
        ("acme", "key-of-acme"),
        ("other", "key-of-other"),
    }


def test_a_capture_listed_twice_counts_once(stub: Stub, gateway: WorldlineGateway) -> None:
    """The same movement again is no second movement."""
    stub.replies["captures"] = answer(200, {"captures": [capture("3254564310_1")] * 2})

    assert [one.kind for one in gateway.look("3254564310", seconds=5).movements].count(MovementKind.CAPTURE) == 1


def test_unknown_codes_are_looked_at_again(stub: Stub, gateway: WorldlineGateway) -> None:
    """A code and a category we never heard of leave the payment pending."""
    stub.replies["payment"] = answer(200, payment(code=777))

    assert gateway.look("3254564310", seconds=5).state is PaymentState.PENDING


def test_texts_are_cleaned_and_cut_to_their_columns(stub: Stub, gateway: WorldlineGateway) -> None:
    """Free text of the merchant fits into its column and breaks no line of a log."""
    stub.replies["payment"] = answer(
        200, changed(references={"merchantReference": "a\r\nb" + "c" * 500}, status="X" * 99)
    )

    view = gateway.look("3254564310", seconds=5)

    assert view.merchant_reference == "a  b" + "c" * 124
    assert view.status == "X" * 64


def test_the_snapshot_is_small_and_names_what_it_keeps(stub: Stub, gateway: WorldlineGateway) -> None:
    """A hundred movements stay a few KiB, and nothing but listed fields is there."""
    stub.replies["captures"] = answer(
        200, {"captures": [capture(f"3254564310_{100 + n}", amount=1) for n in range(100)]}
    )

    view = gateway.look("3254564310", seconds=5)

    kept = json.dumps(view.snapshot)
    assert len(view.movements) == view.snapshot["movementsListed"] == 101
    assert len(view.snapshot["movements"]) == 50
    assert len(kept) < 10_000
    assert (view.snapshot["paymentProductId"], view.snapshot["paymentMethod"]) == (1, "card")
    assert not [canary for canary in CANARIES if canary in kept]


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, errors({"errorCode": "50001111", "id": "INVALID_VALUE"}), Refused),
        (401, errors({"errorCode": "40001134", "id": "AUTHENTICATION_FAILURE"}), CredentialsRefused),
        (403, errors({"code": "9007", "id": "ACCESS_TO_MERCHANT_NOT_ALLOWED"}), CredentialsRefused),
        (404, errors({"errorCode": "50001130", "id": "UNKNOWN_PAYMENT_ID"}), PaymentUnknown),
        (404, errors({"id": "SOMETHING_ELSE"}), TryAgain),
        (409, errors({"errorCode": "30001002"}), TryAgain),
        (410, errors({"id": "GONE"}), Refused),
        (429, errors({"id": "SLOW"}), SlowDown),
        (500, errors({"id": "BROKEN"}), TryAgain),
    ],
)
def test_refusals_are_named_for_what_to_do(
    stub: Stub, gateway: WorldlineGateway, status: int, body: Any, expected: type[GatewayError]
) -> None:
    """Status and code decide; the platform's error id and codes are kept, its texts are not."""
    stub.replies["payment"] = answer(status, body)

    with pytest.raises(GatewayError) as raised:
        gateway.look("3254564310", seconds=5)

    assert type(raised.value) is expected
    assert (raised.value.http_status, raised.value.error_id) == (status, "a1b2c3d4-0000")
    assert not [canary for canary in CANARIES if canary in repr(raised.value) + str(raised.value)]
    assert raised.value.__cause__ is raised.value.__context__ is None  # a traceback shows no body either


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_are_told_once_in_a_while(
    stub: Stub, gateway: WorldlineGateway, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It concerns security; and it is the same for every payment until a person mends it."""
    stub.replies["payment"] = answer(status)

    with capture_logs() as said:
        for _ in range(3):
            with pytest.raises(CredentialsRefused):
                gateway.look("3254564310", seconds=5)
        first = [line for line in said if line["event"] == "credentials.refused"]
        monkeypatch.setattr(gateway, "_refusal_told_until", 0.0)
        with pytest.raises(CredentialsRefused):
            gateway.look("3254564310", seconds=5)

    told = {"event": "credentials.refused", "log_level": "error", "security": True}
    assert first == [{**told, "merchant_id": "acme", "http_status": status}]
    assert len([line for line in said if line["event"] == "credentials.refused"]) == 2
