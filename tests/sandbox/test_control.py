"""The control surface: settings, payments, the portal's clicks, the ledger and the counters."""

import pytest
import requests

from sandbox import Sandbox, SandboxRefused


def test_it_says_what_it_is(control):
    """Credentials, settings and routes, for whoever finds the port."""
    about = control.about()

    assert about["merchants"] == [{"id": "sandbox", "api_key_id": "sandbox-key", "api_secret": "sandbox-secret"}]
    assert about["settings"]["webhooks"]["key_id"] == "sandbox-webhook-key"
    assert "GET /sandbox/ledger" in about["routes"]


def test_a_setting_changes_alone(control):
    """What is not named stays, inside webhooks too."""
    control.settings(webhooks={"copies": 2}, settle_seconds=1)

    after = control.settings(webhooks={"shuffle": True})

    assert (after["webhooks"]["copies"], after["webhooks"]["shuffle"], after["settle_seconds"]) == (2, True, 1.0)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"latencyseconds": 1}, "latency_seconds, settle_seconds"),
        ({"webhooks": {"url": "x"}}, "unknown name webhooks.url; known are urls, key_id"),
        ({"webhooks": []}, "webhooks: an object"),
        ({"webhooks": {"urls": "http://x"}}, "webhooks.urls: a list"),
        ({"webhooks": {"drop_share": 1.5}}, "between 0 and 1"),
        ({"latency_seconds": -1}, "between 0"),
        ({"settle_seconds": "1"}, "float is expected"),
        ({"seed": True}, "int is expected"),
        ({"sale_lists_capture": 1}, "bool is expected"),
    ],
)
def test_a_wrong_setting_changes_nothing(control, changes, complaint):
    """The answer names what is known; the good part of the request is not taken either."""
    before = control.settings()

    with pytest.raises(SandboxRefused, match=complaint):
        control.settings(settle_seconds=9, **changes) if "settle_seconds" not in changes else control.settings(
            **changes
        )

    assert control.settings() == before


def test_many_payments_are_made_at_once(control):
    """Each has an id of its own, and a numbered reference."""
    ids = control.create_payments(500, amount=700, currency="USD", merchant_reference="order")

    ledger = control.ledger()
    assert [f"{p['payment_id']}_0" for p in ledger] == ids
    assert len(set(ids)) == 500
    assert ledger[499]["merchant_reference"] == "order-500"
    assert {(p["currency"], p["amount_authorised"], p["status"]) for p in ledger} == {("USD", 700, "PENDING_CAPTURE")}


@pytest.mark.parametrize("order", [{"amount": 0}, {"count": 0}, {"sale": "yes"}, {"merchant_id": "x"}, {"price": 5}])
def test_a_wrong_order_is_refused(control, box, order):
    """Nothing is made of it."""
    answer = requests.post(f"{box.url}/sandbox/payments", json=order, timeout=5)

    assert answer.status_code in (400, 404)
    assert answer.json()["error"]
    assert control.ledger() == []


def test_the_ledger_adds_up(control, settled):
    """Only what is confirmed counts as captured, refunded, cancelled; the rest is pending or nothing."""
    control.settings(refuse_next={"capture": 1})
    payment_id = control.create_payments(amount=1000)[0]
    control.capture(payment_id, 100)  # refused
    settled()
    control.capture(payment_id, 600)
    settled()
    control.refund(payment_id, 150)
    control.cancel(payment_id, 300)
    settled()
    control.settings(settle_seconds=60)
    control.capture(payment_id, 100)
    control.refund(payment_id, 50)

    truth = control.truth_of(payment_id)

    operations = truth.pop("operations")
    assert truth == {
        "merchant_id": "sandbox",
        "payment_id": payment_id[:-2],
        "merchant_reference": None,
        "status": "CAPTURE_REQUESTED",
        "status_code": 91,
        "currency": "EUR",
        "amount_authorised": 1000,
        "amount_captured": 600,
        "amount_capture_pending": 100,
        "amount_refunded": 150,
        "amount_refund_pending": 50,
        "amount_cancelled": 300,
    }
    assert [(o["id"][-2:], o["kind"], o["amount"], o["status_code"], o["reference"]) for o in operations] == [
        ("_1", "capture", 100, 93, None),
        ("_2", "capture", 600, 9, None),
        ("_3", "refund", 150, 8, None),
        ("_4", "cancel", 300, 6, None),
        ("_5", "capture", 100, 91, None),
        ("_6", "refund", 50, 81, None),
    ]


def test_the_ledger_can_be_asked_for_one_merchant(control):
    """Merchants are kept apart."""
    control.add_merchant("other", "other-key", "other-secret")
    control.create_payments(2, merchant_id="other")
    control.create_payments(3)

    assert (len(control.ledger("other")), len(control.ledger("sandbox")), len(control.ledger())) == (2, 3, 5)


def test_a_key_belongs_to_one_merchant(control):
    """The key says who is calling."""
    with pytest.raises(SandboxRefused, match="belongs to merchant sandbox"):
        control.add_merchant("other", "sandbox-key", "x")


def test_a_click_that_is_not_possible_is_refused(control):
    """The portal obeys the same rules as the API."""
    payment_id = control.create_payments()[0]

    with pytest.raises(SandboxRefused, match="a refund of 5 is not possible: at most 0 is"):
        control.refund(payment_id, 5)
    with pytest.raises(SandboxRefused, match="no payment 1111111111_0"):
        control.capture("1111111111_0")


def test_calls_are_counted(control, merchant, pay):
    """By call and by payment, whichever id was used; refused ones as well."""
    payment_id = pay()
    number = payment_id[:-2]
    for asked in (payment_id, number, f"900000{number}000"):
        merchant.payments().get_payment(asked)
    merchant.captures().get_captures(payment_id)

    calls = control.calls()
    control.forget_calls()

    assert calls == {
        "total": 5,
        "by_call": {"create_payment": 1, "get_payment": 3, "get_captures": 1},
        "by_payment": {number: {"get_payment": 3, "get_captures": 1}},
    }
    assert control.calls() == {"total": 0, "by_call": {}, "by_payment": {}}


def test_the_log_of_deliveries_can_be_cleared(control, receiver, settled):
    """Clearing forgets what was, not what is still to be sent."""
    control.settings(webhooks={"urls": [receiver.url]})
    control.create_payments()
    entry = settled()["deliveries"][0]
    newest = control.deliveries(last=1)["deliveries"]
    control.forget_deliveries()

    assert newest != [entry]
    assert set(entry) == {
        "event_id",
        "type",
        "merchant_id",
        "payment_id",
        "url",
        "copy",
        "attempt",
        "status",
        "problem",
        "at",
    }
    assert control.deliveries(last=5) == {"settling": 0, "queued": 0, "given_up": 0, "deliveries": []}


def test_answers_of_the_platform_can_be_slow_but_block_nobody(box, control, merchant):
    """The latency is the API's alone, and two slow calls wait at the same time."""
    control.settings(latency_seconds=0.5)

    answer = requests.get(f"{box.url}/v2/sandbox/services/testconnection", timeout=5)
    looked = requests.get(f"{box.url}/sandbox", timeout=5)

    assert answer.elapsed.total_seconds() >= 0.5
    assert looked.elapsed.total_seconds() < 0.5


def test_an_unknown_route_names_the_known_ones(box):
    """Also for a known path with the wrong method."""
    answer = requests.put(f"{box.url}/sandbox/settings", timeout=5)

    assert answer.status_code == 404
    assert "PATCH /sandbox/settings" in answer.json()["error"]


def test_a_sandbox_can_be_set_up_when_it_is_made():
    """The same names as over HTTP."""
    with Sandbox(settle_seconds=0, webhooks={"copies": 2}) as box, box.client() as control:
        assert control.settings()["webhooks"]["copies"] == 2


def test_what_was_closed_answers_nobody(receiver):
    """Kept-alive connections end with the sandbox."""
    with requests.Session() as session:
        with Sandbox() as box:
            assert session.get(f"{box.url}/sandbox", timeout=5).status_code == 200

        with pytest.raises(requests.ConnectionError):
            session.get(f"{box.url}/sandbox", timeout=5)
