"""What is wrong with a request is told in the platform's words, all at once."""

import pytest
from onlinepayments.sdk.domain.create_payment_request import CreatePaymentRequest
from onlinepayments.sdk.domain.data_object import DataObject
from onlinepayments.sdk.domain.refund_request import RefundRequest
from onlinepayments.sdk.validation_exception import ValidationException

CARD = "cardPaymentMethodSpecificInput"


class Raw(DataObject):
    """A body that the SDK's own classes would not let through."""

    def __init__(self, content):
        self._content = content

    def to_dictionary(self):
        return self._content


def refused(call, *arguments, **named):
    with pytest.raises(ValidationException) as refusal:
        call(*arguments, **named)
    assert refusal.value.status_code == 400
    assert refusal.value.error_id
    return refusal.value.errors


def test_every_wrong_value_has_an_error_of_its_own(create):
    """Number, expiry and cvv are wrong: three errors, each with its property and the platform's fields."""
    errors = refused(create, card_input={"card": {"cardNumber": "123", "expiryDate": "invalid", "cvv": "1"}})

    assert [error.property_name for error in errors] == [
        f"{CARD}.card.cardNumber",
        f"{CARD}.card.expiryDate",
        f"{CARD}.card.cvv",
    ]
    assert {(e.id, e.error_code, e.category, e.http_status_code, e.retriable) for e in errors} == {
        ("INVALID_VALUE", "50001111", "DIRECT_PLATFORM_ERROR", 400, False)
    }


@pytest.mark.parametrize(
    ("changes", "property_name"),
    [
        ({"amount": 0}, "order.amountOfMoney.amount"),
        ({"amount": 10**12}, "order.amountOfMoney.amount"),
        ({"references": {"merchantReference": "x" * 41}}, "order.references.merchantReference"),
        ({"references": {"merchantParameters": "x" * 1001}}, "order.references.merchantParameters"),
        ({"card_input": {"authorizationMode": "LATER"}}, f"{CARD}.authorizationMode"),
        ({"card_input": {"card": {"expiryDate": "1299"}}}, f"{CARD}.card.cardNumber"),
        ({"card_input": {"card": {"cardNumber": "4012000033330026", "expiryDate": "1330"}}}, f"{CARD}.card.expiryDate"),
        ({"card_input": {"card": {"cardNumber": "ABC-INVALID-9999", "expiryDate": "1299"}}}, f"{CARD}.card.cardNumber"),
        ({"card_input": {"card": None, "token": "unknown"}}, f"{CARD}.token"),
        ({"feedbacks": {"webhooksUrls": ["http://127.0.0.1:1/"] * 6}}, "feedbacks.webhooksUrls"),
    ],
)
def test_a_value_beyond_its_limit_is_refused_alone(create, control, changes, property_name):
    """The error names the property, and nothing was made."""
    errors = refused(create, **changes)

    assert [(error.id, error.property_name) for error in errors] == [("INVALID_VALUE", property_name)]
    assert control.ledger() == []


def test_values_at_their_limit_are_taken(create):
    """Forty characters of reference, twelve digits of amount, a card number of nineteen digits."""
    reference = "x" * 40
    card = {"cardNumber": "4000000000000000006", "expiryDate": "1299"}

    payment = create(10**12 - 1, {"card": card}, {"merchantReference": reference}).payment

    assert payment.payment_output.references.merchant_reference == reference
    assert payment.payment_output.amount_of_money.amount == 10**12 - 1


def test_a_payment_without_a_card_is_refused(merchant):
    """Other payment methods are not played, and the error says so."""
    request = CreatePaymentRequest().from_dictionary({"order": {"amountOfMoney": {"amount": 5, "currencyCode": "EUR"}}})

    errors = refused(merchant.payments().create_payment, request)

    assert CARD in [error.property_name for error in errors]
    assert "only cards" in errors[0].message


@pytest.mark.parametrize("content", [{"order": []}, {"order": {"amountOfMoney": 5}}, {"feedbacks": "none"}])
def test_something_else_where_an_object_must_be_fails_the_schema(merchant, content):
    """SCHEMA_VALIDATION_FAILED, with the place of it."""
    errors = refused(merchant.payments().create_payment, Raw(content))

    assert "SCHEMA_VALIDATION_FAILED" in [error.id for error in errors]


def test_a_body_that_is_no_object_fails_the_schema(merchant, control):
    """An array, for instance; it counts as a call all the same."""
    errors = refused(merchant.payments().create_payment, Raw([]))

    assert [error.id for error in errors] == ["SCHEMA_VALIDATION_FAILED"]
    assert control.calls()["by_call"] == {"create_payment": 1}


def test_a_refund_needs_its_amount(merchant, pay):
    """Without amountOfMoney both of its parts are missing."""
    errors = refused(merchant.payments().refund_payment, pay(mode="SALE"), RefundRequest())

    assert [error.property_name for error in errors] == ["amountOfMoney.currencyCode", "amountOfMoney.amount"]


def test_what_is_not_possible_carries_the_old_code_too(merchant, pay):
    """ACTION_NOT_ALLOWED_ON_TRANSACTION was 1020 when codes had four digits."""
    request = RefundRequest().from_dictionary({"amountOfMoney": {"amount": 1, "currencyCode": "EUR"}})

    errors = refused(merchant.payments().refund_payment, pay(), request)

    assert (errors[0].id, errors[0].error_code, errors[0].code) == (
        "ACTION_NOT_ALLOWED_ON_TRANSACTION",
        "50001129",
        "1020",
    )
