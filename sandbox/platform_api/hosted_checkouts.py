"""Hosted checkouts: the platform's payment page, where the shop sends its consumer."""

from sandbox import rendering
from sandbox.calls import Call, Reply
from sandbox.ledger import Ledger
from sandbox.payments import AUTHORISED, CREATED, UNDECIDED, Payment, Visit, now
from sandbox.platform_api.orders import checkout_from, order_from
from sandbox.refusals import Refused, unknown


def create_hosted_checkout(ledger: Ledger, call: Call) -> Reply:
    form = call.form
    order = order_from(call.merchant_id, form)
    visit = checkout_from(form.part("hostedCheckoutSpecificInput"))
    form.check()
    payment = ledger.create(order, authorisation=CREATED, visit=visit)
    page = f"{call.host}/sandbox/hostedcheckouts/{payment.number}"
    return 201, {
        "RETURNMAC": visit.mac,
        "hostedCheckoutId": str(payment.number),
        "merchantReference": order.merchant_reference or "",
        "partialRedirectUrl": page,
        "redirectUrl": f"http://{page}",
    }


def get_hosted_checkout(ledger: Ledger, call: Call) -> Reply:
    payment, visit = find(ledger, call.resource_id, call.merchant_id)
    created = {"payment": rendering.payment_json(payment), "paymentStatusCategory": _category(payment)}
    return 200, {"status": status_of(payment, visit), "createdPaymentOutput": created}


def find(ledger: Ledger, checkout_id: str, merchant_id: str | None = None) -> tuple[Payment, Visit]:
    try:
        payment = ledger.find(checkout_id, merchant_id)
    except Refused:
        raise unknown("hosted checkout", checkout_id) from None
    if payment.visit is None or not payment.visit.hosted:
        raise unknown("hosted checkout", checkout_id)
    return payment, payment.visit


def status_of(payment: Payment, visit: Visit) -> str:
    if payment.authorisation != CREATED:
        return "PAYMENT_CREATED"
    expired = visit.expires_at is not None and visit.expires_at <= now()
    return "CANCELLED_BY_CONSUMER" if visit.given_up or expired else "IN_PROGRESS"


def _category(payment: Payment) -> str:
    if payment.authorisation in UNDECIDED:
        return "STATUS_UNKNOWN"
    return "SUCCESSFUL" if payment.authorisation == AUTHORISED else "REJECTED"
