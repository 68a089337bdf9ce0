"""Money sent to a card."""

import pytest
from onlinepayments.sdk.call_context import CallContext
from onlinepayments.sdk.declined_payout_exception import DeclinedPayoutException
from onlinepayments.sdk.domain.create_payout_request import CreatePayoutRequest
from onlinepayments.sdk.reference_exception import ReferenceException
from onlinepayments.sdk.validation_exception import ValidationException


@pytest.fixture
def pay_out(merchant, card):
    """Make a payout; the platform's answer."""

    def pay_out(currency="EUR", context=None, **changes):
        body = {
            "amountOfMoney": {"amount": 1000, "currencyCode": currency},
            "cardPayoutMethodSpecificInput": {"card": card | changes, "paymentProductId": 1},
            "references": {"merchantReference": "payout-1"},
        }
        return merchant.payouts().create_payout(CreatePayoutRequest().from_dictionary(body), context)

    return pay_out


def test_a_payout_is_made_and_looked_at(merchant, pay_out, control):
    """It is over at once, and no part of the payments' ledger."""
    created = pay_out()

    payout = merchant.payouts().get_payout(created.id)

    assert (payout.id, payout.status) == (created.id, "ACCOUNT_CREDITED")
    assert payout.payout_output.amount_of_money.amount == 1000
    assert payout.payout_output.references.merchant_reference == "payout-1"
    assert control.ledger() == []


def test_a_payout_to_a_bad_card_is_declined(merchant, pay_out):
    """402 INVALID_CARD with the payout, which stays as rejected."""
    with pytest.raises(DeclinedPayoutException) as decline:
        pay_out(cardNumber="4321456998744563")

    result = decline.value.payout_result
    assert (decline.value.status_code, decline.value.errors[0].id) == (402, "INVALID_CARD")
    assert result.status == "REJECTED_CREDIT"
    assert merchant.payouts().get_payout(result.id).status == "REJECTED_CREDIT"


def test_the_next_payout_can_be_declined(pay_out, control):
    """decline_next counts down."""
    control.settings(decline_next={"payout": 1})

    with pytest.raises(DeclinedPayoutException):
        pay_out()
    assert pay_out().status == "ACCOUNT_CREDITED"


def test_a_payout_heeds_its_idempotence_key(pay_out):
    """The same key again is the same payout."""
    context = CallContext("payout-key")

    assert pay_out(context=context).id == pay_out(context=context).id
    assert context.idempotence_request_timestamp is not None


def test_a_wrong_currency_is_refused(pay_out):
    """INVALID_VALUE with its property."""
    with pytest.raises(ValidationException) as refusal:
        pay_out(currency="INVALID")

    assert refusal.value.errors[0].property_name == "amountOfMoney.currencyCode"


def test_an_unknown_payout_is_a_reference_exception(merchant):
    """404."""
    with pytest.raises(ReferenceException) as refusal:
        merchant.payouts().get_payout("1234567890_0")

    assert refusal.value.errors[0].id == "UNKNOWN_PAYOUT_ID"
