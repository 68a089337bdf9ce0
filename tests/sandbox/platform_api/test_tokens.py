"""Cards kept at the platform, from a request or from the consumer's own hand."""

import pytest
from onlinepayments.sdk.domain.create_hosted_tokenization_request import CreateHostedTokenizationRequest
from onlinepayments.sdk.domain.create_token_request import CreateTokenRequest
from onlinepayments.sdk.reference_exception import ReferenceException
from onlinepayments.sdk.validation_exception import ValidationException


@pytest.fixture
def keep(merchant, card):
    """Create a token; the platform's answer."""

    def keep(**changes):
        body = {"card": {"data": {"card": card | changes}}, "paymentProductId": 1}
        return merchant.tokens().create_token(CreateTokenRequest().from_dictionary(body))

    return keep


def test_a_token_is_made_looked_at_and_deleted(merchant, keep):
    """The card comes back masked; after the deletion the token is unknown."""
    created = keep()
    token = merchant.tokens().get_token(created.token)

    merchant.tokens().delete_token(created.token)

    assert created.is_new_token
    assert (created.card.card_number, created.card.expiry_date) == ("************0026", "1299")
    assert created.card.cardholder_name == "Wile E. Coyote"
    assert (token.id, token.payment_product_id) == (created.token, 1)
    assert token.card.data.card_without_cvv.card_number == "************0026"
    for call in (merchant.tokens().get_token, merchant.tokens().delete_token):
        with pytest.raises(ReferenceException) as refusal:
            call(created.token)
        assert (refusal.value.status_code, refusal.value.errors[0].id) == (404, "UNKNOWN_TOKEN_ID")


@pytest.mark.parametrize(
    "changes",
    [
        {"cardNumber": "1234567890123456"},
        {"expiryDate": "0000"},
        {"expiryDate": "0120"},
        {"cvv": "12345678"},
    ],
)
def test_a_card_that_is_none_gets_no_token(keep, changes):
    """What a payment would be declined for is refused here, too."""
    with pytest.raises(ValidationException) as refusal:
        keep(**changes)

    assert [e.property_name for e in refusal.value.errors] == [f"card.data.card.{next(iter(changes))}"]


def test_a_payment_by_token_is_one_with_its_card(merchant, keep, create):
    """The card's number and product, and the token itself."""
    token = keep(cardNumber="5555555555554444").token

    payment = create(card_input={"card": None, "token": token}).payment

    output = merchant.payments().get_payment(payment.id).payment_output.card_payment_method_specific_output
    assert (output.card.card_number, output.payment_product_id, output.token) == ("************4444", 3, token)


def test_a_payment_can_leave_a_token_behind(merchant, create):
    """With tokenize its card is kept, and the next payment needs the token only."""
    first = create(card_input={"tokenize": True}).creation_output

    second = create(card_input={"card": None, "token": first.token, "tokenize": True})

    assert (first.is_new_token, first.tokenization_succeeded) == (True, True)
    assert second.payment.status_output.status_code == 5
    assert (second.creation_output.is_new_token, second.creation_output.token) == (False, first.token)
    assert merchant.tokens().get_token(first.token).id == first.token
    assert create().creation_output.token is None


def test_a_token_is_its_merchant_s_alone(keep, control, merchant_as):
    """Another merchant does not find it."""
    control.add_merchant("other", "other-key", "other-secret")
    other = merchant_as(merchant_id="other", key_id="other-key", secret="other-secret")
    token = keep().token

    with pytest.raises(ReferenceException):
        other.tokens().get_token(token)


def test_a_hosted_tokenization_gives_a_token_when_the_consumer_has_given_a_card(merchant, control, create):
    """Before, there is none, and no payment can be made with it; then both work."""
    client = merchant.hosted_tokenization()
    session = client.create_hosted_tokenization(CreateHostedTokenizationRequest())
    session_id = session.hosted_tokenization_id
    with pytest.raises(ValidationException) as refusal:
        create(card_input={"card": None}, hostedTokenizationId=session_id)
    before = client.get_hosted_tokenization(session_id)

    token = control.give_card(session_id, {"cardNumber": "378282246310005", "expiryDate": "1299"})

    after = client.get_hosted_tokenization(session_id)
    assert session.hosted_tokenization_url.endswith(f"/sandbox/hostedtokenizations/{session_id}")
    assert [error.property_name for error in refusal.value.errors] == ["hostedTokenizationId"]
    assert before.token is None
    assert (after.token.id, after.token.payment_product_id, after.token_status) == (token, 2, "CREATED")
    assert create(card_input={"card": None}, hostedTokenizationId=session_id).payment.status_output.status_code == 5


def test_an_unknown_hosted_tokenization_is_a_reference_exception(merchant):
    """404, with its own id."""
    with pytest.raises(ReferenceException) as refusal:
        merchant.hosted_tokenization().get_hosted_tokenization("unknown")

    assert refusal.value.errors[0].id == "UNKNOWN_HOSTED_TOKENIZATION_ID"
