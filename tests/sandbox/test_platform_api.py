"""The platform's API, met by the platform's own SDK over the loopback."""

import gzip
import json

import pytest
import requests
from onlinepayments.sdk.authorization_exception import AuthorizationException
from onlinepayments.sdk.domain.amount_of_money import AmountOfMoney
from onlinepayments.sdk.domain.cancel_payment_request import CancelPaymentRequest
from onlinepayments.sdk.domain.capture_payment_request import CapturePaymentRequest
from onlinepayments.sdk.domain.create_payment_request import CreatePaymentRequest
from onlinepayments.sdk.domain.operation_payment_references import OperationPaymentReferences
from onlinepayments.sdk.domain.refund_request import RefundRequest
from onlinepayments.sdk.reference_exception import ReferenceException
from onlinepayments.sdk.validation_exception import ValidationException


def own(reference):
    return OperationPaymentReferences().from_dictionary({"merchantReference": reference})


def euros(amount, currency="EUR"):
    return AmountOfMoney().from_dictionary({"amount": amount, "currencyCode": currency})


def capture_of(amount=None, reference=None, is_final=None):
    request = CapturePaymentRequest()
    request.amount, request.is_final = amount, is_final
    request.operation_references = own(reference) if reference else None
    return request


def refund_of(amount, reference=None, currency="EUR"):
    request = RefundRequest()
    request.amount_of_money = euros(amount, currency)
    request.operation_references = own(reference) if reference else None
    return request


def cancel_of(amount, reference=None):
    request = CancelPaymentRequest()
    request.amount_of_money = euros(amount)
    request.operation_references = own(reference) if reference else None
    return request


def test_the_connection_can_be_tested(merchant):
    """testconnection answers OK to a merchant who signs rightly."""
    assert merchant.services().test_connection().result == "OK"


@pytest.mark.parametrize("mode", ["FINAL_AUTHORIZATION", "PRE_AUTHORIZATION"])
def test_an_authorisation_waits_for_its_capture(merchant, pay, mode):
    """Both kinds of authorisation give code 5, with the card masked and the references echoed."""
    payment_id = pay(1500, mode)

    payment = merchant.payments().get_payment(payment_id)

    assert payment.id == payment_id
    assert payment_id[:-2].isdecimal()
    assert len(payment_id) == 12
    assert payment_id.endswith("_0")
    assert (payment.status, payment.status_output.status_code) == ("PENDING_CAPTURE", 5)
    assert payment.status_output.status_category == "PENDING_MERCHANT"
    assert payment.status_output.is_authorized
    assert payment.status_output.is_cancellable
    assert not payment.status_output.is_refundable
    assert payment.payment_output.amount_of_money.amount == 1500
    assert payment.payment_output.references.merchant_reference == "order-1"
    assert payment.payment_output.references.merchant_parameters == '{"shop":"ü"}'
    card = payment.payment_output.card_payment_method_specific_output.card
    assert (card.card_number, card.bin) == ("************4675", "433026")


def test_a_sale_is_captured_at_once_and_listed(merchant, pay):
    """A sale has code 9, and its capture bears the payment's own id."""
    payment_id = pay(1500, "SALE")

    payment = merchant.payments().get_payment(payment_id)
    captures = merchant.captures().get_captures(payment_id).captures

    assert payment.status_output.status_code == 9
    assert payment.status_output.is_refundable
    assert payment.payment_output.acquired_amount.amount == 1500
    assert [(c.id, c.capture_output.amount_of_money.amount, c.status_output.status_code) for c in captures] == [
        (payment_id, 1500, 9)
    ]


def test_a_sale_may_list_no_capture(merchant, pay, control):
    """With sale_lists_capture off the money is captured and no capture is named."""
    control.settings(sale_lists_capture=False)

    payment_id = pay(1500, "SALE")

    assert not merchant.captures().get_captures(payment_id).captures
    assert merchant.payments().get_payment(payment_id).status_output.status_code == 9
    assert control.truth_of(payment_id)["amount_captured"] == 1500


def test_a_full_capture_is_first_pending_then_done(merchant, pay, control, settled):
    """CapturePayment answers 91 under the operation's id; the outcome follows by itself."""
    control.settings(settle_seconds=0.2)
    payment_id = pay(1500)

    answer = merchant.payments().capture_payment(payment_id, capture_of(reference="op-1"))

    assert answer.id == payment_id[:-1] + "1"
    assert (answer.status, answer.status_output.status_code) == ("CAPTURE_REQUESTED", 91)
    assert answer.capture_output.amount_of_money.amount == 1500
    assert answer.capture_output.operation_references.merchant_reference == "op-1"
    assert answer.capture_output.references.merchant_reference == "order-1"
    assert merchant.payments().get_payment(payment_id).status_output.status_code == 91
    settled()
    assert merchant.payments().get_payment(payment_id).status_output.status_code == 9


def test_partial_captures_leave_the_payment_authorised_until_all_is_captured(merchant, pay, settled):
    """300 of 800 leaves code 5; 500 more makes it 9."""
    payment_id = pay(800)
    merchant.payments().capture_payment(payment_id, capture_of(300))
    settled()
    between = merchant.payments().get_payment(payment_id).status_output.status_code

    merchant.payments().capture_payment(payment_id, capture_of(500))
    settled()

    assert between == 5
    assert merchant.payments().get_payment(payment_id).status_output.status_code == 9
    captures = merchant.captures().get_captures(payment_id).captures
    assert [c.capture_output.amount_of_money.amount for c in captures] == [300, 500]


def test_a_final_partial_capture_closes_the_payment(merchant, pay, settled):
    """isFinal gives up the rest: no second capture, and the payment is captured with what it got."""
    payment_id = pay(800)
    merchant.payments().capture_payment(payment_id, capture_of(300, is_final=True))
    settled()

    with pytest.raises(ValidationException):
        merchant.payments().capture_payment(payment_id, capture_of(100))

    payment = merchant.payments().get_payment(payment_id)
    assert payment.status_output.status_code == 9
    assert payment.payment_output.acquired_amount.amount == 300


def test_capturing_more_than_is_left_is_refused_and_changes_nothing(merchant, pay, control):
    """300 then 600 of 800 is ACTION_NOT_ALLOWED_ON_TRANSACTION, also while the first is pending."""
    payment_id = pay(800)
    merchant.payments().capture_payment(payment_id, capture_of(300))

    with pytest.raises(ValidationException) as refusal:
        merchant.payments().capture_payment(payment_id, capture_of(600))

    assert refusal.value.errors[0].id == "ACTION_NOT_ALLOWED_ON_TRANSACTION"
    assert refusal.value.errors[0].error_code == "50001127"
    assert [o["amount"] for o in control.truth_of(payment_id)["operations"]] == [300]


@pytest.mark.parametrize("amount", [0, -5, "300", 2.5, True])
def test_an_amount_that_is_none_is_an_invalid_value(merchant, pay, amount):
    """Amounts are positive whole numbers."""
    payment_id = pay(800)

    with pytest.raises(ValidationException) as refusal:
        merchant.payments().capture_payment(payment_id, capture_of(amount))

    assert refusal.value.errors[0].id == "INVALID_VALUE"
    assert refusal.value.errors[0].property_name == "amount"


def test_refunds_in_parts_then_in_full(merchant, pay, settled):
    """81 then 8 for the refund; the payment stays 9 until all is refunded, then it is 8."""
    payment_id = pay(1500, "SALE")

    answer = merchant.payments().refund_payment(payment_id, refund_of(500, "r-1"))
    settled()
    between = merchant.payments().get_payment(payment_id).status_output.status_code
    merchant.payments().refund_payment(payment_id, refund_of(1000, "r-2"))
    settled()

    assert (answer.id, answer.status_output.status_code) == (payment_id[:-1] + "1", 81)
    assert answer.refund_output.operation_references.merchant_reference == "r-1"
    assert between == 9
    assert merchant.payments().get_payment(payment_id).status_output.status_code == 8
    refunds = merchant.refunds().get_refunds(payment_id).refunds
    assert [
        (r.refund_output.operation_references.merchant_reference, r.refund_output.amount_of_money.amount)
        for r in refunds
    ] == [("r-1", 500), ("r-2", 1000)]
    assert {r.status_output.status_code for r in refunds} == {8}
    assert refunds[0].refund_output.card_refund_method_specific_output.total_amount_refunded == 1500


@pytest.mark.parametrize("mode", ["SALE", "FINAL_AUTHORIZATION"])
def test_refunding_more_than_was_captured_is_refused(merchant, pay, mode):
    """Too much, or nothing captured at all: 400 with the refund's own code."""
    payment_id = pay(1500, mode)

    with pytest.raises(ValidationException) as refusal:
        merchant.payments().refund_payment(payment_id, refund_of(1501))

    assert refusal.value.errors[0].id == "ACTION_NOT_ALLOWED_ON_TRANSACTION"
    assert refusal.value.errors[0].error_code == "50001129"


def test_a_refund_in_another_currency_is_refused(merchant, pay):
    """The currency is the payment's."""
    payment_id = pay(1500, "SALE")

    with pytest.raises(ValidationException) as refusal:
        merchant.payments().refund_payment(payment_id, refund_of(100, currency="USD"))

    assert refusal.value.errors[0].property_name == "amountOfMoney.currencyCode"


def test_a_cancellation_is_called_cancelled_before_it_is(merchant, pay, control, settled):
    """While under way the status reads CANCELLED with code 61; the code becomes 6."""
    control.settings(settle_seconds=0.2)
    payment_id = pay(1500)

    answer = merchant.payments().cancel_payment(payment_id, CancelPaymentRequest()).payment

    assert (answer.status, answer.status_output.status_code) == ("CANCELLED", 61)
    assert answer.status_output.status_category == "PENDING_MERCHANT"
    assert answer.payment_output.acquired_amount.amount == 0
    settled()
    assert merchant.payments().get_payment(payment_id).status_output.status_code == 6


def test_what_is_left_after_a_partial_cancellation_can_be_captured(merchant, pay, control, settled):
    """300 cancelled and 500 captured of 800 closes the payment as captured."""
    payment_id = pay(800)
    merchant.payments().cancel_payment(payment_id, cancel_of(300, "c-1"))
    settled()
    with pytest.raises(ValidationException):
        merchant.payments().cancel_payment(payment_id, cancel_of(501))

    merchant.payments().capture_payment(payment_id, capture_of())
    settled()

    truth = control.truth_of(payment_id)
    assert (truth["status_code"], truth["amount_cancelled"], truth["amount_captured"]) == (9, 300, 500)


def test_the_details_list_every_operation(merchant, pay, settled):
    """The authorisation first, then captures, refunds and cancellations with their references."""
    payment_id = pay(800)
    merchant.payments().capture_payment(payment_id, capture_of(500, "cap"))
    settled()
    merchant.payments().refund_payment(payment_id, refund_of(200, "ref"))
    merchant.payments().cancel_payment(payment_id, cancel_of(300, "can"))
    settled()

    details = merchant.payments().get_payment_details(payment_id)

    seen = [
        (
            o.id,
            o.amount_of_money.amount,
            o.status_output.status_code,
            getattr(o.operation_references, "merchant_reference", None),
        )
        for o in details.operations
    ]
    number = payment_id[:-2]
    assert seen == [
        (f"{number}_0", 800, 5, None),
        (f"{number}_1", 500, 9, "cap"),
        (f"{number}_2", 200, 8, "ref"),
        (f"{number}_3", 300, 6, "can"),
    ]
    assert details.status_output.status_code == 9


def test_an_operation_can_be_refused_by_the_acquirer(merchant, pay, control, settled):
    """refuse_next makes 93, 83, 63; the payment is as before, and may be tried again."""
    control.settings(refuse_next={"capture": 1, "cancel": 1})
    payment_id = pay(800)

    merchant.payments().capture_payment(payment_id, capture_of())
    settled()
    merchant.payments().cancel_payment(payment_id, CancelPaymentRequest())
    settled()
    after = merchant.payments().get_payment(payment_id).status_output.status_code
    merchant.payments().capture_payment(payment_id, capture_of())
    control.settings(refuse_next={"refund": 1})
    settled()
    merchant.payments().refund_payment(payment_id, refund_of(800))
    settled()

    assert after == 5
    assert [o["status_code"] for o in control.truth_of(payment_id)["operations"]] == [93, 63, 9, 83]
    assert merchant.payments().get_payment(payment_id).status_output.status_code == 9
    assert control.settings()["refuse_next"] == {"capture": 0, "refund": 0, "cancel": 0}


def test_a_payment_is_found_by_every_id_of_its_family(merchant, pay, settled):
    """The initial id, an operation's id, the bare number and the long format name the same payment."""
    payment_id = pay(800)
    merchant.payments().capture_payment(payment_id, capture_of())
    settled()
    number = payment_id[:-2]

    found = {merchant.payments().get_payment(i).id for i in (payment_id, f"{number}_1", number, f"900000{number}000")}

    assert found == {payment_id}


@pytest.mark.parametrize("unknown", ["1234567890_0", "12_0", "nonsense", "{number}_7"])
def test_an_unknown_payment_is_a_reference_exception(merchant, pay, unknown):
    """UNKNOWN_PAYMENT_ID, also for an operation's number that was never given out."""
    number = pay()[:-2]

    with pytest.raises(ReferenceException) as refusal:
        merchant.payments().get_payment(unknown.format(number=number))

    assert (refusal.value.status_code, refusal.value.errors[0].id) == (404, "UNKNOWN_PAYMENT_ID")
    assert refusal.value.errors[0].error_code == "50001130"


def test_a_payment_of_another_merchant_is_unknown(pay, control, merchant_as):
    """Merchants see their own payments only."""
    control.add_merchant("other", "other-key", "other-secret")
    payment_id = pay()

    with pytest.raises(ReferenceException):
        merchant_as(merchant_id="other", key_id="other-key", secret="other-secret").payments().get_payment(payment_id)


def test_a_wrong_secret_is_refused(merchant_as, control):
    """The signature is verified; what is refused is not counted as a call."""
    with pytest.raises(AuthorizationException) as refusal:
        merchant_as(secret="guessed").services().test_connection()

    assert refusal.value.errors[0].id == "AUTHENTICATION_FAILURE"
    assert control.calls()["total"] == 0


def test_a_merchant_of_someone_else_is_refused(merchant_as):
    """A genuine key opens its own merchant's door only."""
    with pytest.raises(AuthorizationException) as refusal:
        merchant_as(merchant_id="elsewhere").services().test_connection()

    assert refusal.value.errors[0].id == "ACCESS_TO_MERCHANT_NOT_ALLOWED"


def test_a_request_that_cannot_be_understood_is_a_validation_exception(merchant):
    """An order without money is an invalid value, not a crash."""
    with pytest.raises(ValidationException) as refusal:
        merchant.payments().create_payment(CreatePaymentRequest())

    assert refusal.value.errors[0].property_name == "order.amountOfMoney.currencyCode"


def test_a_compressed_body_is_read(box):
    """The SDK can compress what it posts; a body that only claims to be gzip is refused."""
    url, headers = f"{box.url}/sandbox/payments", {"Content-Encoding": "gzip"}

    made = requests.post(url, data=gzip.compress(json.dumps({"count": 2}).encode()), headers=headers, timeout=5)
    refused = requests.post(url, data=b"plain", headers=headers, timeout=5)

    assert (made.status_code, len(made.json()["payment_ids"])) == (201, 2)
    assert refused.status_code == 400
