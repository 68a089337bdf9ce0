"""Payments and operations in the JSON shapes of the platform."""

from typing import Any

from sandbox.payments import (
    AUTHORISED,
    CANCELLATION_PENDING,
    CANCELLATION_UNCERTAIN,
    CANCELLED,
    DECLINED,
    MOVES,
    REFUNDED,
    REFUSED_CODES,
    STATUSES,
    UNAUTHORISED,
    Operation,
    Payment,
)

Json = dict[str, Any]

REFUSED_BY_ACQUIRER = "30051001"
NOTHING_ACQUIRED = frozenset({*UNAUTHORISED, CANCELLED, CANCELLATION_PENDING, CANCELLATION_UNCERTAIN})
FRAUD_RESULTS = {"fraudServiceResult": "accepted", "avsResult": "0", "cvvResult": "0"}
THREE_D_SECURE = {"version": "2.2.0", "flow": "frictionless", "eci": "5", "authenticationStatus": "Y"}


def money(amount: int, payment: Payment) -> Json:
    return {"amount": amount, "currencyCode": payment.order.currency}


def references(payment: Payment) -> Json:
    found = {}
    if payment.order.merchant_reference is not None:
        found["merchantReference"] = payment.order.merchant_reference
    if payment.order.merchant_parameters is not None:
        found["merchantParameters"] = payment.order.merchant_parameters
    return found


def operation_references(operation: Operation) -> Json:
    """Empty for a click in the portal, else ``{"operationReferences": …}``: the caller's own name for it."""
    found = {}
    if operation.reference is not None:
        found["merchantReference"] = operation.reference
    if operation.group_reference is not None:
        found["operationGroupReference"] = operation.group_reference
    return {"operationReferences": found} if found else {}


def rejection(error_code: str | None, error_id: str = "REJECTED") -> Json:
    """The error with which the acquirer, or the issuer behind it, says no."""
    return {
        "category": "PAYMENT_PLATFORM_ERROR",
        "errorCode": error_code or REFUSED_BY_ACQUIRER,
        "httpStatusCode": 402,
        "id": error_id,
        "message": "",
        "retriable": False,
    }


def status_output(code: int, declined_with: str | None = None) -> Json:
    status = STATUSES[code]
    output: Json = {
        "isCancellable": status.is_cancellable,
        "statusCategory": status.category,
        "statusCode": code,
        "isAuthorized": status.is_authorized,
        "isRefundable": status.is_refundable,
    }
    if code in REFUSED_CODES or code == DECLINED:
        output["errors"] = [rejection(declined_with)]
    return output


def acquired(payment: Payment, code: int) -> int:
    """What the platform calls acquired: once captured that, before it what is reserved; so 1500 also at code 5."""
    if code in NOTHING_ACQUIRED:
        return 0
    if code == AUTHORISED:
        return payment.order.amount - payment.total("cancel", CANCELLED)
    return payment.captured or payment.order.amount


def payment_output(payment: Payment, code: int, amount: int) -> Json:
    return {
        "amountOfMoney": money(amount, payment),
        "references": references(payment),
        "acquiredAmount": money(acquired(payment, code), payment),
        "customer": {"device": {"ipAddressCountryCode": "99"}},
        "cardPaymentMethodSpecificOutput": card_output(payment, code),
        "paymentMethod": "card",
        "paymentCreationDate": _instant(payment),
    }


def card_output(payment: Payment, code: int) -> Json:
    order = payment.order
    output: Json = {
        "paymentProductId": order.card_product,
        "card": {
            "cardNumber": order.card_number,
            "expiryDate": order.card_expiry,
            "bin": order.card_bin,
            "countryCode": "99",
        },
    }
    if order.token is not None:
        output["token"] = order.token
    if code not in UNAUTHORISED:
        output["authorisationCode"] = f"{payment.number % 1_000_000:06d}"
        output["fraudResults"] = FRAUD_RESULTS
        output["threeDSecureResults"] = THREE_D_SECURE
    return output


def _instant(of: Payment | Operation) -> str:
    at = of.created_at if isinstance(of, Payment) else of.changed_at
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def payment_json(payment: Payment, code: int | None = None, operation: Operation | None = None) -> Json:
    """A payment as it is; or, for an event, as one operation of it has left it, under that operation's id."""
    code = payment.code if code is None else code
    # In a cancellation's event the platform puts the cancelled part where the payment's amount is otherwise.
    partial = operation is not None and operation.kind == "cancel"
    answer: Json = {
        "paymentOutput": payment_output(
            payment, code, operation.amount if operation and partial else payment.order.amount
        ),
        "status": STATUSES[code].name,
        "statusOutput": status_output(code, payment.declined_with),
        "id": payment.id_of(operation),
    }
    if payment.visit is not None and payment.visit.hosted:
        checkout_id = str(payment.number)
        answer["hostedCheckoutSpecificOutput"] = {"hostedCheckoutId": checkout_id}
        answer["sessionDetails"] = {"type": "HostedCheckout", "id": checkout_id}
    if operation is not None and operation.number:
        answer["operationOutput"] = operation_json(payment, operation)
    return answer


def operation_json(payment: Payment, operation: Operation) -> Json:
    return {
        "id": payment.id_of(operation),
        "amountOfMoney": money(operation.amount, payment),
        "status": STATUSES[operation.code].name,
        "statusOutput": status_output(operation.code),
        "paymentMethod": "card",
        "references": references(payment),
        "transactionDate": _instant(operation),
        **operation_references(operation),
    }


def details_json(payment: Payment) -> Json:
    operations = [operation_json(payment, operation) for operation in payment.operations if operation.listed]
    if not payment.order.sale or payment.authorisation != AUTHORISED:
        code = payment.authorisation
        authorisation: Json = {
            "id": payment.id,
            "amountOfMoney": money(payment.order.amount, payment),
            "status": STATUSES[code].name,
            "statusOutput": status_output(code, payment.declined_with),
            "paymentMethod": "card",
            "references": references(payment),
        }
        operations.insert(0, authorisation)
    return {**payment_json(payment), "Operations": operations}


def capture_json(payment: Payment, operation: Operation) -> Json:
    done = operation.amount if operation.is_live else 0
    return {
        "captureOutput": {
            "amountOfMoney": money(operation.amount, payment),
            "acquiredAmount": money(done, payment),
            "references": references(payment),
            "paymentMethod": "card",
            "cardPaymentMethodSpecificOutput": {"paymentProductId": payment.order.card_product},
            "transactionDate": _instant(operation),
            **operation_references(operation),
        },
        "status": STATUSES[operation.code].name,
        "statusOutput": {"statusCode": operation.code},
        "id": payment.id_of(operation),
    }


def refund_json(payment: Payment, operation: Operation, card_key: str = "cardRefundMethodSpecificOutput") -> Json:
    totals = {"totalAmountPaid": payment.captured, "totalAmountRefunded": payment.total("refund", REFUNDED)}
    status = STATUSES[operation.code]
    output: Json = {"isCancellable": False, "statusCategory": status.category, "statusCode": operation.code}
    if operation.code in REFUSED_CODES:
        output["errors"] = [rejection(None)]
    return {
        "refundOutput": {
            "amountOfMoney": money(operation.amount, payment),
            "references": references(payment),
            card_key: totals,
            "paymentMethod": "card",
            "transactionDate": _instant(operation),
            **operation_references(operation),
        },
        "status": status.name,
        "statusOutput": output,
        "id": payment.id_of(operation),
    }


def truth_json(payment: Payment) -> Json:
    """The ledger's row of a payment, as the control surface shows it: not in any shape of the platform's."""
    capture, refund, cancel = MOVES["capture"], MOVES["refund"], MOVES["cancel"]
    return {
        "merchant_id": payment.order.merchant_id,
        "payment_id": str(payment.number),
        "merchant_reference": payment.order.merchant_reference,
        "status": STATUSES[payment.code].name,
        "status_code": payment.code,
        "currency": payment.order.currency,
        "amount_authorised": payment.order.amount if payment.authorisation == AUTHORISED else 0,
        "amount_captured": payment.total("capture", capture.done),
        "amount_capture_pending": payment.total("capture", *capture.open),
        "amount_refunded": payment.total("refund", refund.done),
        "amount_refund_pending": payment.total("refund", *refund.open),
        "amount_cancelled": payment.total("cancel", cancel.done),
        "operations": [
            {
                "id": payment.id_of(operation),
                "kind": operation.kind,
                "amount": operation.amount,
                "status_code": operation.code,
                "reference": operation.reference,
                "listed": operation.listed,
            }
            for operation in payment.operations
        ],
    }
