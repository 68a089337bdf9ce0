"""What the platform says when it is asked for nothing: who we are, what time it is, which webhook key it signs with."""

import json
import time
from email.utils import formatdate
from typing import Any

import pytest

from tests.worker.gateways.platform_stub import MakeGateway, Reply, Stub, answer, errors, hang, reset
from worker.gateways.gateway import CredentialsRefused, NotSent, SlowDown, TryAgain
from worker.gateways.worldline import WorldlineGateway


def told(status: int = 200, body: Any = None, **headers: str) -> Reply:
    return answer(status, {"result": "OK"} if body is None else body, **headers)


def at(seconds: float) -> str:
    return formatdate(time.time() + seconds, usegmt=True)


@pytest.mark.parametrize("ahead", [0, 90, -400])
def test_the_time_of_the_answer_is_told(stub: Stub, gateway: WorldlineGateway, ahead: float) -> None:
    """How much our clock is ahead, to a second or so."""
    stub.replies["testconnection"] = told(Date=at(-ahead))

    contact = gateway.contact(seconds=5)

    assert contact.refusal is None
    assert contact.skew_seconds == pytest.approx(ahead, abs=3)
    assert [one.target for one in stub.asked] == ["/v2/acme/services/testconnection"]


@pytest.mark.parametrize("date", [None, "yesterday", "Mon, 32 Jan 2026 00:00:00 GMT"])
def test_an_answer_need_not_tell_the_time(stub: Stub, gateway: WorldlineGateway, date: str | None) -> None:
    """Then nothing is known of the clock."""
    stub.replies["testconnection"] = told() if date is None else told(Date=date)

    contact = gateway.contact(seconds=5)

    assert (contact.refusal, contact.skew_seconds) == (None, None)


def test_who_is_refused_is_told_the_time(stub: Stub, gateway: WorldlineGateway) -> None:
    """A clock that is wrong is one of the reasons."""
    stub.replies["testconnection"] = told(403, errors({"errorCode": "9007"}), Date=at(-400))

    contact = gateway.contact(seconds=5)

    assert isinstance(contact.refusal, CredentialsRefused)
    assert contact.skew_seconds == pytest.approx(400, abs=3)


@pytest.mark.parametrize(("reply", "kind"), [(hang(), TryAgain), (reset(), TryAgain), (told(429), SlowDown)])
def test_no_answer_is_told_by_its_kind(stub: Stub, gateway: WorldlineGateway, reply: Reply, kind: type) -> None:
    """Within the time there is; an earlier answer's time is not taken for this one's."""
    stub.replies["testconnection"] = told(Date=at(0))
    gateway.contact(seconds=5)
    stub.replies["testconnection"] = reply

    began = time.monotonic()
    contact = gateway.contact(seconds=0.5)

    assert time.monotonic() - began < 2
    assert isinstance(contact.refusal, kind)
    assert contact.skew_seconds is None


def test_nobody_there_is_told(gateway_to: MakeGateway) -> None:
    """Nothing was sent."""
    assert isinstance(gateway_to("http://127.0.0.1:9").contact(seconds=5).refusal, NotSent)


@pytest.mark.parametrize(("result", "valid"), [("Valid", True), ("Invalid", False)])
def test_the_platform_tells_which_webhook_key_is_its_own(
    stub: Stub, gateway: WorldlineGateway, result: str, valid: bool
) -> None:
    """It is told the id, and what the secret makes of nothing."""
    stub.replies["validateCredentials"] = told(body={"result": result})

    found = gateway.is_webhook_key("my-key", "signature=", seconds=5)

    assert found is valid
    assert stub.asked[0].target == "/v2/acme/webhooks/validateCredentials"
    assert json.loads(stub.asked[0].body) == {"key": "my-key", "secret": "signature="}


@pytest.mark.parametrize("reply", [told(body={"result": "Perhaps"}), told(body={}), told(500, "broken")])
def test_an_answer_that_does_not_say_is_none(stub: Stub, gateway: WorldlineGateway, reply: Reply) -> None:
    """Neither yes nor no is made of it."""
    stub.replies["validateCredentials"] = reply

    with pytest.raises(TryAgain):
        gateway.is_webhook_key("my-key", "signature=", seconds=5)
