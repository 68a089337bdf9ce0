"""What is sent to move money, byte for byte, and what of an answer is believed."""

import json
import logging
import socket
import time
from dataclasses import replace
from typing import Any

import pytest

from tests.worker.gateways.platform_stub import (
    REFERENCE,
    MakeGateway,
    Stub,
    answer,
    cancellation,
    capture,
    errors,
    hang,
    head,
    money,
    operation,
    order_to,
    payment,
    raw,
    refund,
)
from worker.gateways.gateway import (
    CredentialsRefused,
    GatewayError,
    Movement,
    NotSent,
    Order,
    OutcomeUnknown,
    Receipt,
    Refused,
    SlowDown,
)
from worker.gateways.worldline import WorldlineGateway
from worker.lifecycle import MovementKind, MovementState
from worker.settings import Settings

K, M = MovementKind, MovementState

#: The platform's first answer to each kind of order: accepted, and not done.
ACCEPTED: dict[MovementKind, dict[str, Any]] = {
    K.CAPTURE: capture("3254564310_1", 91, reference=REFERENCE) | {"status": "CAPTURE_REQUESTED"},
    K.REFUND: refund("3254564310_1", 81, reference=REFERENCE) | {"status": "REFUND_REQUESTED"},
    K.CANCEL: cancellation(status="CANCELLED"),
}


@pytest.fixture(autouse=True)
def _accepting(stub: Stub) -> None:
    stub.replies = {kind.value: answer(201, told) for kind, told in ACCEPTED.items()}


def composed(gateway: WorldlineGateway, kind: MovementKind, amount: int, currency: str, **more: Any) -> Any:
    given: dict[str, Any] = {"is_final": False, "reference": "ours", **more}
    return json.loads(gateway.compose(kind, amount, currency, **given))


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        (K.CAPTURE, {"amount": 500, "isFinal": True}),
        (K.REFUND, {"amountOfMoney": money(500), "isFinal": True, "reason": "broken"}),
        (K.CANCEL, {"amountOfMoney": money(500), "isFinal": True}),
    ],
)
def test_a_request_says_what_was_promised_and_nothing_else(
    gateway: WorldlineGateway, kind: MovementKind, own: dict[str, Any]
) -> None:
    """Amount, whether it is the last, and by which references it is found again."""
    body = composed(gateway, kind, 500, "EUR", is_final=True, group_reference="order-7", reason="broken")

    assert body == {**own, "operationReferences": {"merchantReference": "ours", "operationGroupReference": "order-7"}}


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        (K.CAPTURE, {"amount": 500, "isFinal": False}),
        (K.REFUND, {"amountOfMoney": money(500)}),
        (K.CANCEL, {"amountOfMoney": money(500), "isFinal": False}),
    ],
)
def test_what_was_not_given_is_left_out(gateway: WorldlineGateway, kind: MovementKind, own: dict[str, Any]) -> None:
    """No property is sent with nothing in it."""
    assert composed(gateway, kind, 500, "EUR") == {**own, "operationReferences": {"merchantReference": "ours"}}


@pytest.mark.parametrize("currency", ["JPY", "KWD", "CLF"])
def test_only_the_amount_whose_unit_is_unclear_is_left_out(gateway: WorldlineGateway, currency: str) -> None:
    """A capture's bare amount is documented in cents; without it all is captured. The others name their currency."""
    bodies = {kind: composed(gateway, kind, 500, currency) for kind in MovementKind}

    assert "amount" not in bodies[K.CAPTURE]
    assert bodies[K.REFUND]["amountOfMoney"] == bodies[K.CANCEL]["amountOfMoney"] == money(500, currency)


@pytest.mark.parametrize("kind", MovementKind)
def test_an_order_leaves_as_it_was_stored(
    stub: Stub, gateway: WorldlineGateway, gateway_to: MakeGateway, kind: MovementKind
) -> None:
    """Sent twice, and once more by a process that came later: the same bytes under the same key to the same place."""
    order = order_to(gateway, kind)

    for sender in (gateway, gateway, gateway_to(stub.endpoint)):
        sender.send(order, seconds=5)

    assert [asked.body for asked in stub.asked] == [order.body] * 3
    assert {(asked.method, asked.target) for asked in stub.asked} == {
        ("POST", f"/v2/acme/payments/3254564310_0/{kind.value}")
    }
    assert {asked.headers["x-gcs-idempotence-key"] for asked in stub.asked} == {"key-1"}
    assert {asked.headers["content-type"] for asked in stub.asked} == {"application/json"}


def test_stored_bytes_are_not_read_again(stub: Stub, gateway: WorldlineGateway) -> None:
    """Bytes of another version, in another order, spaced in another way, leave as they are."""
    stored = b'{ "isFinal":true ,\n"amount":1500,"unknown":"\xc3\xa9\\u00e9" }\n\n'

    gateway.send(replace(order_to(gateway, K.CAPTURE), body=stored), seconds=5)

    assert stub.asked[0].body == stored


@pytest.mark.parametrize(
    "wrong",
    [
        {"payment_id": "3254564310_0"},
        {"payment_id": "9000003254564310000"},
        {"payment_id": "3254564310/../1"},
        {"payment_id": "3254564310\n"},
        {"payment_id": ""},
        {"idempotence_key": ""},
        {"idempotence_key": "k" * 41},
        {"idempotence_key": "k\r\nX:y"},
        {"idempotence_key": "k y"},
        {"idempotence_key": "é"},
        {"body": b""},
    ],
    ids=repr,
)
def test_an_order_that_is_not_whole_is_never_sent(stub: Stub, gateway: WorldlineGateway, wrong: dict[str, Any]) -> None:
    """Without its key it could happen twice, without its body it would be another, with another id somewhere else."""
    with pytest.raises(Refused, match="nothing was sent"):
        gateway.send(replace(order_to(gateway, K.CAPTURE), **wrong), seconds=5)

    assert stub.accepted == 0


@pytest.mark.parametrize("kind", MovementKind)
def test_an_accepted_order_is_a_pending_movement(gateway: WorldlineGateway, kind: MovementKind) -> None:
    """Accepted is not done: the platform says so first, and later what became of it."""
    order = order_to(gateway, kind)

    movement = gateway.send(order, seconds=5)

    code, status = {
        K.CAPTURE: (91, "CAPTURE_REQUESTED"), K.REFUND: (81, "REFUND_REQUESTED"), K.CANCEL: (61, "CANCELLED"),
    }[kind]  # fmt: skip
    assert movement == Movement("3254564310_1", kind, M.PENDING, 1500, "EUR", status, code, REFERENCE)


STATES = {
    K.CAPTURE: {91: M.PENDING, 92: M.PENDING, 4: M.PENDING, 99: M.PENDING, 9: M.DONE, 93: M.REFUSED},
    K.REFUND: {81: M.PENDING, 82: M.PENDING, 71: M.PENDING, 72: M.PENDING, 8: M.DONE, 7: M.DONE, 85: M.DONE,
               83: M.REFUSED, 73: M.REFUSED},
    K.CANCEL: {61: M.PENDING, 62: M.PENDING, 6: M.DONE, 63: M.REFUSED},
}  # fmt: skip


@pytest.mark.parametrize(("kind", "code"), [(kind, code) for kind, codes in STATES.items() for code in codes])
def test_an_answer_may_say_what_became_of_it_already(
    stub: Stub, gateway: WorldlineGateway, kind: MovementKind, code: int
) -> None:
    """Uncertain is pending, and a refusal in a successful answer is a movement that did not happen."""
    told = {
        K.CAPTURE: capture("3254564310_1", code) | {"status": None},
        K.REFUND: refund("3254564310_1", code),
        K.CANCEL: cancellation(code=code),
    }[kind]
    stub.replies[kind.value] = answer(200, told)

    movement = gateway.send(order_to(gateway, kind), seconds=5)

    assert (movement.state, movement.status_code) == (STATES[kind][code], code)


def with_operation(**changes: Any) -> dict[str, Any]:
    return {"payment": {**payment("3254564310_0", 61), **changes}}


#: Answers that name the operation and leave the rest of it open.
SPARSE: dict[str, tuple[MovementKind, dict[str, Any]]] = {
    "a capture of an id and a code": (K.CAPTURE, {"id": "3254564310_1", "statusOutput": {"statusCode": 91}}),
    "a refund of an id and a code": (K.REFUND, {"id": "3254564310_1", "statusOutput": {"statusCode": 81}}),
    "a capture with an empty reference": (K.CAPTURE, capture("3254564310_1", 91, 500, reference="")),
    "a payment under the cancellation's id": (K.CANCEL, {"payment": payment("3254564310_1", 61)}),
    "a cancellation of an id and a code": (
        K.CANCEL,
        with_operation(operationOutput={"id": "3254564310_1", "statusOutput": {"statusCode": 61}}),
    ),
}


@pytest.mark.parametrize("sparse", SPARSE)
def test_what_an_answer_leaves_out_is_as_ordered(stub: Stub, gateway: WorldlineGateway, sparse: str) -> None:
    """Amount, currency and reference are ours; a cancelled payment's amount is not taken for the cancellation's."""
    kind, told = SPARSE[sparse]
    stub.replies[kind.value] = answer(201, told)

    movement = gateway.send(order_to(gateway, kind, amount=500), seconds=5)

    assert movement.platform_operation_id == "3254564310_1"
    assert (movement.amount, movement.currency, movement.reference) == (500, "EUR", REFERENCE)


def test_an_operation_is_named_in_the_newer_format_too(stub: Stub, gateway: WorldlineGateway) -> None:
    """Its last three digits count the operations, 000 being the payment."""
    stub.replies["capture"] = answer(201, capture("9000003254564310001", 91))

    assert gateway.send(order_to(gateway, K.CAPTURE), seconds=5).platform_operation_id == "9000003254564310001"


def accepted(kind: MovementKind, name: str, value: Any) -> dict[str, Any]:
    """What is answered to an order, with one part of the operation replaced wherever it stands."""
    told: dict[str, Any] = json.loads(json.dumps(ACCEPTED[kind]))
    one = told["payment"]["operationOutput"] if kind is K.CANCEL else told
    output = one if kind is K.CANCEL else one[f"{kind.value}Output"]
    (output if name in output else one)[name] = value
    return told


CONTRADICTIONS: dict[str, tuple[str, Any]] = {
    "no id": ("id", None),
    "an operation of another payment": ("id", "3254564311_1"),
    "an id that is none": ("id", "3254564310_1/x"),
    "no status": ("statusOutput", {}),
    "a code as text": ("statusOutput", {"statusCode": "91"}),
    "another amount": ("amountOfMoney", money(1499)),
    "an amount as text": ("amountOfMoney", money("1500")),
    "no amount in it": ("amountOfMoney", {}),
    "another currency": ("amountOfMoney", money(1500, "USD")),
    "another reference": ("operationReferences", {"merchantReference": "someone-else"}),
    "a reference that is no text": ("operationReferences", {"merchantReference": ["x"]}),
}


@pytest.mark.parametrize("kind", MovementKind)
@pytest.mark.parametrize("wrong", CONTRADICTIONS)
def test_an_answer_that_tells_of_something_else_settles_nothing(
    stub: Stub, gateway: WorldlineGateway, kind: MovementKind, wrong: str
) -> None:
    """Money may have moved; the answer just cannot say which."""
    stub.replies[kind.value] = answer(201, accepted(kind, *CONTRADICTIONS[wrong]))

    with pytest.raises(OutcomeUnknown) as raised:
        gateway.send(order_to(gateway, kind), seconds=5)

    assert type(raised.value) is OutcomeUnknown


@pytest.mark.parametrize("kind", MovementKind)
@pytest.mark.parametrize("payments_id", ["3254564310_0", "3254564310", "9000003254564310000"])
def test_an_answer_that_names_the_payment_alone_is_a_receipt(
    stub: Stub, gateway: WorldlineGateway, kind: MovementKind, payments_id: str
) -> None:
    """The code says that it was accepted; which operation it is, a look tells."""
    told = accepted(kind, "id", payments_id)

    stub.replies[kind.value] = answer(201, told)

    assert gateway.send(order_to(gateway, kind), seconds=5) == Receipt(
        {K.CAPTURE: 91, K.REFUND: 81, K.CANCEL: 61}[kind]
    )


def test_a_cancellation_is_answered_with_the_payment(stub: Stub, gateway: WorldlineGateway) -> None:
    """As the platform's own example has it: the payment's id and amount, and the code of a pending cancellation."""
    stub.replies["cancel"] = answer(200, with_operation())

    assert gateway.send(order_to(gateway, K.CANCEL), seconds=5) == Receipt(61)


WRONG_ANSWERS: dict[str, Any] = {
    "nothing": b"",
    "an empty object": {},
    "null": None,
    "a list": [],
    "HTML": "<html>OK</html>",
    "a payment that is null": {"payment": None},
    "a payment of another family": with_operation(id="3254564311_0", operationOutput=operation("3254564310_1", 61)),
    "a refusal without its operation": {"payment": payment("3254564310_0", 63)},
    "an operation without anything": with_operation(operationOutput={}),
    "an operation of another shape": with_operation(operationOutput=[]),
    "a capture": ACCEPTED[K.CAPTURE],
    "a code of another kind": cancellation(code=91),
}


@pytest.mark.parametrize("wrong", WRONG_ANSWERS)
def test_a_success_of_another_shape_settles_nothing(stub: Stub, gateway: WorldlineGateway, wrong: str) -> None:
    """The status says that something was done, and nothing says what."""
    stub.replies["cancel"] = answer(200, WRONG_ANSWERS[wrong])

    with pytest.raises(OutcomeUnknown):
        gateway.send(order_to(gateway, K.CANCEL), seconds=5)


DECLINED = {**errors({"errorCode": "30511001"}), "refundResult": refund("3254564310_1", 83)}
NOT_ALLOWED = errors({"errorCode": "50001127", "id": "ACTION_NOT_ALLOWED_ON_TRANSACTION"})


def sized(status: int, told: Any) -> bytes:
    body = json.dumps(told).encode()
    return head(status, Content_Length=str(len(body))) + body


def chunked(status: int, told: Any) -> bytes:
    body = json.dumps(told).encode()
    return head(status, Transfer_Encoding="chunked") + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


def until_closed(status: int, told: Any) -> bytes:
    return head(status) + json.dumps(told).encode()


CUT: dict[str, tuple[MovementKind, bytes]] = {
    "a capture": (K.CAPTURE, sized(201, accepted(K.CAPTURE, "id", "3254564310_1"))),
    "a refund in chunks": (K.REFUND, chunked(201, ACCEPTED[K.REFUND])),
    "a cancellation until the end": (K.CANCEL, until_closed(200, {"payment": {
        "id": "3254564310_1", "status": "CANCELLED", "statusOutput": {"statusCode": 61}}})),
    "a declined refund": (K.REFUND, sized(402, DECLINED)),
    "a capture not allowed, in chunks": (K.CAPTURE, chunked(400, NOT_ALLOWED)),
    "a capture not allowed, until the end": (K.CAPTURE, until_closed(409, NOT_ALLOWED)),
}  # fmt: skip


@pytest.mark.parametrize("cut", CUT)
def test_part_of_an_answer_is_no_answer(stub: Stub, gateway: WorldlineGateway, cut: str) -> None:
    """Wherever the connection ends before the answer does, nothing is taken for refused or for not sent."""
    kind, whole = CUT[cut]
    order = order_to(gateway, kind)
    told = {}

    for length in range(len(whole)):
        stub.replies[kind.value] = raw(whole[:length])
        told[length] = outcome(gateway, order)

    assert len(stub.asked) == len(whole)
    saying_something = len(whole.rstrip())  # after the last chunk there are line ends
    assert {told[length] for length in range(saying_something)} == {"OutcomeUnknown"}


def outcome(gateway: WorldlineGateway, order: Order) -> str:
    try:
        return type(gateway.send(order, seconds=30)).__name__
    except GatewayError as failure:
        return type(failure).__name__


def test_a_refused_connection_was_not_sent(gateway_to: MakeGateway) -> None:
    """Nobody listens there: certainly no money moved, and the same key can be sent again."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    nowhere = gateway_to(f"http://127.0.0.1:{port}")

    with pytest.raises(NotSent):
        nowhere.send(order_to(nowhere, K.REFUND), seconds=5)


def test_an_order_ends_in_its_own_time(stub: Stub, gateway: WorldlineGateway) -> None:
    """However long a call may take otherwise: whoever holds a claim must end before it does."""
    stub.replies["capture"] = hang(60)
    started = time.monotonic()

    with pytest.raises(OutcomeUnknown):
        gateway.send(order_to(gateway, K.CAPTURE), seconds=0.2)

    assert time.monotonic() - started < Settings().call_seconds - 5


def test_after_close_no_order_is_sent(stub: Stub, gateway: WorldlineGateway) -> None:
    """A closed gateway is closed."""
    gateway.close()

    with pytest.raises(NotSent):
        gateway.send(order_to(gateway, K.CAPTURE), seconds=5)

    assert stub.accepted == 0


STAMP = {"X_GCS_Idempotence_Request_Timestamp": "1700000000000"}
IN_PROGRESS = errors({"id": "DUPLICATE_REQUEST_IN_PROGRESS"})


@pytest.mark.parametrize(
    ("reply", "replayed"),
    [
        (answer(500, errors({"id": "BROKEN"}), **STAMP), True),
        (answer(500, b"", **STAMP), True),
        (answer(504, "<html></html>", "text/html", **STAMP), True),
        (answer(402, DECLINED, **STAMP), True),
        (answer(400, NOT_ALLOWED, **STAMP), True),
        (answer(201, {}, **STAMP), True),
        (answer(409, IN_PROGRESS, **STAMP), False),
        (answer(500, errors({"id": "BROKEN"}), X_GCS_Idempotence_Request_Timestamp="yesterday"), False),
        (answer(500, errors({"id": "BROKEN"})), False),
        (raw(b""), False),
    ],
    ids=["500", "500 empty", "504 HTML", "402", "400", "201 empty", "in progress", "no time", "fresh", "lost"],
)
def test_an_error_says_whether_it_was_kept(stub: Stub, gateway: WorldlineGateway, reply: Any, replayed: bool) -> None:
    """The platform marks what it kept of an earlier request. A request in progress has no answer that could be kept."""
    stub.replies["refund"] = reply

    with pytest.raises(GatewayError) as raised:
        gateway.send(order_to(gateway, K.REFUND), seconds=5)

    assert raised.value.replayed is replayed


@pytest.mark.parametrize(
    ("status", "expected"), [(401, CredentialsRefused), (403, CredentialsRefused), (429, SlowDown)]
)
def test_who_refuses_us_or_our_pace_has_done_nothing(
    stub: Stub, gateway: WorldlineGateway, status: int, expected: type[GatewayError]
) -> None:
    """Such an answer comes before anything is done, and it names no failure of the order."""
    stub.replies["capture"] = answer(status, errors({"id": "NO"}))

    with pytest.raises(expected) as raised:
        gateway.send(order_to(gateway, K.CAPTURE), seconds=5)

    assert not isinstance(raised.value, (Refused, OutcomeUnknown))


def test_an_order_is_logged_as_text_and_without_its_reason(
    stub: Stub, gateway_to: MakeGateway, caplog: pytest.LogCaptureFixture
) -> None:
    """Bytes are JSON to the log as well, so that the masks know what to hide."""
    caplog.set_level(logging.INFO, "payhook.platform")
    gateway = gateway_to(stub.endpoint, platform_log=True)
    body = gateway.compose(
        K.REFUND, 1500, "EUR", is_final=False, reference=REFERENCE, group_reference="order-77", reason="Someone asked"
    )

    gateway.send(replace(order_to(gateway, K.REFUND), body=body), seconds=5)

    assert '"operationGroupReference": "order-77"' in caplog.text
    assert "Someone" not in caplog.text
