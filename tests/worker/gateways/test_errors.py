"""Every way a call can end, and the name it gets: questions beside requests that move money."""

import importlib
import pkgutil
from collections.abc import Iterator
from functools import partial
from typing import Any

import onlinepayments.sdk
import pytest
from onlinepayments.sdk.api_exception import ApiException
from onlinepayments.sdk.authentication.authorization_type import AuthorizationType
from onlinepayments.sdk.call_context import CallContext
from onlinepayments.sdk.communicator_configuration import CommunicatorConfiguration
from onlinepayments.sdk.domain.capture_payment_request import CapturePaymentRequest
from onlinepayments.sdk.domain.refund_request import RefundRequest
from onlinepayments.sdk.factory import Factory

from tests.worker.gateways.platform_stub import (
    CANARIES,
    Reply,
    Stub,
    answer,
    errors,
    hang,
    head,
    order_to,
    raw,
    refund,
    reset,
)
from worker.gateways.connection import AnswerLost, NeverLeft, PlatformConnection
from worker.gateways.errors import UnusableAnswer, gateway_error
from worker.gateways.gateway import (
    CredentialsRefused,
    GatewayError,
    InProgress,
    NotAllowed,
    NotSent,
    OutcomeUnknown,
    PaymentUnknown,
    Refused,
    SlowDown,
    TryAgain,
)
from worker.gateways.worldline import WorldlineGateway
from worker.lifecycle import MovementKind


@pytest.fixture
def payments(stub: Stub) -> Iterator[Any]:
    """The SDK's own client for payments, on our connection."""
    configuration = CommunicatorConfiguration(
        api_endpoint=stub.endpoint,
        api_key_id="key",
        secret_api_key="secret",
        authorization_type=AuthorizationType.V1HMAC,
        connect_timeout=1,
        socket_timeout=1,
        max_connections=1,
        integrator="tests",
    )
    connection = PlatformConnection(stub.endpoint, call_seconds=0.4, connect_seconds=0.4, pool_size=2)
    yield Factory.create_client_from_configuration(configuration, connection=connection).merchant("acme").payments()
    connection.close()


IN_PROGRESS = {"errorCode": "30001002", "id": "DUPLICATE_REQUEST_IN_PROGRESS"}
NOT_ALLOWED = {"errorCode": "50001127", "id": "ACTION_NOT_ALLOWED_ON_TRANSACTION"}
UNKNOWN = {"errorCode": "50001130", "id": "UNKNOWN_PAYMENT_ID"}
HTML = f"<html>{CANARIES}</html>"
HALF = head(200, Content_Length="500") + b'{"id": "32545'

#: What the wire says, what a question makes of it, what a capture, refund or cancellation makes of it.
ENDINGS: dict[str, tuple[Reply, type[GatewayError], type[GatewayError]]] = {
    "400": (answer(400, errors({"errorCode": "50001111"})), Refused, Refused),
    "400 not allowed": (answer(400, errors(NOT_ALLOWED)), NotAllowed, NotAllowed),
    "400 not allowed, of a refund": (answer(400, errors({"errorCode": "50001129"})), NotAllowed, NotAllowed),
    "400 not allowed, old code": (answer(400, errors({"code": "1020"})), NotAllowed, NotAllowed),
    "400 not allowed, by id": (answer(400, errors({"id": NOT_ALLOWED["id"]})), NotAllowed, NotAllowed),
    "400 not allowed among others": (answer(400, errors({"id": "X"}, NOT_ALLOWED)), NotAllowed, NotAllowed),
    "400 empty": (answer(400), TryAgain, OutcomeUnknown),
    "400 of a proxy": (answer(400, HTML, "text/html"), TryAgain, OutcomeUnknown),
    "400 problem": (answer(400, {"title": "bad"}, "application/problem+json"), TryAgain, OutcomeUnknown),
    "401": (answer(401, errors({"errorCode": "40001134"})), CredentialsRefused, CredentialsRefused),
    "401 empty": (answer(401), CredentialsRefused, CredentialsRefused),
    "402": (answer(402, errors({"errorCode": "30511001"})), Refused, Refused),
    "403": (answer(403, errors({"code": "9007"})), CredentialsRefused, CredentialsRefused),
    "403 of a proxy": (answer(403, HTML, "text/html"), CredentialsRefused, CredentialsRefused),
    "404": (answer(404, errors(UNKNOWN)), PaymentUnknown, PaymentUnknown),
    "404 by code": (answer(404, errors({"errorCode": "50001130"})), PaymentUnknown, PaymentUnknown),
    "404 by id": (answer(404, errors({"id": "UNKNOWN_PAYMENT_ID"})), PaymentUnknown, PaymentUnknown),
    "404 of something else": (answer(404, errors({"id": "NO_SUCH_PAGE"})), TryAgain, OutcomeUnknown),
    "404 empty": (answer(404), TryAgain, OutcomeUnknown),
    "404 of a proxy": (answer(404, HTML, "text/html"), TryAgain, OutcomeUnknown),
    "404 of no type": (answer(404, HTML, None), TryAgain, OutcomeUnknown),
    "405": (answer(405, errors({"id": "NO"})), Refused, Refused),
    "408": (answer(408, errors({"id": "SLOW"})), TryAgain, OutcomeUnknown),
    "409 in progress": (answer(409, errors(IN_PROGRESS)), TryAgain, InProgress),
    "409 in progress, new code": (answer(409, errors({"errorCode": "30001002"})), TryAgain, InProgress),
    "409 in progress, old code": (answer(409, errors({"errorCode": "1409"})), TryAgain, InProgress),
    "409 in progress, older code": (answer(409, errors({"errorCode": "0", "code": "1409"})), TryAgain, InProgress),
    "409 in progress, by id": (answer(409, errors({"id": "DUPLICATE_REQUEST_IN_PROGRESS"})), TryAgain, InProgress),
    "409 in progress among others": (answer(409, errors(NOT_ALLOWED, IN_PROGRESS)), TryAgain, InProgress),
    "402 not allowed": (answer(402, errors(NOT_ALLOWED)), Refused, Refused),
    "409 not allowed": (answer(409, errors(NOT_ALLOWED)), TryAgain, NotAllowed),
    "409 other": (answer(409, errors({"id": "PAYMENT_CLOSED"})), TryAgain, NotAllowed),
    "409 of a proxy": (answer(409, HTML, "text/html"), TryAgain, OutcomeUnknown),
    "409 empty": (answer(409), TryAgain, OutcomeUnknown),
    "410": (answer(410, errors({"id": "GONE"})), Refused, Refused),
    "413": (answer(413, errors({"id": "LARGE"})), Refused, Refused),
    "422": (answer(422, errors({"id": "NO"})), Refused, Refused),
    "429": (answer(429, errors({"id": "SLOW"})), SlowDown, SlowDown),
    "429 of a proxy": (answer(429, HTML, "text/html"), SlowDown, SlowDown),
    "500": (answer(500, errors({"id": "BROKEN"})), TryAgain, OutcomeUnknown),
    "500 in other words": (answer(500, errors(UNKNOWN, IN_PROGRESS)), TryAgain, OutcomeUnknown),
    "501": (answer(501, errors({"id": "BROKEN"})), TryAgain, OutcomeUnknown),
    "502 of a proxy": (answer(502, HTML, "text/html"), TryAgain, OutcomeUnknown),
    "503": (answer(503, errors({"id": "BROKEN"})), TryAgain, OutcomeUnknown),
    "504": (answer(504, errors({"id": "BROKEN"})), TryAgain, OutcomeUnknown),
    "301": (answer(301, b"", Location="/v2/acme/payments/1_0/x"), TryAgain, OutcomeUnknown),
    "302": (answer(302, b"", None, Location="http://127.0.0.1:9/"), TryAgain, OutcomeUnknown),
    "307 in JSON": (answer(307, {"id": "1_0"}, Location="/x"), TryAgain, OutcomeUnknown),
    "304": (answer(304), TryAgain, OutcomeUnknown),
    "errors null": (answer(400, {"errorId": "1", "errors": None}), TryAgain, OutcomeUnknown),
    "errors of null": (answer(400, {"errorId": "1", "errors": [None]}), TryAgain, OutcomeUnknown),
    "errors a list": (answer(400, []), TryAgain, OutcomeUnknown),
    "errors not JSON": (answer(400, HTML), TryAgain, OutcomeUnknown),
    "200 HTML": (answer(200, HTML, "text/html"), TryAgain, OutcomeUnknown),
    "200 of a list": (answer(200, []), TryAgain, OutcomeUnknown),
    "200 not UTF-8": (answer(200, b"\xff\xfe"), TryAgain, OutcomeUnknown),
    "200 too deep": (answer(200, "[" * 100_000), TryAgain, OutcomeUnknown),
    "200 cut off": (raw(HALF), TryAgain, OutcomeUnknown),
    "reset before the answer": (reset(), TryAgain, OutcomeUnknown),
    "reset in the answer": (reset(HALF), TryAgain, OutcomeUnknown),
    "closed without a word": (raw(b""), TryAgain, OutcomeUnknown),
    "not HTTP": (raw(b"SSH-2.0-OpenSSH\r\n"), TryAgain, OutcomeUnknown),
    "silence": (hang(1), TryAgain, OutcomeUnknown),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_ending_has_a_name(stub: Stub, payments: Any, gateway: WorldlineGateway, ending: str) -> None:
    """A question is asked again where a request for money is looked up; only the platform itself says a final no."""
    stub.replies = {"payment": ENDINGS[ending][0]}
    orders = [order_to(gateway, kind) for kind in MovementKind]
    seconds = 0.4 if ending == "silence" else 5

    asked = name_of(lambda: payments.get_payment("1_0"), moves_money=False)
    moved = [name_of(partial(gateway.send, order, seconds=seconds), moves_money=True) for order in orders]

    assert (type(asked), {type(failure) for failure in moved}) == (ENDINGS[ending][1], {ENDINGS[ending][2]})
    for failure in (asked, *moved):
        assert not [canary for canary in CANARIES if canary in repr(failure) + str(failure)]
        assert len(failure.told) < 200
        assert not failure.replayed
    assert len(stub.asked) == 4  # nothing is ever sent again by itself


def name_of(ask: Any, *, moves_money: bool) -> GatewayError:
    try:
        ask()
    except Exception as error:
        return gateway_error(error, "call", moves_money=moves_money)
    raise AssertionError("the call succeeded")


@pytest.mark.parametrize(("status", "expected"), [(400, Refused), (402, Refused), (500, OutcomeUnknown)])
def test_a_declined_refund_is_refused(stub: Stub, payments: Any, status: int, expected: type[GatewayError]) -> None:
    """A decline is final whatever its status, unless the platform says in the same breath that it is broken."""
    stub.replies = {"refund": answer(status, {"errorId": "e-1", "refundResult": refund("1_1", 83)})}

    failure = name_of(lambda: payments.refund_payment("1_0", RefundRequest(), None), moves_money=True)

    assert (type(failure), failure.error_id) == (expected, "e-1")


def test_a_replayed_answer_with_a_broken_time_may_have_moved_money(stub: Stub, payments: Any) -> None:
    """The SDK stumbles over a header of an answer that succeeded: the error says nothing about the money."""
    stub.replies = {"capture": answer(201, {"id": "1_1"}, X_GCS_Idempotence_Request_Timestamp="yesterday")}

    failure = name_of(
        lambda: payments.capture_payment("1_0", CapturePaymentRequest(), CallContext("key-1")), moves_money=True
    )

    assert type(failure) is OutcomeUnknown


@pytest.mark.parametrize("moves_money", [False, True])
def test_what_never_left_was_not_sent(moves_money: bool) -> None:
    """A refused connection is certain, also where money would have moved."""
    from onlinepayments.sdk.communication.communication_exception import CommunicationException

    failure = gateway_error(CommunicationException(NeverLeft("X")), "capture", moves_money=moves_money)

    assert (type(failure), failure.told) == (NotSent, "capture: never left, X")


@pytest.mark.parametrize(
    "error",
    [TypeError("x"), ValueError("x"), AttributeError("x"), KeyError("x"), RecursionError(), OverflowError(),
     UnicodeDecodeError("utf-8", b"x", 0, 1, "x"), MemoryError(), OSError(5, "x"), UnusableAnswer("x is missing"),
     AnswerLost("X")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_what_is_not_known_of_an_error_is_not_known_of_the_call(error: Exception) -> None:
    """Any other error leaves open what the platform did."""
    assert type(gateway_error(error, "call", moves_money=False)) is TryAgain
    assert type(gateway_error(error, "call", moves_money=True)) is OutcomeUnknown


def test_an_error_already_named_keeps_its_name() -> None:
    """Naming twice changes nothing."""
    named = Refused("no")

    assert gateway_error(named, "call", moves_money=True) is named


def test_ids_in_the_place_of_codes_are_kept_only_if_they_look_like_it() -> None:
    """A card number or a sentence where a code belongs is left out of the message."""
    from onlinepayments.sdk.domain.api_error import APIError

    wrong = [APIError().from_dictionary({"errorCode": CANARIES[0], "id": "A sentence"}), APIError()]
    wrong[1].error_code, wrong[1].id = 50001111, ["x"]

    failure = gateway_error(ApiException(400, "body", CANARIES[0], wrong), "call", moves_money=False)

    assert (failure.told, failure.error_id) == ("call: HTTP 400 ApiException 50001111", None)


def sdk_exceptions() -> dict[str, type[Exception]]:
    found = {}
    for module in pkgutil.walk_packages(onlinepayments.sdk.__path__, "onlinepayments.sdk."):
        if ".domain." in module.name:
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, type) and issubclass(value, Exception) and value.__module__.startswith("onlinep"):
                found[name] = value
    return found


def made(kind: type[Exception]) -> Exception:
    """One of its kind without asking how it is made; what its properties read is there."""
    error = kind.__new__(kind)
    values = {"status_code": 400, "response_body": CANARIES[0], "error_id": "e-1", "errors": (), "response": None}
    for owner in kind.__mro__:
        for name, value in (values | {"body": CANARIES[0], "headers": {}}).items():
            setattr(error, f"_{owner.__name__.lstrip('_')}__{name}", value)
    error.cause = ValueError("x")  # type: ignore[attr-defined]
    return error


SDK_EXCEPTIONS = {
    "ApiException": Refused,
    "ApiVersionMismatchException": OutcomeUnknown,
    "AuthorizationException": Refused,  # by its status, here 400
    "CommunicationException": OutcomeUnknown,
    "DeclinedPaymentException": Refused,
    "DeclinedPayoutException": Refused,
    "DeclinedRefundException": Refused,
    "DeclinedTransactionException": Refused,
    "IdempotenceException": Refused,
    "MarshallerSyntaxException": OutcomeUnknown,
    "NotFoundException": OutcomeUnknown,
    "PlatformException": Refused,
    "ProblemDetailsException": Refused,
    "ReferenceException": Refused,
    "ResponseException": OutcomeUnknown,
    "SecretKeyNotAvailableException": OutcomeUnknown,
    "SignatureValidationException": OutcomeUnknown,
    "ValidationException": Refused,
}


def test_every_exception_of_the_sdk_is_mapped() -> None:
    """A new version that brings another one fails here, so that somebody decides what it means."""
    named = {name: type(gateway_error(made(kind), "call", moves_money=True)) for name, kind in sdk_exceptions().items()}

    assert named == SDK_EXCEPTIONS
