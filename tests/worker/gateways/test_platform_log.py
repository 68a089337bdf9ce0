"""What of a call is written down, and what never is."""

import logging
from collections.abc import Mapping
from typing import Any

import pytest
from onlinepayments.sdk.log.body_obfuscator import BodyObfuscator
from onlinepayments.sdk.log.header_obfuscator import HeaderObfuscator
from onlinepayments.sdk.log.python_communicator_logger import PythonCommunicatorLogger

from tests.worker.gateways.platform_stub import (
    CANARIES,
    EMAIL,
    TOKEN,
    MakeGateway,
    Reply,
    Stub,
    answer,
    errors,
    head,
    payment,
    personal,
    raw,
)
from worker.gateways.connection import PlatformConnection
from worker.gateways.gateway import GatewayError

PERSONAL: Mapping[str, Any] = {**personal(), "amountOfMoney": {"amount": 1}}
ANSWERS: dict[str, Reply] = {
    "a payment": answer(200, payment(code=0)),
    "a wrong payment": answer(200, payment("1_0", code=0)),
    "a payment of other types": answer(200, payment(code=0) | {"paymentOutput": [PERSONAL]}),
    "a payment cut off": raw(head(200, Content_Length="9999") + str(personal()).encode()),
    "a payment that is no JSON": answer(200, str(personal())),
    "an error": answer(400, errors({"errorCode": "50001111", "id": "INVALID_VALUE"})),
    "an error with a payment": answer(500, {"errorId": "1", "errors": [], **PERSONAL}),
    "an error in HTML": answer(502, f"<html>{CANARIES}</html>", "text/html"),
    "errors of another type": answer(400, {"errors": CANARIES}),
}


@pytest.mark.parametrize("said", ANSWERS)
def test_nothing_personal_is_told_or_logged(
    stub: Stub, gateway: Any, caplog: pytest.LogCaptureFixture, said: str
) -> None:
    """Whatever the platform answers, no word of it about a person is in an error, a log line or a snapshot."""
    caplog.set_level(logging.DEBUG)
    stub.replies = {"payment": ANSWERS[said]}
    try:
        told = repr(gateway.look("3254564310", seconds=5))
    except GatewayError as error:
        told = f"{error} {error!r} {vars(error)}"

    assert not [canary for canary in CANARIES if canary in told + caplog.text]


def test_calls_are_not_logged_unless_asked_for(stub: Stub, gateway: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Silence is the default."""
    caplog.set_level(logging.DEBUG)

    gateway.look("3254564310", seconds=5)

    assert [record for record in caplog.records if record.name == "payhook.platform"] == []


def test_calls_are_logged_masked_when_asked_for(
    stub: Stub, gateway_to: MakeGateway, caplog: pytest.LogCaptureFixture
) -> None:
    """Request and answer can be read, people, keys and tokens cannot."""
    caplog.set_level(logging.DEBUG)

    gateway_to(stub.endpoint, platform_log=True).look("3254564310", seconds=5)

    lines = [record.getMessage() for record in caplog.records if record.name == "payhook.platform"]
    assert len(lines) == 8
    assert "/v2/acme/payments/3254564310_0/captures" in "".join(lines)
    assert '"amount": 1500' in "".join(lines)
    assert "key-of-acme" not in "".join(lines)
    assert not [canary for canary in CANARIES if canary in "".join(lines)]


def test_what_is_no_json_is_only_measured(
    stub: Stub, gateway_to: MakeGateway, caplog: pytest.LogCaptureFixture
) -> None:
    """The masks know names of JSON properties; a page could repeat anything."""
    caplog.set_level(logging.DEBUG)
    stub.replies = {"payment": ANSWERS["an error in HTML"]}

    with pytest.raises(GatewayError):
        gateway_to(stub.endpoint, platform_log=True).look("3254564310", seconds=5)

    assert "bytes that are not JSON" in caplog.text
    assert not [canary for canary in CANARIES if canary in caplog.text]


def test_a_call_without_an_answer_is_logged_in_our_words(
    stub: Stub, gateway_to: MakeGateway, caplog: pytest.LogCaptureFixture
) -> None:
    """The library's exceptions quote what was received, so only their names are there."""
    caplog.set_level(logging.DEBUG)
    stub.replies = {"payment": raw(EMAIL.encode() + b"\r\n\r\n")}

    with pytest.raises(GatewayError):
        gateway_to(stub.endpoint, platform_log=True).look("3254564310", seconds=5)

    assert "No answer" in caplog.text
    assert EMAIL not in caplog.text


def test_the_sdks_own_switches_work(
    stub: Stub, connection: PlatformConnection, caplog: pytest.LogCaptureFixture
) -> None:
    """Logging can be turned on, given other masks, and turned off again."""
    caplog.set_level(logging.INFO, "payhook.platform")
    stub.replies = {"payment": answer(200, {"token": TOKEN}, X_Other="secret-header")}
    connection.enable_logging(PythonCommunicatorLogger(logging.getLogger("payhook.platform"), logging.INFO))
    connection.set_body_obfuscator(BodyObfuscator())
    connection.set_header_obfuscator(HeaderObfuscator({"X-Other": lambda value: "***"}))

    connection.post(f"{stub.endpoint}/x", [], '{"a": 1}')
    connection.disable_logging()
    connection.get(f"{stub.endpoint}/x", [])

    assert len(caplog.records) == 2
    assert TOKEN in caplog.text
    assert "secret-header" not in caplog.text
