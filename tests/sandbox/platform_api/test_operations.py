"""Captures, refunds and cancellations beyond the plain way: by amount, declined, uncertain, and in the long format."""

import json

import pytest
from onlinepayments.sdk.declined_refund_exception import DeclinedRefundException
from onlinepayments.sdk.domain.cancel_payment_request import CancelPaymentRequest
from onlinepayments.sdk.domain.capture_payment_request import CapturePaymentRequest
from onlinepayments.sdk.domain.refund_request import RefundRequest
from onlinepayments.sdk.validation_exception import ValidationException

from sandbox import SandboxRefused


def capture_of(amount=None):
    return CapturePaymentRequest().from_dictionary({} if amount is None else {"amount": amount})


def refund_of(amount):
    return RefundRequest().from_dictionary({"amountOfMoney": {"amount": amount, "currencyCode": "EUR"}})


def last_of(control, payment_id):
    return control.truth_of(payment_id)["operations"][-1]["status_code"]


def test_amounts_refuse_a_capture_and_a_refund(merchant, pay, control, settled):
    """1309 ends with 93 and the payment can be captured again; 1303 ends with 83."""
    payment_id = pay(5000)
    pending = merchant.payments().capture_payment(payment_id, capture_of(1309)).status_output.status_code
    settled()
    refused = last_of(control, payment_id)
    merchant.payments().capture_payment(payment_id, capture_of())
    settled()
    merchant.payments().refund_payment(payment_id, refund_of(1303))
    settled()

    truth = control.truth_of(payment_id)
    assert (pending, refused, last_of(control, payment_id)) == (91, 93, 83)
    assert (truth["amount_captured"], truth["amount_refunded"], truth["status_code"]) == (5000, 0, 9)


@pytest.mark.parametrize(("outcome", "code", "captured"), [("done", 9, 1209), ("refused", 93, 0)])
def test_an_uncertain_capture_stays_so_until_it_is_settled(
    merchant, pay, control, settled, told, outcome, code, captured
):
    """1209 becomes 92; it counts as pending, and what is left is captured or not as the acquirer says in the end."""
    payment_id = pay(1209)
    merchant.payments().capture_payment(payment_id, capture_of())
    settled()
    uncertain = merchant.payments().get_payment(payment_id)
    pending = control.truth_of(payment_id)["amount_capture_pending"]

    control.settle(f"{payment_id[:-2]}_1", outcome)

    assert (uncertain.status, uncertain.status_output.status_code, pending) == ("CAPTURE_REQUESTED", 92, 1209)
    assert last_of(control, payment_id) == code
    assert control.truth_of(payment_id)["amount_captured"] == captured
    assert told()[2:] == [
        "payment.capture_requested",
        "payment.capture_requested",
        "payment.captured" if code == 9 else "payment.rejected_capture",
    ]
    with pytest.raises(SandboxRefused, match="has its outcome"):
        control.settle(f"{payment_id[:-2]}_1", "done")


def test_an_uncertain_refund_keeps_its_money_bound(merchant, pay, control, settled):
    """1203 becomes 82: the rest can be refunded, no more."""
    payment_id = pay(2000, "SALE")
    merchant.payments().refund_payment(payment_id, refund_of(1203))
    settled()

    with pytest.raises(ValidationException):
        merchant.payments().refund_payment(payment_id, refund_of(798))

    assert control.truth_of(payment_id)["amount_refund_pending"] == 1203
    assert merchant.refunds().get_refunds(payment_id).refunds[0].status_output.status_code == 82


def test_in_another_currency_the_amounts_mean_nothing(control, settled):
    """They are amounts in euros."""
    payment_id = control.create_payments(amount=1309, currency="USD")[0]

    control.capture(payment_id)
    settled()

    assert control.truth_of(payment_id)["status_code"] == 9


def test_the_portal_may_be_quicker_than_the_acquirer(pay, control, settled):
    """What was settled by hand is not settled again by itself."""
    control.settings(settle_seconds=0.1)
    payment_id = pay(1500)
    operation_id = control.capture(payment_id)

    control.settle(operation_id, "refused")
    settled()

    assert last_of(control, payment_id) == 93


def test_a_declined_refund_is_402_with_its_result(merchant, pay, control, told):
    """Over at once: code 83 in the answer and in the ledger, and the money is where it was."""
    payment_id = pay(1500, "SALE")
    control.settings(decline_next={"refund": 1})
    with pytest.raises(ValidationException):  # not possible anyway: it uses nothing up
        merchant.payments().refund_payment(payment_id, refund_of(1501))

    with pytest.raises(DeclinedRefundException) as decline:
        merchant.payments().refund_payment(payment_id, refund_of(700))

    refund = decline.value.refund_response
    assert decline.value.status_code == 402
    assert (refund.id, refund.status, refund.status_output.status_code) == (f"{payment_id[:-2]}_1", "REJECTED", 83)
    assert control.truth_of(payment_id)["amount_refunded"] == 0
    assert told()[-1] == "payment.rejected"
    assert merchant.payments().refund_payment(payment_id, refund_of(1500)).status_output.status_code == 81


def test_a_refund_may_be_asked_for_while_its_capture_is_pending(merchant, pay, control, settled):
    """Both are done in turn; not more than is being captured."""
    control.settings(settle_seconds=0.1)
    payment_id = pay(800)
    merchant.payments().capture_payment(payment_id, capture_of(500))
    with pytest.raises(ValidationException):
        merchant.payments().refund_payment(payment_id, refund_of(501))

    merchant.payments().refund_payment(payment_id, refund_of(400))
    settled()

    truth = control.truth_of(payment_id)
    assert (truth["amount_captured"], truth["amount_refunded"]) == (500, 400)


def test_a_refund_whose_capture_is_refused_is_refused_too(merchant, pay, control, settled):
    """Never is more refunded than captured."""
    control.settings(settle_seconds=0.1, refuse_next={"capture": 1})
    payment_id = pay(800)
    merchant.payments().capture_payment(payment_id, capture_of())

    merchant.payments().refund_payment(payment_id, refund_of(800))
    settled()

    truth = control.truth_of(payment_id)
    assert [o["status_code"] for o in truth["operations"]] == [93, 83]
    assert (truth["amount_captured"], truth["amount_refunded"], truth["status_code"]) == (0, 0, 5)


@pytest.mark.parametrize("first", ["capture", "cancel"])
def test_a_closed_payment_cannot_be_cancelled(merchant, control, settled, first):
    """400, not the 409 of the contract."""
    payment_id = control.create_payments()[0]
    getattr(control, first)(payment_id)
    settled()

    with pytest.raises(ValidationException) as refusal:
        merchant.payments().cancel_payment(payment_id, CancelPaymentRequest())

    assert refusal.value.errors[0].id == "ACTION_NOT_ALLOWED_ON_TRANSACTION"


def test_a_part_captured_and_the_rest_cancelled_closes_the_payment(merchant, control, settled):
    """Nothing can be captured or cancelled then; what was captured can be refunded."""
    payment_id = control.create_payments(amount=1000)[0]
    control.capture(payment_id, 600)
    settled()
    control.cancel(payment_id)
    settled()

    with pytest.raises(ValidationException):
        merchant.payments().capture_payment(payment_id, capture_of(1))
    with pytest.raises(ValidationException):
        merchant.payments().cancel_payment(payment_id, CancelPaymentRequest())

    assert merchant.payments().get_payment(payment_id).status_output.status_code == 9
    assert merchant.payments().refund_payment(payment_id, refund_of(600)).status_output.status_code == 81


def test_payments_can_have_long_ids(merchant, pay, control, settled):
    """Payments made with long_ids have 19 digits, their operations too; every format finds them."""
    before = pay()
    control.settings(long_ids=True)
    payment_id = pay()

    operation_id = merchant.payments().capture_payment(payment_id, capture_of()).id
    settled()

    number = payment_id.removeprefix("900000").removesuffix("000")
    assert (len(payment_id), len(number)) == (19, 10)
    assert operation_id == f"900000{number}001"
    assert [c.id for c in merchant.captures().get_captures(f"{number}_0").captures] == [operation_id]
    for known in (payment_id, operation_id, number, f"{number}_0", f"{number}_1"):
        assert merchant.payments().get_payment(known).id == payment_id
    assert merchant.payments().get_payment(f"900000{before[:-2]}000").id == before
    assert control.calls()["by_payment"][number]["get_payment"] == 5


def test_events_of_long_payments_carry_long_ids(control, receiver, settled):
    """The payment's own, and the operation's."""
    control.settings(long_ids=True, webhooks={"urls": [receiver.url]})
    payment_id = control.create_payments()[0]
    operation_id = control.capture(payment_id)
    settled()

    ids = [json.loads(body)["payment"]["id"] for _, body in receiver.received]
    assert sorted(ids) == sorted([payment_id, payment_id, operation_id, operation_id])
