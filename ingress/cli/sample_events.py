"""Events as the platform sends them, made up: what `payhook send` posts when it is given a name."""

import json
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

Json = dict[str, Any]

PAYMENT_ID = "3254564310"


class Sample(NamedTuple):
    """What an event of a type says: which object it carries, and the object's state."""

    object: str
    operation: int  # the number after the payment's id
    status: str
    code: int
    category: str


#: The platform's own list; the codes are those that its events carry.
SAMPLES: dict[str, Sample] = {
    "payment.created": Sample("payment", 0, "CREATED", 0, "CREATED"),
    "payment.redirected": Sample("payment", 0, "REDIRECTED", 46, "PENDING_PAYMENT"),
    "payment.authorization_requested": Sample(
        "payment", 0, "AUTHORIZATION_REQUESTED", 51, "PENDING_CONNECT_OR_3RD_PARTY"
    ),
    "payment.pending_capture": Sample("payment", 0, "PENDING_CAPTURE", 5, "PENDING_MERCHANT"),
    "payment.capture_requested": Sample("payment", 1, "CAPTURE_REQUESTED", 91, "PENDING_CONNECT_OR_3RD_PARTY"),
    "payment.captured": Sample("payment", 1, "CAPTURED", 9, "COMPLETED"),
    "payment.rejected": Sample("payment", 0, "REJECTED", 2, "UNSUCCESSFUL"),
    "payment.rejected_capture": Sample("payment", 1, "REJECTED_CAPTURE", 93, "UNSUCCESSFUL"),
    "payment.cancelled": Sample("payment", 1, "CANCELLED", 6, "UNSUCCESSFUL"),
    "refund.refund_requested": Sample("refund", 2, "REFUND_REQUESTED", 81, "PENDING_CONNECT_OR_3RD_PARTY"),
    "payment.refunded": Sample("refund", 2, "REFUNDED", 8, "REFUNDED"),
    "payment.test": Sample("payment", 9, "AUTHORIZATION_REQUESTED", 0, "CREATED"),
}


def event(name: str, changes: Iterable[tuple[str, Any]] = ()) -> bytes:
    """The body of an event of that name, compact as the platform writes it, with fields set.

    Args:
        name: one of ``SAMPLES``.
        changes: paths such as ``payment.paymentOutput.amountOfMoney.amount`` with their values; missing ones are made.

    Raises:
        ValueError: a path leads through something that has no parts.
    """
    sample = SAMPLES[name]
    body: Json = {
        "apiVersion": "v1",
        "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "id": str(uuid.uuid4()),
        "merchantId": "sandbox",
        sample.object: _refund(sample) if sample.object == "refund" else _payment(sample),
        "type": name,
    }
    if name == "payment.test":
        body["payment"]["id"] = "9999_9"
    for path, value in changes:
        _set(body, path, value)
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def _payment(sample: Sample) -> Json:
    money = {"amount": 1000, "currencyCode": "EUR"}
    return {
        "paymentOutput": {
            "amountOfMoney": money,
            "references": {"merchantReference": "order-1"},
            "paymentMethod": "card",
            "cardPaymentMethodSpecificOutput": {"paymentProductId": 1, "card": {"cardNumber": "************4242"}},
        },
        "status": sample.status,
        "statusOutput": {
            "statusCategory": sample.category,
            "statusCode": sample.code,
            "isAuthorized": sample.code in (5, 93),
            "isCancellable": sample.code in (5, 93),
            "isRefundable": sample.code == 9,
        },
        "id": f"{PAYMENT_ID}_{sample.operation}",
    }


def _refund(sample: Sample) -> Json:
    return {
        "refundOutput": {
            "amountOfMoney": {"amount": 1000, "currencyCode": "EUR"},
            "references": {"merchantReference": "order-1"},
            "paymentMethod": "card",
        },
        "status": sample.status,
        "statusOutput": {"isCancellable": False, "statusCategory": sample.category, "statusCode": sample.code},
        "id": f"{PAYMENT_ID}_{sample.operation}",
    }


def _set(body: Json, path: str, value: Any) -> None:
    *names, last = path.split(".")
    inside: Any = body
    for name in names:
        inside = inside.setdefault(name, {}) if isinstance(inside, dict) else None
    if not isinstance(inside, dict):
        raise ValueError(f"{path} leads through something that has no parts")
    inside[last] = value
