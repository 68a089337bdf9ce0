"""Payment cards as requests bring them: checked, and then only what may be kept of them."""

import re
from dataclasses import dataclass

from sandbox.bodies import Form
from sandbox.payments import now

NUMBER = re.compile(r"\d{12,19}", re.ASCII)
EXPIRY = re.compile(r"(0[1-9]|1[0-2])\d\d", re.ASCII)
CVV = re.compile(r"\d{3,4}", re.ASCII)
PRODUCTS = ((2, "American Express", ("34", "37")), (3, "Mastercard", ("2", "5")), (1, "Visa", ("4",)))


@dataclass(frozen=True, slots=True)
class Card:
    masked: str  # the whole number is never kept
    bin: str
    expiry: str  # MMYY
    holder: str | None
    product: int
    is_genuine: bool  # the number's last digit fits the others

    @property
    def is_expired(self) -> bool:
        return (self.expiry[2:], self.expiry[:2]) < (f"{now():%y}", f"{now():%m}")


def card_from(form: Form) -> Card:
    number = form.required_text("cardNumber", 19)
    if number and not NUMBER.fullmatch(number):
        form.wrong("cardNumber", "12 to 19 digits are expected")
    expiry = form.required_text("expiryDate", 4)
    if expiry and not EXPIRY.fullmatch(expiry):
        form.wrong("expiryDate", "MMYY is expected")
    cvv = form.text("cvv", 4)
    if cvv and not CVV.fullmatch(cvv):
        form.wrong("cvv", "three or four digits are expected")
    return Card(
        masked="*" * (len(number) - 4) + number[-4:],
        bin=number[:6],
        expiry=expiry,
        holder=form.text("cardholderName", 51),
        product=product_of(number) or 1,
        is_genuine=is_genuine(number),
    )


def is_genuine(number: str) -> bool:
    """Luhn's check."""
    if not NUMBER.fullmatch(number):
        return False
    digits = [int(digit) for digit in reversed(number)]
    return (sum(digits[::2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2])) % 10 == 0


def product_of(number: str) -> int | None:
    return next((product for product, _, prefixes in PRODUCTS if number.startswith(prefixes)), None)
