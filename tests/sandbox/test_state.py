"""Everything the sandbox knows can be kept and given back."""

import re

import pytest
from onlinepayments.sdk.call_context import CallContext
from onlinepayments.sdk.domain.capture_payment_request import CapturePaymentRequest
from onlinepayments.sdk.domain.create_token_request import CreateTokenRequest

from sandbox import Sandbox, SandboxRefused
from tests.sandbox.conftest import sdk_merchant


def capture(box, payment_id, key):
    context = CallContext(idempotence_key=key)
    answer = sdk_merchant(box.url).payments().capture_payment(payment_id, CapturePaymentRequest(), context)
    return answer, context


def test_another_sandbox_goes_on_where_the_first_was(receiver):
    """Payments, keys, rules, settings, webhooks still to be sent; what was pending settles there."""
    with Sandbox(settle_seconds=60, webhooks={"urls": [receiver.url], "paused": True}) as first:
        control = first.client()
        payment_id = control.create_payments(amount=1500, merchant_reference="order-1")[0]
        answer, _ = capture(first, payment_id, "key-1")
        control.fail("error", call="get_refunds")
        saved = control.save()
        truth = control.truth_of(payment_id)

    with Sandbox() as second:
        control = second.client()
        loaded = control.load(saved)
        pending = control.truth_of(payment_id)
        again, context = capture(second, payment_id, "key-1")
        control.load(saved | {"settings": saved["settings"] | {"settle_seconds": 0.01}})
        control.settings(webhooks={"paused": False})
        control.wait_until_delivered()

        assert loaded == {"merchants": 1, "payments": 1, "idempotence_keys": 1, "faults": 1, "webhooks": 3}
        assert pending == truth
        assert again.id == answer.id
        assert context.idempotence_request_timestamp is not None
        assert control.truth_of(payment_id)["status_code"] == 9
        assert control.faults()[0]["fault"]["call"] == "get_refunds"
        assert len(receiver.received) == 4
        assert control.create_payments()[0] > payment_id


def test_a_saved_state_loaded_again_is_the_same(control, pay, settled):
    """Saving what was loaded gives what was saved."""
    payment_id = pay()
    control.capture(payment_id, 500)
    settled()
    saved = control.save()

    control.load(saved)

    assert control.save() == saved


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"payments": [{"number": 1}]}, "payments.0.order: Field required"),
        ({"shelf": []}, "shelf: Unexpected keyword argument"),
        ({"settings": {"seed": "x"}}, "settings.seed: Input should be a valid integer"),
    ],
)
def test_what_is_no_saved_state_changes_nothing(control, pay, change, message):
    """The message says where it is wrong."""
    pay()
    before = control.save()

    with pytest.raises(SandboxRefused, match=re.escape(message)):
        control.load(before | change)

    assert control.save() == before


def test_tokens_and_payouts_are_kept_too(merchant, control):
    """A card behind a token can be charged after the state was taken back."""
    card = {"cardNumber": "4330264936344675", "expiryDate": "1230", "cvv": "123", "cardholderName": "Wile E. Coyote"}
    token = merchant.tokens().create_token(
        CreateTokenRequest().from_dictionary({"paymentProductId": 1, "card": {"data": {"card": card}}})
    )
    saved = control.save()

    with Sandbox() as other:
        other.client().load(saved)
        kept = sdk_merchant(other.url).tokens().get_token(token.token)

    assert kept.id == token.token
    assert "4330264936344675" not in str(saved)
