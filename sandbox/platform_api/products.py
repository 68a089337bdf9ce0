"""Payment products: what a shop may offer; a few of them, as they are for every country and currency."""

from typing import NamedTuple
from urllib.parse import parse_qs

from sandbox.bodies import Form, Json
from sandbox.calls import Call, Reply
from sandbox.ledger import Ledger
from sandbox.refusals import unknown


class Product(NamedTuple):
    label: str
    method: str
    group: str | None
    networks: tuple[str, ...] = ()  # of a wallet: the cards that may be in it


PRODUCTS: dict[str, Product] = {
    "1": Product("Visa", "card", "cards"),
    "2": Product("American Express", "card", "cards"),
    "3": Product("Mastercard", "card", "cards"),
    "302": Product("Apple Pay", "mobile", None, ("amex", "masterCard", "visa")),
    "320": Product("Google Pay", "mobile", None, ("AMEX", "MASTERCARD", "VISA")),
    "840": Product("PayPal", "redirect", None),
}
GROUPS = {"cards": "Cards"}
CARD_FIELDS = ("cardNumber", "expiryDate", "cvv", "cardholderName")


def get_payment_products(ledger: Ledger, call: Call) -> Reply:
    hidden = _hidden(call)
    return 200, {"paymentProducts": [_product_json(product_id, hidden) for product_id in PRODUCTS]}


def get_payment_product(ledger: Ledger, call: Call) -> Reply:
    hidden = _hidden(call)
    _known(call.resource_id)
    return 200, _product_json(call.resource_id, hidden)


def get_payment_product_networks(ledger: Ledger, call: Call) -> Reply:
    _hidden(call)
    networks = _known(call.resource_id).networks
    if not networks:
        raise unknown("product", call.resource_id)
    return 200, {"networks": list(networks)}


def get_product_groups(ledger: Ledger, call: Call) -> Reply:
    _hidden(call)
    return 200, {"paymentProductGroups": [_group_json(group_id) for group_id in GROUPS]}


def get_product_group(ledger: Ledger, call: Call) -> Reply:
    _hidden(call)
    if call.resource_id not in GROUPS:
        raise unknown("product group", call.resource_id)
    return 200, _group_json(call.resource_id)


def _hidden(call: Call) -> frozenset[str]:
    """The parts the caller does not want; country and currency are asked of every call."""
    query = parse_qs(call.query)
    form = Form({name: values[-1] for name, values in query.items()})
    form.required_text("countryCode", 2)
    form.required_text("currencyCode", 3)
    form.check()
    return frozenset(query.get("hide", ()))


def _known(product_id: str) -> Product:
    if product_id not in PRODUCTS:
        raise unknown("product", product_id)
    return PRODUCTS[product_id]


def _product_json(product_id: str, hidden: frozenset[str]) -> Json:
    product = PRODUCTS[product_id]
    is_card = product.method == "card"
    answer: Json = {
        "id": int(product_id),
        "paymentMethod": product.method,
        "allowsRecurring": is_card,
        "allowsTokenization": is_card,
        "usesRedirectionTo3rdParty": product.method == "redirect",
        "displayHints": _hints(product.label),
        "displayHintsList": [_hints(product.label)],
        "fields": [{"id": name, "type": "string"} for name in CARD_FIELDS] if is_card else [],
        "accountsOnFile": [],
    }
    if product.group is not None:
        answer["paymentProductGroup"] = GROUPS[product.group]
    return {name: value for name, value in answer.items() if name not in hidden}


def _group_json(group_id: str) -> Json:
    return {"id": group_id, "displayHints": _hints(GROUPS[group_id]), "displayHintsList": [_hints(GROUPS[group_id])]}


def _hints(label: str) -> Json:
    return {"displayOrder": 0, "label": label, "logo": ""}
