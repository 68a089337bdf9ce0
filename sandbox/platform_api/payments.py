"""Payments: made, looked at, captured, refunded, cancelled."""

from sandbox import rendering, triggers
from sandbox.bodies import Form, Json
from sandbox.calls import Call, Reply
from sandbox.cards import Card, card_from
from sandbox.ledger import Ledger
from sandbox.payments import AUTHORISED, DECLINED, REDIRECTED, Kind, Payment, Wish
from sandbox.platform_api.orders import LONGEST_REFERENCE, challenge_from, order_from, with_card
from sandbox.refusals import error_body

LONGEST_TOKEN = 50


def create_payment(ledger: Ledger, call: Call) -> Reply:
    form = call.form
    order = order_from(call.merchant_id, form)
    card_input = form.part("cardPaymentMethodSpecificInput")
    visit = challenge_from(card_input)
    tokenize = card_input.flag("tokenize")
    card, token = _card(ledger, call.merchant_id, form, card_input)
    form.check()
    is_new = tokenize and token is None
    if is_new:
        token = ledger.vault.keep(call.merchant_id, card)
    order = with_card(order, card, token)

    declined_with = ledger.reason_to_decline(order, card)
    code = DECLINED if declined_with else REDIRECTED if visit else AUTHORISED
    payment = ledger.create(order, authorisation=code, declined_with=declined_with, visit=visit)
    answer = _created(call, payment, is_new if tokenize else None)
    if declined_with:
        return 402, error_body([rendering.rejection(declined_with)], paymentResult=answer)
    return 201, answer


def _card(ledger: Ledger, merchant_id: str, form: Form, card_input: Form) -> tuple[Card, str | None]:
    """The card itself, the one behind a token, or the one the consumer gave in a hosted tokenization."""
    token = card_input.text("token", LONGEST_TOKEN)
    if form.has("hostedTokenizationId"):
        session_id = form.required_text("hostedTokenizationId", LONGEST_TOKEN)
        token = ledger.vault.session(session_id, merchant_id).token
        if token is None:
            form.wrong("hostedTokenizationId", "the consumer has not given a card yet")
    elif token is None and card_input.has("card"):
        return card_from(card_input.part("card")), None
    elif token is None:
        form.wrong("cardPaymentMethodSpecificInput", "a card or a token is expected; only cards are played here")
    if token is not None and not ledger.vault.has(merchant_id, token):
        card_input.wrong("token", "no card is kept behind it")
    form.check()  # else there is no card to go on with
    return ledger.vault.card(merchant_id, token or ""), token


def _created(call: Call, payment: Payment, is_new_token: bool | None) -> Json:
    output: Json = {"externalReference": payment.order.merchant_reference or ""}
    if is_new_token is not None:
        output |= {"isNewToken": is_new_token, "token": payment.order.token, "tokenizationSucceeded": True}
    answer: Json = {"creationOutput": output, "payment": rendering.payment_json(payment)}
    if payment.authorisation == REDIRECTED and payment.visit is not None:
        url = f"http://{call.host}/sandbox/payments/{payment.id}/authorisation"
        answer["merchantAction"] = {
            "actionType": "REDIRECT",
            "redirectData": {"RETURNMAC": payment.visit.mac, "redirectURL": url},
        }
    return answer


def get_payment(ledger: Ledger, call: Call) -> Reply:
    return 200, rendering.payment_json(_shown(ledger, call))


def get_payment_details(ledger: Ledger, call: Call) -> Reply:
    return 200, rendering.details_json(_shown(ledger, call))


def get_captures(ledger: Ledger, call: Call) -> Reply:
    payment = _shown(ledger, call)
    listed = [o for o in payment.operations if o.kind == "capture" and o.listed]
    return 200, {"captures": [rendering.capture_json(payment, operation) for operation in listed]}


def get_refunds(ledger: Ledger, call: Call) -> Reply:
    payment = _shown(ledger, call)
    listed = [o for o in payment.operations if o.kind == "refund" and o.listed]
    return 200, {"refunds": [rendering.refund_json(payment, operation) for operation in listed]}


def capture_payment(ledger: Ledger, call: Call) -> Reply:
    payment, form = _found(ledger, call), call.form
    amount = form.number("amount") if form.has("amount") else None  # a bare number, without its currency
    operation = ledger.begin(payment, _wish("capture", form, amount))
    return 201, rendering.capture_json(payment, operation)


def refund_payment(ledger: Ledger, call: Call) -> Reply:
    payment, form = _found(ledger, call), call.form
    wish = _wish("refund", form, _amount(payment, form))
    payment.amount_of(wish)  # what is not possible is refused, and not the one to be declined
    if ledger.declines("refund"):
        declined = rendering.refund_json(payment, ledger.decline(payment, wish))
        return 402, error_body([rendering.rejection(triggers.INSUFFICIENT_FUNDS)], refundResult=declined)
    return 201, rendering.refund_json(payment, ledger.begin(payment, wish))


def cancel_payment(ledger: Ledger, call: Call) -> Reply:
    payment, form = _found(ledger, call), call.form
    amount = _amount(payment, form) if form.has("amountOfMoney") else None
    operation = ledger.begin(payment, _wish("cancel", form, amount))
    named = {"id": payment.id_of(operation), "operationOutput": rendering.operation_json(payment, operation)}
    return 200, {"payment": rendering.payment_json(payment, operation.code) | named}


def _found(ledger: Ledger, call: Call) -> Payment:
    return ledger.find(call.resource_id, call.merchant_id)


def _shown(ledger: Ledger, call: Call) -> Payment:
    payment = _found(ledger, call)
    return payment.as_of(call.as_of) if call.as_of else payment


def _amount(payment: Payment, form: Form) -> int:
    amount, currency = form.money("amountOfMoney")
    form.check()
    if currency != payment.order.currency:
        form.part("amountOfMoney").wrong("currencyCode", f"{payment.order.currency} is expected")
    return amount


def _wish(kind: Kind, form: Form, amount: int | None) -> Wish:
    references = form.part("operationReferences")
    wish = Wish(
        kind=kind,
        amount=amount,
        is_final=form.flag("isFinal"),
        reference=references.text("merchantReference", LONGEST_REFERENCE),
        group_reference=references.text("operationGroupReference", LONGEST_REFERENCE),
    )
    form.check()
    return wish
