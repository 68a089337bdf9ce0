"""What the consumer does in the platform's pages: looks, pays, gives a card, authenticates, goes away."""

from collections.abc import Callable
from urllib.parse import urlencode

from sandbox.bodies import Form, Json
from sandbox.cards import Card, card_from
from sandbox.ledger import Ledger
from sandbox.payments import AUTHORISED, DECLINED, Payment, Visit
from sandbox.platform_api import hosted_checkouts
from sandbox.platform_api.orders import with_card
from sandbox.refusals import Refused

Act = Callable[[Ledger, str, Form], Json]

TEST_CARD = {"cardNumber": "4012000033330026", "expiryDate": "1299"}
HIGHEST_CODE = 99


def look_at_checkout(ledger: Ledger, checkout_id: str, form: Form) -> Json:
    return _checkout_json(*hosted_checkouts.find(ledger, checkout_id))


def pay(ledger: Ledger, checkout_id: str, form: Form) -> Json:
    """Authorised or declined, as a payment through the API with this card would be."""
    payment, visit = _open_checkout(ledger, checkout_id)
    card = _card(form)
    payment.order = with_card(payment.order, card)
    declined_with = ledger.reason_to_decline(payment.order, card)
    ledger.authorise(payment, DECLINED if declined_with else AUTHORISED, declined_with)
    return _checkout_json(payment, visit)


def leave_checkout(ledger: Ledger, checkout_id: str, form: Form) -> Json:
    payment, visit = _open_checkout(ledger, checkout_id)
    visit.given_up = True
    return _checkout_json(payment, visit)


def look_at_authorisation(ledger: Ledger, payment_id: str, form: Form) -> Json:
    return _authorisation_json(ledger.find(payment_id))


def authorise(ledger: Ledger, payment_id: str, form: Form) -> Json:
    """3-D Secure passed, failed or left; and any other turn an undecided authorisation may take."""
    payment = ledger.find(payment_id)
    form.only(["status_code"])
    code = form.number("status_code", HIGHEST_CODE) if form.has("status_code") else AUTHORISED
    form.check()
    ledger.authorise(payment, code)
    return _authorisation_json(payment)


def look_at_tokenization(ledger: Ledger, session_id: str, form: Form) -> Json:
    return {"token": ledger.vault.session(session_id).token}


def give_card(ledger: Ledger, session_id: str, form: Form) -> Json:
    session = ledger.vault.session(session_id)
    session.token = ledger.vault.keep(session.merchant_id, _card(form))
    return {"token": session.token}


ROUTES: dict[tuple[str, str], Act] = {
    ("GET", "/sandbox/payments/{id}/authorisation"): look_at_authorisation,
    ("POST", "/sandbox/payments/{id}/authorisation"): authorise,
    ("GET", "/sandbox/hostedcheckouts/{id}"): look_at_checkout,
    ("POST", "/sandbox/hostedcheckouts/{id}/pay"): pay,
    ("POST", "/sandbox/hostedcheckouts/{id}/leave"): leave_checkout,
    ("GET", "/sandbox/hostedtokenizations/{id}"): look_at_tokenization,
    ("POST", "/sandbox/hostedtokenizations/{id}/card"): give_card,
}


def _card(form: Form) -> Card:
    """The one given, or one that is good."""
    form.only(["card"])
    card = card_from(form.part("card") if form.has("card") else Form(TEST_CARD))
    form.check()
    return card


def _open_checkout(ledger: Ledger, checkout_id: str) -> tuple[Payment, Visit]:
    payment, visit = hosted_checkouts.find(ledger, checkout_id)
    status = hosted_checkouts.status_of(payment, visit)
    if status != "IN_PROGRESS":
        message = f"the hosted checkout is over: {status}"
        raise Refused(400, "ACTION_NOT_ALLOWED_ON_TRANSACTION", "50001127", message)
    return payment, visit


def _checkout_json(payment: Payment, visit: Visit) -> Json:
    return {
        "status": hosted_checkouts.status_of(payment, visit),
        "amount": payment.order.amount,
        "currency": payment.order.currency,
        "payment_id": payment.id,
        "status_code": payment.code,
        "return_url": _return_url(visit, hostedCheckoutId=str(payment.number)),
    }


def _authorisation_json(payment: Payment) -> Json:
    back = None if payment.visit is None else _return_url(payment.visit, paymentId=payment.id)
    return {"payment_id": payment.id, "status_code": payment.code, "return_url": back}


def _return_url(visit: Visit, **named: str) -> str | None:
    """Where the consumer's browser goes next, with what the platform adds to the shop's address."""
    if visit.return_url is None:
        return None
    joint = "&" if "?" in visit.return_url else "?"
    return f"{visit.return_url}{joint}{urlencode({**named, 'RETURNMAC': visit.mac})}"
