"""What the platform's test environment lets fail on purpose: amounts and cards with a known end."""

from sandbox.cards import Card
from sandbox.payments import Kind, Operation, Order, Outcome, Payment

CURRENCY = "EUR"  # the amounts below mean something in this one only
DECLINED_SALE = 1302
OUTCOMES: dict[tuple[Kind, int], Outcome] = {
    ("refund", 1203): "uncertain",
    ("capture", 1209): "uncertain",
    ("refund", 1303): "refused",
    ("capture", 1309): "refused",
}

INSUFFICIENT_FUNDS = "30511001"
EXPIRED_CARD = "30331001"
BAD_NUMBER = "30141001"


def outcome_of(payment: Payment, operation: Operation) -> Outcome:
    if payment.order.currency != CURRENCY:
        return "done"
    return OUTCOMES.get((operation.kind, operation.amount), "done")


def decline_by_amount(order: Order) -> str | None:
    """The error code with which the issuer would decline it."""
    declined = order.sale and order.amount == DECLINED_SALE and order.currency == CURRENCY
    return INSUFFICIENT_FUNDS if declined else None


def decline_by_card(card: Card) -> str | None:
    if not card.is_genuine:
        return BAD_NUMBER
    return EXPIRED_CARD if card.is_expired else None
