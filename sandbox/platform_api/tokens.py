"""Tokens: cards that the merchant keeps at the platform."""

from sandbox.bodies import Json
from sandbox.calls import Call, Reply
from sandbox.cards import Card, card_from
from sandbox.ledger import Ledger


def create_token(ledger: Ledger, call: Call) -> Reply:
    """A card kept twice gets two tokens."""
    form = call.form
    card_form = form.part("card").part("data").part("card")
    card = card_from(card_form)
    form.check()
    if not card.is_genuine:  # a payment with it would be declined instead
        card_form.wrong("cardNumber", "its last digit does not fit the others")
    if card.is_expired:
        card_form.wrong("expiryDate", "a month to come is expected")
    form.check()
    token = ledger.vault.keep(call.merchant_id, card)
    return 201, {"token": token, "card": _card_json(card), "isNewToken": True, "tokenStatus": "CREATED"}


def get_token(ledger: Ledger, call: Call) -> Reply:
    return 200, token_json(call.resource_id, ledger.vault.card(call.merchant_id, call.resource_id))


def delete_token(ledger: Ledger, call: Call) -> Reply:
    ledger.vault.forget(call.merchant_id, call.resource_id)
    return 204, None


def token_json(token: str, card: Card) -> Json:
    data = {"cardWithoutCvv": _card_json(card)}
    return {
        "id": token,
        "paymentProductId": card.product,
        "isTemporary": False,
        "card": {"alias": card.masked, "data": data},
    }


def _card_json(card: Card) -> Json:
    holder = {} if card.holder is None else {"cardholderName": card.holder}
    return {"cardNumber": card.masked, "expiryDate": card.expiry, **holder}
