"""What a payment is made from, as requests for payments and for hosted checkouts bring it."""

import secrets
from dataclasses import replace
from datetime import timedelta

from sandbox.bodies import Form
from sandbox.cards import Card
from sandbox.payments import Order, Visit, now

AUTHORISATION_MODES = ("FINAL_AUTHORIZATION", "PRE_AUTHORIZATION", "SALE")
CHALLENGES = ("challenge-required", "challenge-requested")
LONGEST_REFERENCE = 40
LONGEST_PARAMETERS = 1000
LONGEST_URL = 325
MOST_WEBHOOK_URLS = 5
DEFAULT_TIMEOUT_MINUTES = 180
LONGEST_TIMEOUT_MINUTES = 1440


def order_from(merchant_id: str, form: Form) -> Order:
    amount, currency = form.part("order").money("amountOfMoney")
    references = form.part("order").part("references")
    mode = form.part("cardPaymentMethodSpecificInput").choice("authorizationMode", AUTHORISATION_MODES)
    return Order(
        merchant_id=merchant_id,
        amount=amount,
        currency=currency,
        sale=mode == "SALE",
        merchant_reference=references.text("merchantReference", LONGEST_REFERENCE),
        merchant_parameters=references.text("merchantParameters", LONGEST_PARAMETERS),
        webhook_urls=form.part("feedbacks").texts("webhooksUrls", MOST_WEBHOOK_URLS),
    )


def with_card(order: Order, card: Card, token: str | None = None) -> Order:
    return replace(
        order,
        card_number=card.masked,
        card_bin=card.bin,
        card_expiry=card.expiry,
        card_product=card.product,
        token=token,
    )


def challenge_from(form: Form) -> Visit | None:
    """The consumer's way to the issuer, when the shop asks for it: 3-D Secure with a challenge."""
    secure = form.part("threeDSecure")
    if secure.text("challengeIndicator", 100) not in CHALLENGES or secure.flag("skipAuthentication"):
        return None
    return_url = secure.part("redirectionData").required_text("returnUrl", LONGEST_URL)
    return Visit(return_url, secrets.token_hex(16))


def checkout_from(form: Form) -> Visit:
    minutes = DEFAULT_TIMEOUT_MINUTES
    if form.has("sessionTimeout"):
        minutes = form.number("sessionTimeout", LONGEST_TIMEOUT_MINUTES)
    return Visit(
        form.text("returnUrl", LONGEST_URL),
        secrets.token_hex(16),
        hosted=True,
        expires_at=now() + timedelta(minutes=minutes),
    )
