"""Payments on their way to being authorised, or not."""

import pytest
import requests
from onlinepayments.sdk.declined_payment_exception import DeclinedPaymentException
from onlinepayments.sdk.domain.capture_payment_request import CapturePaymentRequest
from onlinepayments.sdk.validation_exception import ValidationException

from sandbox import SandboxRefused

CHALLENGE = {
    "threeDSecure": {
        "challengeIndicator": "challenge-required",
        "redirectionData": {"returnUrl": "https://shop.example/back?order=7"},
    }
}


def code_of(merchant, payment_id):
    return merchant.payments().get_payment(payment_id).status_output.status_code


def declined(create, *arguments, **named):
    with pytest.raises(DeclinedPaymentException) as decline:
        create(*arguments, **named)
    assert decline.value.status_code == 402
    return decline.value


def test_a_challenge_sends_the_consumer_to_the_issuer(create, merchant, control, told):
    """Code 46 and a REDIRECT; at its address the authorisation can be passed, and the way back has the same MAC."""
    answer = create(1500, CHALLENGE)
    redirect = answer.merchant_action.redirect_data
    page = requests.get(redirect.redirect_url, timeout=5).json()
    back = requests.post(redirect.redirect_url, timeout=5).json()

    payment_id = answer.payment.id
    assert answer.merchant_action.action_type == "REDIRECT"
    assert (answer.payment.status, answer.payment.status_output.status_code) == ("REDIRECTED", 46)
    assert page["status_code"] == 46
    assert back["return_url"] == (
        f"https://shop.example/back?order=7&paymentId={payment_id}&RETURNMAC={redirect.returnmac}"
    )
    assert code_of(merchant, payment_id) == 5
    assert told() == ["payment.created", "payment.redirected", "payment.pending_capture"]


def test_a_challenged_sale_is_captured_once_it_is_passed(create, merchant, control):
    """Nothing is authorised or captured before."""
    payment_id = create(1500, CHALLENGE | {"authorizationMode": "SALE"}).payment.id
    before = control.truth_of(payment_id)

    control.authorise(payment_id)

    assert (before["status_code"], before["amount_authorised"], before["amount_captured"]) == (46, 0, 0)
    after = control.truth_of(payment_id)
    assert (after["status_code"], after["amount_authorised"], after["amount_captured"]) == (9, 1500, 1500)


def test_a_challenge_without_a_way_back_is_refused(create):
    """returnUrl is required then; without a challenge it is not."""
    with pytest.raises(ValidationException) as refusal:
        create(1500, {"threeDSecure": {"challengeIndicator": "challenge-required"}})

    assert refusal.value.errors[0].property_name.endswith("threeDSecure.redirectionData.returnUrl")
    assert create(1500, {"threeDSecure": {"challengeIndicator": "no-preference"}}).merchant_action is None
    assert (
        create(1500, {"threeDSecure": {**CHALLENGE["threeDSecure"], "skipAuthentication": True}}).merchant_action
        is None
    )


@pytest.mark.parametrize(
    ("code", "status", "event"),
    [
        (46, "REDIRECTED", "payment.redirected"),
        (50, "AUTHORIZATION_REQUESTED", "payment.authorization_requested"),
        (51, "AUTHORIZATION_REQUESTED", "payment.authorization_requested"),
        (52, "AUTHORIZATION_REQUESTED", "payment.authorization_requested"),
    ],
)
def test_an_undecided_authorisation_stays_until_it_is_decided(control, merchant, told, code, status, event):
    """It cannot be captured meanwhile; then it is 5, and the second decision is refused."""
    payment_id = control.create_payments(status_code=code)[0]
    payment = merchant.payments().get_payment(payment_id)
    with pytest.raises(ValidationException):
        merchant.payments().capture_payment(payment_id, CapturePaymentRequest())

    control.authorise(payment_id)

    assert (payment.status, payment.status_output.status_code) == (status, code)
    assert payment.payment_output.acquired_amount.amount == 0
    assert not payment.status_output.is_authorized
    assert code_of(merchant, payment_id) == 5
    assert told() == ["payment.created", event, "payment.pending_capture"]
    with pytest.raises(SandboxRefused, match="cannot become 2: it is 5"):
        control.authorise(payment_id, 2)


@pytest.mark.parametrize(
    ("code", "status", "event"), [(2, "REJECTED", "payment.rejected"), (1, "CANCELLED", "payment.cancelled")]
)
def test_an_authorisation_may_fail(control, merchant, told, code, status, event):
    """Declined by the issuer, or left by the consumer: no money is reserved, and that is final."""
    payment_id = control.create_payments(status_code=51)[0]

    control.authorise(payment_id, code)

    payment = merchant.payments().get_payment(payment_id)
    assert (payment.status, payment.status_output.status_code) == (status, code)
    assert payment.status_output.status_category == "UNSUCCESSFUL"
    assert told()[-1] == event
    assert control.truth_of(payment_id)["amount_authorised"] == 0


@pytest.mark.parametrize("code", [0, 6, 7, 9, 91])
def test_an_authorisation_becomes_no_other_code(control, code):
    """Codes of operations are not codes of authorisations."""
    payment_id = control.create_payments(status_code=51)[0]

    with pytest.raises(SandboxRefused):
        control.authorise(payment_id, code)
    with pytest.raises(SandboxRefused):
        control.create_payments(status_code=code)
    assert control.truth_of(payment_id)["status_code"] == 51


def test_a_declined_payment_is_402_with_its_result(create, merchant, told):
    """A sale of 13.02: the payment exists with code 2, and its error is the issuer's."""
    decline = declined(create, 1302, {"authorizationMode": "SALE"})

    payment = decline.create_payment_response.payment
    assert "REJECTED" in str(decline)
    assert (decline.errors[0].error_code, decline.errors[0].category) == ("30511001", "PAYMENT_PLATFORM_ERROR")
    assert (payment.status, payment.status_output.status_code) == ("REJECTED", 2)
    assert payment.status_output.errors[0].error_code == "30511001"
    assert code_of(merchant, payment.id) == 2
    assert told() == ["payment.created", "payment.rejected"]


@pytest.mark.parametrize(
    ("number", "expiry", "code"),
    [
        ("4111111111111110", "1299", "30141001"),
        ("4321456998744563", "1299", "30141001"),
        ("4012000033330026", "0120", "30331001"),
    ],
)
def test_a_bad_card_is_declined(create, number, expiry, code):
    """A number whose last digit does not fit, or a card of yesterday."""
    decline = declined(create, card_input={"card": {"cardNumber": number, "expiryDate": expiry}})

    assert decline.errors[0].error_code == code


def test_only_sales_in_euros_are_declined_by_their_amount(create, control):
    """An authorisation of 1302 passes; so does the sale once the triggers are off."""
    assert create(1302).payment.status_output.status_code == 5
    control.settings(amount_triggers=False)

    assert create(1302, {"authorizationMode": "SALE"}).payment.status_output.status_code == 9


def test_the_next_payment_can_be_declined(create, control):
    """decline_next counts down, and what comes after is as ever."""
    control.settings(decline_next={"payment": 1})

    declined(create)

    assert create().payment.status_output.status_code == 5
    assert control.settings()["decline_next"]["payment"] == 0
