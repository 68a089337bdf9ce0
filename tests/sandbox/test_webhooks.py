"""Webhooks as they arrive: signed like the platform's, repeated until taken, and unruly on request."""

import json
import re
import time
from collections import Counter

import pytest
from onlinepayments.sdk.communication.request_header import RequestHeader
from onlinepayments.sdk.json.default_marshaller import DefaultMarshaller
from onlinepayments.sdk.webhooks.secret_key_store import SecretKeyStore
from onlinepayments.sdk.webhooks.signature_validation_exception import SignatureValidationException
from onlinepayments.sdk.webhooks.signature_validator import SignatureValidator
from onlinepayments.sdk.webhooks.webhooks_helper import WebhooksHelper

from sandbox import Sandbox, SandboxRefused


class OneKey(SecretKeyStore):
    def __init__(self, secret="sandbox-webhook-secret-for-trying-out"):
        self.secret = secret

    def get_secret_key(self, key_id):
        assert key_id == "sandbox-webhook-key"
        return self.secret


def event_of(received):
    headers, body = received
    return WebhooksHelper(DefaultMarshaller.instance(), OneKey()).unmarshal(body, request_headers(headers))


def request_headers(headers):
    return [RequestHeader(name, value) for name, value in headers.items()]


def types(receiver):
    return Counter(json.loads(body)["type"] for _, body in receiver.received)


@pytest.fixture
def listening(control, receiver):
    control.settings(webhooks={"urls": [receiver.url]})
    return receiver


def test_a_webhook_is_genuine_to_the_sdk(control, listening, settled):
    """SignatureValidator accepts it with the right secret only; WebhooksHelper reads it."""
    payment_id = control.create_payments(merchant_reference="order-7")[0]
    settled()
    headers, body = listening.received[-1]

    SignatureValidator(OneKey()).validate(body, request_headers(headers))
    with pytest.raises(SignatureValidationException):
        SignatureValidator(OneKey("another")).validate(body, request_headers(headers))

    event = event_of(listening.received[-1])
    assert (event.api_version, event.merchant_id) == ("v1", "sandbox")
    assert event.payment.id == payment_id
    assert event.payment.payment_output.references.merchant_reference == "order-7"
    assert headers["retry-count"] == "0"


def test_the_envelope_is_compact_json_with_seven_fractional_digits(control, listening, settled):
    """As the platform writes it."""
    control.create_payments()
    settled()

    body = listening.received[0][1].decode()

    content = json.loads(body)
    assert json.dumps(content, separators=(",", ":"), ensure_ascii=False) == body
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}\+\d\d:\d\d", content["created"])
    assert len({json.loads(body)["id"] for _, body in listening.received}) == 2


def test_the_life_of_a_payment_is_told(control, listening, settled):
    """Each change of state is one event, under the operation's id; a cancellation under way has none."""
    payment_id, cancelled = control.create_payments(2)
    settled()
    control.capture(payment_id)
    control.cancel(cancelled)
    settled()
    control.refund(payment_id, 400)
    settled()

    seen = {(e.type, (e.payment or e.refund).id): (e.payment or e.refund) for e in map(event_of, listening.received)}

    number = payment_id[:-2]
    assert {(t, i): o.status_output.status_code for (t, i), o in seen.items()} == {
        ("payment.created", payment_id): 0,
        ("payment.pending_capture", payment_id): 5,
        ("payment.created", cancelled): 0,
        ("payment.pending_capture", cancelled): 5,
        ("payment.capture_requested", f"{number}_1"): 91,
        ("payment.captured", f"{number}_1"): 9,
        ("payment.cancelled", cancelled[:-1] + "1"): 6,
        ("refund.refund_requested", f"{number}_2"): 81,
        ("payment.refunded", f"{number}_2"): 8,
    }
    assert seen["payment.refunded", f"{number}_2"].refund_output.amount_of_money.amount == 400


def test_refusals_are_told(control, listening, settled):
    """A refused capture is payment.rejected_capture; a refused refund payment.rejected with an empty refund."""
    control.settings(refuse_next={"capture": 1, "refund": 1})
    payment_id = control.create_payments()[0]
    control.capture(payment_id)
    settled()
    control.capture(payment_id)
    settled()
    control.refund(payment_id)
    settled()

    bodies = {json.loads(body)["type"]: json.loads(body) for _, body in listening.received}

    assert bodies["payment.rejected_capture"]["payment"]["statusOutput"]["statusCode"] == 93
    assert bodies["payment.rejected"]["payment"]["statusOutput"]["statusCode"] == 83
    assert bodies["payment.rejected"]["refund"] == {}


def test_addresses_of_the_payment_replace_the_configured_ones(control, receiver, pay, settled):
    """feedbacks.webhooksUrls of the request win for that payment."""
    control.settings(webhooks={"urls": ["http://127.0.0.1:9/nobody"]}, retry_seconds=[])

    pay(feedbacks={"webhooksUrls": [receiver.url]})
    settled()

    assert types(receiver) == {"payment.created": 1, "payment.pending_capture": 1}


def test_events_can_be_doubled(control, listening, settled):
    """copies sends each event that often, byte for byte the same."""
    control.settings(webhooks={"copies": 3})

    control.create_payments(4)
    settled()

    assert set(Counter(body for _, body in listening.received).values()) == {3}
    assert len(listening.received) == 24


def test_an_event_is_sent_again_until_it_is_taken(control, listening, settled):
    """Whatever is not 2xx is repeated after the next interval, counted in retry-count."""
    payment_id = control.create_payments(webhooks=False)[0]
    listening.answers[:] = [500, 302, 404]

    control.emit(payment_id)
    report = settled()

    assert [headers["retry-count"] for headers, _ in listening.received] == ["0", "1", "2", "3"]
    assert len({body for _, body in listening.received}) == 1
    assert [d["status"] for d in report["deliveries"]] == [500, 302, 404, 204]
    assert [d["attempt"] for d in report["deliveries"]] == [0, 1, 2, 3]
    assert listening.at[3] - listening.at[2] >= 0.2  # the last of the fixture's intervals


def test_an_event_is_given_up_after_the_last_interval(control, settled):
    """Nobody listens: the problem is logged with each attempt."""
    control.settings(webhooks={"urls": ["http://127.0.0.1:9/nobody"]}, retry_seconds=[0.01])
    payment_id = control.create_payments(webhooks=False)[0]

    control.emit(payment_id)
    report = settled()

    assert report["given_up"] == 1
    assert [(d["attempt"], d["status"], d["problem"]) for d in report["deliveries"]] == [
        (0, None, "ConnectionError"),
        (1, None, "ConnectionError"),
    ]


def test_the_retries_are_the_platforms_unless_set():
    """10 minutes, 1, 2, 8 and 24 hours."""
    with Sandbox() as box, box.client() as control:
        assert control.settings()["retry_seconds"] == [600, 3600, 7200, 28800, 86400]


def test_a_share_of_the_events_is_dropped(control, listening, settled):
    """drop_share of them is never sent, and the log says so."""
    control.settings(webhooks={"drop_share": 0.5})

    control.create_payments(100)
    report = settled()

    dropped = sum(1 for d in report["deliveries"] if d["problem"] == "dropped")
    assert 60 < dropped < 140
    assert len(listening.received) == 200 - dropped


def test_what_is_dropped_is_drawn_from_the_seed():
    """The same payments under the same seed lose the same events; under another seed others."""

    def lost(seed):
        with Sandbox(seed=seed, webhooks={"drop_share": 0.5}) as box, box.client() as control:
            first = int(control.create_payments(40)[0][:-2])
            log = control.wait_until_delivered()["deliveries"]
            return [(int(d["payment_id"][:-2]) - first, d["type"]) for d in log]

    assert lost(7) == lost(7)
    assert lost(7) != lost(8)


def test_events_can_overtake_one_another(control, listening, settled):
    """Shuffled, the events do not arrive in the order in which they were made."""
    control.settings(webhooks={"shuffle": True})
    payment_id = control.create_payments(webhooks=False)[0]

    made = control.emit(payment_id, count=20)
    settled()

    arrived = [json.loads(body)["id"] for _, body in listening.received]
    assert sorted(arrived) == sorted(made)
    # Senders work side by side, so neighbours may swap in any case: far more than that must have moved.
    assert sum(abs(arrived.index(id) - place) > 2 for place, id in enumerate(made)) > 5


def test_events_can_be_late(control, listening, settled):
    """delay_seconds spreads them over that time."""
    control.settings(webhooks={"delay_seconds": 0.5})
    payment_id = control.create_payments(webhooks=False)[0]

    control.emit(payment_id, count=20)
    settled()

    assert 0.2 < listening.at[-1] - listening.at[0] < 3


def test_deliveries_can_be_held_back(control, listening, settled):
    """Paused, events wait; nothing is lost when they are let go."""
    control.settings(webhooks={"paused": True})
    control.create_payments(3)
    with pytest.raises(TimeoutError):
        control.wait_until_delivered(timeout=0.1)
    held = len(listening.received)

    control.settings(webhooks={"paused": False})
    settled()

    assert (held, len(listening.received)) == (0, 6)


def test_a_present_state_can_be_told_again(control, listening, settled):
    """Under the name that fits or any other, each time in a new envelope."""
    payment_id = control.create_payments(webhooks=False, sale=True)[0]

    ids = control.emit(payment_id, count=2) + control.emit(payment_id, type="payment.paid")
    settled()

    assert sorted(ids) == sorted(json.loads(body)["id"] for _, body in listening.received)
    assert types(listening) == {"payment.captured": 2, "payment.paid": 1}


def test_a_retry_may_come_in_a_new_envelope(control, listening, settled):
    """Another id and another ``created``; the rest is the same to the letter."""
    control.settings(webhooks={"new_ids_on_retry": True})
    listening.answers = [503]
    control.create_payments()
    settled()

    told = [json.loads(body) for _, body in listening.received]
    first, again = (event for event in told if event["type"] == told[0]["type"])

    assert first.pop("id") != again.pop("id")
    assert first.pop("created") != again.pop("created")
    assert first == again


@pytest.mark.parametrize(("resigned", "key_ids"), [(True, ["old", "new"]), (False, ["old", "old"])])
def test_a_new_key_counts_at_once_for_what_comes_first(control, listening, settled, resigned, key_ids):
    """Whether the platform signs retries anew is not known: both can be had."""
    control.settings(retry_seconds=[1.0], webhooks={"resign_retries": resigned, "key_id": "old"})
    listening.answers = [503, 503]
    control.create_payments()
    while len(control.deliveries()["deliveries"]) < 2:
        time.sleep(0.01)
    pair = control.regenerate_webhook_key(key_id="new")
    settled()

    created = [headers for headers, body in listening.received if json.loads(body)["type"] == "payment.created"]

    assert [headers["x-gcs-keyid"] for headers in created] == key_ids
    assert control.settings()["webhooks"]["secret"] == pair["secret"] != "sandbox-webhook-secret-for-trying-out"


def test_a_new_key_can_be_ones_own(control):
    """As in the portal: id and secret typed in."""
    assert control.regenerate_webhook_key(key_id="mine", secret="s") == {"key_id": "mine", "secret": "s"}
    assert control.regenerate_webhook_key() != control.regenerate_webhook_key()


def test_there_are_at_most_five_addresses(control):
    """As the portal has it."""
    with pytest.raises(SandboxRefused, match=r"webhooks.urls: at most 5 are expected"):
        control.settings(webhooks={"urls": ["http://127.0.0.1:1"] * 6})
