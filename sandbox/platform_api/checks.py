"""Small questions to the platform: whether anybody is there, and whose card this is."""

import re

from sandbox.calls import Call, Reply
from sandbox.cards import PRODUCTS, product_of
from sandbox.ledger import Ledger
from sandbox.refusals import unknown

BIN = re.compile(r"\d{6,19}", re.ASCII)
LONGEST_BIN = 19


def test_connection(ledger: Ledger, call: Call) -> Reply:
    return 200, {"result": "OK"}


def get_iin_details(ledger: Ledger, call: Call) -> Reply:
    form = call.form
    digits = form.required_text("bin", LONGEST_BIN)
    if digits and not BIN.fullmatch(digits):
        form.wrong("bin", "the first six digits of a card number, or more, are expected")
    form.check()
    product = product_of(digits)
    if product is None:
        raise unknown("IIN", digits)
    scheme = next(name for known, name, _ in PRODUCTS if known == product)
    return 200, {
        "paymentProductId": product,
        "cardScheme": scheme,
        "cardType": "Credit",
        "countryCode": "99",
        "isAllowedInContext": True,
    }
