"""The platform's payment page, from the shop's side and from the consumer's."""

import time
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
import time_machine
from onlinepayments.sdk.domain.create_hosted_checkout_request import CreateHostedCheckoutRequest
from onlinepayments.sdk.reference_exception import ReferenceException
from onlinepayments.sdk.validation_exception import ValidationException

from sandbox import SandboxRefused


@pytest.fixture
def open_checkout(merchant):
    """Create a hosted checkout; the platform's answer."""

    def open_checkout(amount=5000, mode="FINAL_AUTHORIZATION", **page):
        body = {
            "order": {
                "amountOfMoney": {"amount": amount, "currencyCode": "EUR"},
                "references": {"merchantReference": "order-9"},
            },
            "cardPaymentMethodSpecificInput": {"authorizationMode": mode},
            "hostedCheckoutSpecificInput": {"returnUrl": "https://shop.example/back", "locale": "en_GB", **page},
        }
        request = CreateHostedCheckoutRequest().from_dictionary(body)
        return merchant.hosted_checkout().create_hosted_checkout(request)

    return open_checkout


def status_of(merchant, checkout):
    return merchant.hosted_checkout().get_hosted_checkout(checkout.hosted_checkout_id)


def test_a_checkout_is_in_progress_until_the_consumer_pays(merchant, open_checkout, control, told):
    """Its payment has code 0 and no event; then 5, under the checkout's number, with two events."""
    checkout = open_checkout()
    before = status_of(merchant, checkout)
    told_before = told()

    control.pay_checkout(checkout.hosted_checkout_id)

    after = status_of(merchant, checkout)
    assert checkout.merchant_reference == "order-9"
    assert (before.status, before.created_payment_output.payment.status_output.status_code) == ("IN_PROGRESS", 0)
    assert told_before == []
    assert (after.status, after.created_payment_output.payment_status_category) == ("PAYMENT_CREATED", "SUCCESSFUL")
    payment = merchant.payments().get_payment(after.created_payment_output.payment.id)
    assert payment.id == f"{checkout.hosted_checkout_id}_0"
    assert payment.status_output.status_code == 5
    assert payment.hosted_checkout_specific_output.hosted_checkout_id == checkout.hosted_checkout_id
    assert told() == ["payment.created", "payment.pending_capture"]


def test_the_redirect_url_plays_the_consumer(open_checkout):
    """It shows what is to be paid; paying there leads back to the shop with the same MAC."""
    checkout = open_checkout(5000)

    page = requests.get(checkout.redirect_url, timeout=5).json()
    paid = requests.post(f"{checkout.redirect_url}/pay", timeout=5).json()

    assert checkout.redirect_url == f"http://{checkout.partial_redirect_url}"
    assert (page["status"], page["amount"], page["currency"]) == ("IN_PROGRESS", 5000, "EUR")
    back = urlsplit(paid["return_url"])
    assert back.netloc == "shop.example"
    assert parse_qs(back.query) == {
        "hostedCheckoutId": [checkout.hosted_checkout_id],
        "RETURNMAC": [checkout.returnmac],
    }


@pytest.mark.parametrize(("mode", "code"), [("SALE", 9), ("PRE_AUTHORIZATION", 5)])
def test_the_checkout_s_mode_is_the_payment_s(merchant, open_checkout, control, mode, code):
    """A sale is captured when the consumer pays, not before."""
    checkout = open_checkout(mode=mode)

    control.pay_checkout(checkout.hosted_checkout_id)

    assert control.truth_of(f"{checkout.hosted_checkout_id}_0")["status_code"] == code


def test_the_consumer_s_card_may_be_declined(merchant, open_checkout, control, told):
    """As a payment through the API with it would be."""
    checkout = open_checkout()

    control.pay_checkout(checkout.hosted_checkout_id, {"cardNumber": "4111111111111110", "expiryDate": "1299"})

    output = status_of(merchant, checkout).created_payment_output
    assert (output.payment_status_category, output.payment.status_output.status_code) == ("REJECTED", 2)
    assert output.payment.payment_output.card_payment_method_specific_output.card.card_number == "************1110"
    assert told() == ["payment.created", "payment.rejected"]


def test_the_consumer_may_leave(merchant, open_checkout, control, told):
    """CANCELLED_BY_CONSUMER: no payment, no event, and no second chance."""
    checkout = open_checkout()

    control.leave_checkout(checkout.hosted_checkout_id)

    assert status_of(merchant, checkout).status == "CANCELLED_BY_CONSUMER"
    assert told() == []
    with pytest.raises(SandboxRefused, match="over: CANCELLED_BY_CONSUMER"):
        control.pay_checkout(checkout.hosted_checkout_id)


def test_a_checkout_is_paid_once(open_checkout, control):
    """The page is closed behind the payment."""
    checkout = open_checkout()
    control.pay_checkout(checkout.hosted_checkout_id)

    with pytest.raises(SandboxRefused, match="over: PAYMENT_CREATED"):
        control.pay_checkout(checkout.hosted_checkout_id)


def test_a_checkout_ends_with_its_session(merchant, open_checkout):
    """After sessionTimeout minutes it counts as left by the consumer."""
    checkout = open_checkout(sessionTimeout=5)
    before = status_of(merchant, checkout).status

    with time_machine.travel(time.time() + 301):
        after = status_of(merchant, checkout).status

    assert (before, after) == ("IN_PROGRESS", "CANCELLED_BY_CONSUMER")


def test_a_checkout_outlives_a_saved_state(merchant, open_checkout, control):
    """Loaded again it is in progress, and can be paid."""
    checkout = open_checkout()
    control.load(control.save())
    before = status_of(merchant, checkout).status

    paid = control.pay_checkout(checkout.hosted_checkout_id)

    assert (before, paid["status"]) == ("IN_PROGRESS", "PAYMENT_CREATED")
    assert checkout.returnmac in paid["return_url"]


def test_a_checkout_s_values_are_checked(open_checkout):
    """Like those of a payment, and its own."""
    with pytest.raises(ValidationException) as refusal:
        open_checkout(amount=0, sessionTimeout=0)

    assert [error.property_name for error in refusal.value.errors] == [
        "order.amountOfMoney.amount",
        "hostedCheckoutSpecificInput.sessionTimeout",
    ]


def test_only_a_checkout_is_one(merchant, pay):
    """Neither an unknown number nor the number of a payment without a page."""
    for number in ("9999999999", pay()[:-2]):
        with pytest.raises(ReferenceException) as refusal:
            merchant.hosted_checkout().get_hosted_checkout(number)
        assert (refusal.value.status_code, refusal.value.errors[0].id) == (404, "UNKNOWN_HOSTED_CHECKOUT_ID")
