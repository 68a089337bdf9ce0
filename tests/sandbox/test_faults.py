"""Calls that go wrong by rule, as the official SDK meets them."""

import os
import re
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import pytest
import requests
from onlinepayments.sdk.api_exception import ApiException
from onlinepayments.sdk.authorization_exception import AuthorizationException
from onlinepayments.sdk.call_context import CallContext
from onlinepayments.sdk.communication.communication_exception import CommunicationException
from onlinepayments.sdk.communication.not_found_exception import NotFoundException
from onlinepayments.sdk.communication.response_exception import ResponseException
from onlinepayments.sdk.domain.capture_payment_request import CapturePaymentRequest
from onlinepayments.sdk.idempotence_exception import IdempotenceException
from onlinepayments.sdk.json.marshaller_syntax_exception import MarshallerSyntaxException
from onlinepayments.sdk.platform_exception import PlatformException
from onlinepayments.sdk.reference_exception import ReferenceException
from onlinepayments.sdk.validation_exception import ValidationException

from sandbox import Sandbox, SandboxRefused, faults
from sandbox.authentication import signature_of
from sandbox.wire import Request
from tests.servers.ports import free_port
from tests.servers.process_tree import wait_for

HOUSE = Path(__file__).parents[2]


@pytest.fixture
def payment_id(control):
    return control.create_payments(amount=1000)[0]


def capture(merchant, payment_id, key=None, amount=100):
    request = CapturePaymentRequest()
    request.amount = amount
    return merchant.payments().capture_payment(payment_id, request, CallContext(idempotence_key=key) if key else None)


def captured(control, payment_id):
    """How many captures there really are."""
    return len(control.truth_of(payment_id)["operations"])


@pytest.mark.parametrize(
    ("like", "raised", "effects"),
    [
        ("error", PlatformException, 0),
        ("error_stored", PlatformException, 0),
        ("error_with_effect", PlatformException, 1),
        ("error_with_effect_forgotten", PlatformException, 1),
        ("error_with_effect_stored", PlatformException, 1),
        ("gateway_timeout", CommunicationException, 1),
        ("too_many_requests", ApiException, 0),
        ("payment_required", ApiException, 0),
        ("in_progress", ReferenceException, 0),
        ("html", MarshallerSyntaxException, 1),
        ("reset", CommunicationException, 1),
        ("reset_before_effect", CommunicationException, 0),
        ("refused", CommunicationException, 0),
        ("truncated", CommunicationException, 1),
    ],
)
def test_each_fault_is_what_the_sdk_makes_of_it(control, merchant, payment_id, like, raised, effects):
    """The class the real platform's answer is raised as, and the effect that was asked for; once, then all is well."""
    control.fail(like, call="capture_payment", times=1, **({"seconds": 0.2} if like == "refused" else {}))

    with pytest.raises(raised) as failure:
        capture(merchant, payment_id)
    if like == "refused":
        time.sleep(0.5)

    assert type(failure.value) is raised
    assert captured(control, payment_id) == effects
    assert capture(merchant, payment_id).status_output.status_code == 91
    assert [rule["applied"] for rule in control.faults()] == [1]


@pytest.mark.parametrize(
    ("status", "raised"),
    [
        (400, ValidationException),
        (401, ApiException),
        (402, ApiException),
        (403, AuthorizationException),
        (404, ReferenceException),
        (405, ApiException),
        (409, ReferenceException),
        (410, ReferenceException),
        (422, ApiException),
        (429, ApiException),
        (500, PlatformException),
        (501, ApiException),
        (502, PlatformException),
        (503, PlatformException),
        (504, ApiException),
    ],
)
def test_every_status_is_raised_as_the_platforms(control, merchant, payment_id, status, raised):
    """With the platform's error body, whose parts the exception carries."""
    control.fail(call="get_payment", status=status)

    with pytest.raises(ApiException) as failure:
        merchant.payments().get_payment(payment_id)

    assert type(failure.value) is raised
    assert failure.value.status_code == status
    assert failure.value.error_id
    assert failure.value.errors[0].http_status_code == status


def test_answers_that_are_not_json(control, merchant, payment_id):
    """A 404 of a proxy is NotFoundException, any other a CommunicationException around the answer."""
    control.fail(call="get_payment", status=404, body="nothing here", content_type="text/plain", times=1)
    control.fail(call="get_payment", status=503, body="down", content_type="text/plain")

    with pytest.raises(NotFoundException):
        merchant.payments().get_payment(payment_id)
    with pytest.raises(CommunicationException) as failure:
        merchant.payments().get_payment(payment_id)

    assert isinstance(failure.value.cause, ResponseException)
    assert failure.value.cause.status_code == 503


def test_an_answer_of_nothing_is_nothing_to_the_sdk(control, merchant, payment_id):
    """Empty: None. ``{}``: an object without id or status. Both after the effect."""
    control.fail("empty", call="capture_payment", times=1)
    control.fail("empty_object", call="capture_payment")

    assert capture(merchant, payment_id) is None
    assert capture(merchant, payment_id).id is None
    assert captured(control, payment_id) == 2


def test_a_redirect_is_followed_by_the_sdk(control, merchant, payment_id):
    """That is its trap: a POST becomes a GET elsewhere, whose answer is taken for the capture's."""
    elsewhere = f"/v2/sandbox/payments/{payment_id}/captures"
    control.fail("redirect", call="capture_payment", headers={"Location": elsewhere})

    with pytest.raises(ApiException):  # the Authorization was made for another request: 403
        capture(merchant, payment_id)

    assert captured(control, payment_id) == 0


def test_a_malformed_timestamp_breaks_a_call_that_succeeded(control, merchant, payment_id):
    """The SDK raises ValueError, and the money has moved."""
    control.fail("malformed_timestamp", call="capture_payment")

    with pytest.raises(ValueError, match="yesterday"):
        capture(merchant, payment_id, key="k-1")

    assert captured(control, payment_id) == 1


@pytest.mark.parametrize(("like", "effects"), [("hang", 1), ("hang_before_effect", 0)])
def test_a_call_can_hang(box, control, payment_id, like, effects):
    """Nothing comes, the connection stays open; closing the sandbox ends it."""
    control.fail(like, call="test_connection")

    with pytest.raises(requests.ReadTimeout):
        signed_get(box, "/v2/sandbox/services/testconnection", timeout=0.3)


def test_a_drip_keeps_every_read_short_and_the_whole_long(box, control):
    """One byte at a time: a time-out per read never fires."""
    control.fail("drip", call="test_connection", seconds=0.002)
    began = time.monotonic()

    answer = signed_get(box, "/v2/sandbox/services/testconnection", timeout=0.5)

    assert answer.json() == {"result": "OK"}
    assert time.monotonic() - began > 0.002 * 100


@pytest.mark.parametrize("at_byte", [0, 1, 17, 60, 110])
def test_an_answer_can_end_at_any_byte(box, control, at_byte):
    """The head counts; what was not sent never comes."""
    target = "/v2/sandbox/services/testconnection"
    control.fail("truncated", call="test_connection", at_byte=at_byte)
    head = "".join(f"{name}: {value}\r\n" for name, value in signed_headers(target).items())
    host, port = box.url.removeprefix("http://").split(":")

    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\n{head}\r\n".encode())
        received = b"".join(iter(lambda: connection.recv(65536), b""))

    assert len(received) == at_byte
    assert b"HTTP/1.1 200 OK".startswith(received[:15])


def signed_get(box, target, timeout):
    """A GET as the SDK would sign it, without the SDK's own time-outs."""
    return requests.get(box.url + target, headers=signed_headers(target), timeout=timeout)


def signed_headers(target):
    date = format_datetime(datetime.now(UTC), usegmt=True)
    signature = signature_of(Request("GET", target, {"date": date}, b"", False, ("", 0)), "sandbox-secret")
    return {"Date": date, "Authorization": f"GCS v1HMAC:sandbox-key:{signature}"}


def test_a_late_effect_is_in_progress_until_it_comes(control, merchant, payment_id):
    """504 now; the same key is told to wait; then it gets the outcome, and there is one capture."""
    control.fail("late_effect", call="capture_payment", effect_after_seconds=0.4, times=1)

    with pytest.raises(ApiException) as lost:
        capture(merchant, payment_id, key="k-1")
    with pytest.raises(IdempotenceException) as waiting:
        capture(merchant, payment_id, key="k-1")
    before = captured(control, payment_id)
    control.wait_until_delivered()
    answer = capture(merchant, payment_id, key="k-1")

    assert lost.value.status_code == 504
    assert waiting.value.errors[0].id == "DUPLICATE_REQUEST_IN_PROGRESS"
    assert before == 0
    assert captured(control, payment_id) == 1
    assert answer.status_output.status_code == 91


@pytest.mark.parametrize(
    ("like", "second", "effects"),
    [
        ("error", "carried out", 1),
        ("error_stored", "the error again", 0),
        ("error_with_effect", "the outcome", 1),
        ("error_with_effect_forgotten", "carried out", 2),
        ("error_with_effect_stored", "the error again", 1),
    ],
)
def test_what_an_error_leaves_under_the_key(control, merchant, payment_id, like, second, effects):
    """What the platform really does is not known: a client must be safe with each."""
    control.fail(like, call="capture_payment", times=1)
    with pytest.raises(PlatformException):
        capture(merchant, payment_id, key="k-1")

    if second == "the error again":
        with pytest.raises(PlatformException):
            capture(merchant, payment_id, key="k-1")
    else:
        assert capture(merchant, payment_id, key="k-1").status_output.status_code == 91

    assert captured(control, payment_id) == effects


def test_a_list_can_lag_behind(control, merchant, payment_id, settled):
    """It tells how things were: an operation of the last seconds is not there, or still pending."""
    capture(merchant, payment_id)
    settled()
    time.sleep(0.1)
    control.fail("list_lag", lag_seconds=0.05, times=1)
    control.fail("list_lag", lag_seconds=60.0)

    recent = merchant.captures().get_captures(payment_id).captures
    earlier = merchant.captures().get_captures(payment_id).captures

    assert [c.status_output.status_code for c in recent] == [9]
    assert earlier == []
    assert merchant.payments().get_payment_details(payment_id).operations[-1].status_output.status_code == 9


def test_a_rule_can_be_for_one_payment_only(control, merchant):
    """By its ten digits, whichever form of the id the call uses."""
    here, elsewhere = control.create_payments(2)
    control.fail("error", call="get_payment", payment_id=here[:-2])

    with pytest.raises(PlatformException):
        merchant.payments().get_payment(f"900000{here[:-2]}000")
    assert merchant.payments().get_payment(elsewhere).id == elsewhere


def test_a_rule_can_begin_late_and_end(control, merchant, payment_id):
    """``skip`` calls are left alone, then ``times`` are not."""
    control.fail("error", call="get_payment", skip=1, times=2)

    outcomes = [outcome(merchant, payment_id) for _ in range(5)]

    assert outcomes == [200, 500, 500, 200, 200]
    assert control.faults()[0] == {
        "id": 1,
        "fault": {"call": "get_payment", "skip": 1, "times": 2, "effect": False, "keeps": "nothing", "status": 500},
        "matched": 3,
        "applied": 2,
    }


def outcome(merchant, payment_id):
    try:
        merchant.payments().get_payment(payment_id)
    except ApiException as error:
        return error.status_code
    return 200


def test_a_share_is_drawn_from_the_seed():
    """The same calls on the same payments in the same order suffer the same; another seed, something else."""

    def suffered(seed):
        rules = faults.Faults()
        rules.add({"like": "error", "share": 0.5})
        return [rules.of("get_payment", "", f"get_payment/{place}", seed) is not faults.NONE for place in range(200)]

    assert suffered(1) == suffered(1) != suffered(2)
    assert 70 < sum(suffered(1)) < 130


def test_the_first_rule_that_fits_decides(control, merchant, payment_id):
    """In the order in which they were added; taken back, all is well."""
    control.fail(status=502, call="get_payment", times=1)
    control.fail(status=503)

    assert [outcome(merchant, payment_id) for _ in range(2)] == [502, 503]
    control.mend()
    assert outcome(merchant, payment_id) == 200
    assert control.faults() == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"like": "bad luck"}, "no fault 'bad luck'; there are refused, hang"),
        ({"statuses": 500}, "statuses: Extra inputs are not permitted"),
        ({"status": 99}, "status: Input should be greater than or equal to 200"),
        ({"status": "500"}, "status: Input should be a valid integer"),
        ({"share": 2}, "share: Input should be less than or equal to 1"),
        ({"kill": "later"}, "kill: Input should be 'before_effect', 'after_effect' or 'mid_answer'"),
        ({"effect_after_seconds": 1}, "effect_after_seconds needs what is answered before it"),
        ({"effect_after_seconds": 1, "effect": False}, "effect_after_seconds needs effect: true"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(control, given, message):
    """The message says which part and why; nothing is added."""
    with pytest.raises(SandboxRefused, match=re.escape(message)):
        control.fail(**given)

    assert control.faults() == []


def test_every_named_fault_is_a_rule():
    """A name without its parts would be found out only when it is used."""
    for name in faults.NAMED:
        assert faults.fault_from({"like": name}) != faults.NONE


@pytest.mark.parametrize("moment", ["before_effect", "after_effect", "mid_answer"])
def test_the_caller_can_be_killed(control, payment_id, moment):
    """SIGKILL at the very moment: no hook in the caller is needed, and the effect is there all the same."""
    control.fail(call="capture_payment", kill=moment)
    script = (
        "import sys; sys.path.insert(0, 'tests/sandbox'); from conftest import sdk_merchant\n"
        "from onlinepayments.sdk.domain.capture_payment_request import CapturePaymentRequest\n"
        f"sdk_merchant({control.url!r}).payments().capture_payment({payment_id!r}, CapturePaymentRequest())\n"
        "print('survived')"
    )
    surroundings = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}

    child = subprocess.run(
        [sys.executable, "-c", script], cwd=HOUSE, env=surroundings, capture_output=True, text=True, timeout=30
    )

    assert (child.returncode, child.stdout) == (-9, "")
    give_up_at = time.monotonic() + 5
    while not captured(control, payment_id):  # killed before the effect, it is gone a moment before it
        assert time.monotonic() < give_up_at
    assert captured(control, payment_id) == 1


def test_the_sandbox_does_not_kill_itself(control, merchant, payment_id):
    """Who runs it inside the calling process has nobody to kill; the call goes on."""
    control.fail(call="capture_payment", kill="before_effect")

    assert capture(merchant, payment_id).status_output.status_code == 91


def answers(url):
    try:
        return requests.get(f"{url}/sandbox", timeout=2).status_code == 200
    except requests.ConnectionError:
        return False


def test_an_outage_refuses_connections_and_ends():
    """Refused, not reset: the port is closed. Afterwards everything is as it was."""
    # Below the ephemeral ports: no client's connection is given this one while the sandbox is away from it.
    with Sandbox(port=free_port()) as box, box.client() as control:
        payment_id = control.create_payments()[0]
        control.outage(1.5)
        time.sleep(0.15)
        with pytest.raises(requests.ConnectionError, match="refused"):
            requests.get(f"{box.url}/v2/sandbox/services/testconnection", timeout=2)

        assert wait_for(lambda: answers(box.url), 10)
        assert control.truth_of(payment_id)["status_code"] == 5


@pytest.mark.parametrize("seconds", [0, -1, "long", True, 4000])
def test_an_outage_has_an_end(control, seconds):
    """Longer than an hour would be a mistake."""
    with pytest.raises(SandboxRefused, match="seconds: a number up to 3600"):
        control.outage(seconds)
