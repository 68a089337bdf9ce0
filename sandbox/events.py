"""The events of the platform: which one tells of what, and its envelope."""

import json
import time
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from random import Random

from sandbox import payments
from sandbox.payments import Kind, Operation, Payment
from sandbox.rendering import Json, payment_json, refund_json, status_output

# The platform has no event for a cancellation that is only under way; and a refused refund or cancellation is told as
# payment.rejected, although the payment itself goes on as before.
OPERATION_EVENTS: dict[tuple[Kind, int], str] = {
    ("capture", payments.CAPTURE_PENDING): "payment.capture_requested",
    ("capture", payments.CAPTURE_UNCERTAIN): "payment.capture_requested",
    ("capture", payments.CAPTURED): "payment.captured",
    ("capture", payments.CAPTURE_REFUSED): "payment.rejected_capture",
    ("refund", payments.REFUND_PENDING): "refund.refund_requested",
    ("refund", payments.REFUND_UNCERTAIN): "refund.refund_requested",
    ("refund", payments.REFUNDED): "payment.refunded",
    ("refund", payments.REFUND_REFUSED): "payment.rejected",
    ("cancel", payments.CANCELLED): "payment.cancelled",
    ("cancel", payments.CANCELLATION_REFUSED): "payment.rejected",
}
PAYMENT_EVENTS: dict[int, str] = {
    payments.CREATED: "payment.created",
    payments.CANCELLED_BY_CONSUMER: "payment.cancelled",
    payments.DECLINED: "payment.rejected",
    payments.REDIRECTED: "payment.redirected",
    payments.SCREENING_PENDING: "payment.authorization_requested",
    payments.AUTHORISATION_PENDING: "payment.authorization_requested",
    payments.AUTHORISATION_UNCERTAIN: "payment.authorization_requested",
    payments.AUTHORISED: "payment.pending_capture",
    payments.CAPTURE_PENDING: "payment.capture_requested",
    payments.CAPTURE_UNCERTAIN: "payment.capture_requested",
    payments.CAPTURED: "payment.captured",
    payments.CANCELLATION_PENDING: "payment.cancelled",
    payments.CANCELLATION_UNCERTAIN: "payment.cancelled",
    payments.CANCELLED: "payment.cancelled",
    payments.REFUND_PENDING: "refund.refund_requested",
    payments.REFUND_UNCERTAIN: "refund.refund_requested",
    payments.REFUNDED: "payment.refunded",
}
TEST_PAYMENT_ID = "9999_9"
REFUND_EVENTS = frozenset({"refund.refund_requested", "payment.refunded"})  # carry the refund, not the payment


@dataclass(frozen=True, slots=True)
class Event:
    id: str
    type: str
    merchant_id: str
    payment_id: str  # with the operation's number, as in the body
    body: bytes
    fate: str  # what its deliveries suffer is drawn from this and the seed
    urls: tuple[str, ...]  # of the payment itself; empty: the configured ones

    def draw(self, seed: int) -> Random:
        """The same payments in the same order suffer the same, whatever the threads do."""
        return Random(f"{seed}/{self.fate}")

    def in_new_envelope(self) -> "Event":
        """The same news under another id, as the platform may send it when it tries again."""
        envelope = json.loads(self.body) | {"id": str(uuid.uuid4()), "created": created(time.time_ns())}
        return replace(self, id=envelope["id"], body=_compact(envelope))


def of_creation(payment: Payment) -> list[Event]:
    """``payment.created`` and what came right after."""
    content = {"payment": payment_json(payment, payments.CREATED)}
    return [_event(payment, "payment.created", None, content), *of_authorisation(payment)]


def of_authorisation(payment: Payment) -> list[Event]:
    """How far it has got; of a sale that was authorised, its capture instead."""
    authorised_sale = payment.order.sale and payment.authorisation == payments.AUTHORISED
    code = payments.CAPTURED if authorised_sale else payment.authorisation
    return [_event(payment, PAYMENT_EVENTS[code], None, {"payment": payment_json(payment, code)})]


def of_operation(payment: Payment, operation: Operation) -> list[Event]:
    """None, or the one that tells of the operation's present state."""
    name = OPERATION_EVENTS.get((operation.kind, operation.code))
    if name is None:
        return []
    if name in REFUND_EVENTS:
        return [_event(payment, name, operation, _refund(payment, operation))]
    content: Json = {"payment": payment_json(payment, operation.code, operation), "containsAnOperation": True}
    if operation.kind == "refund":
        content["refund"] = {}  # the platform sends it along, empty
    return [_event(payment, name, operation, content)]


def of_present(payment: Payment, name: str | None) -> Event:
    """The payment as it is now, under the given name or the one that fits."""
    name = name or PAYMENT_EVENTS[payment.code]
    refunds = [operation for operation in payment.operations if operation.kind == "refund"]
    if name in REFUND_EVENTS and refunds:
        return _event(payment, name, refunds[-1], _refund(payment, refunds[-1]))
    return _event(payment, name, payment.last, {"payment": payment_json(payment) | {"id": payment.id_of(payment.last)}})


def _refund(payment: Payment, operation: Operation) -> Json:
    # In events the platform names the card's part otherwise than in the API's answers.
    return {"refund": refund_json(payment, operation, card_key="cardPaymentMethodSpecificOutput")}


def of_test(merchant_id: str, url: str) -> Event:
    """What the platform sends to try an address out; no payment has this id."""
    status = payments.STATUSES[payments.AUTHORISATION_PENDING]
    output = status_output(payments.AUTHORISATION_PENDING) | {"statusCode": 0}
    payment: Json = {"id": TEST_PAYMENT_ID, "status": status.name, "statusOutput": output}
    return _enveloped(merchant_id, TEST_PAYMENT_ID, "payment.test", {"payment": payment}, "test", (url,))


def _event(payment: Payment, name: str, operation: Operation | None, content: Json) -> Event:
    payment.emitted += 1
    fate = f"{payment.ordinal}/{payment.emitted}"
    order = payment.order
    return _enveloped(order.merchant_id, payment.id_of(operation), name, content, fate, order.webhook_urls)


def _enveloped(merchant_id: str, payment_id: str, name: str, content: Json, fate: str, urls: tuple[str, ...]) -> Event:
    envelope: Json = {
        "apiVersion": "v1",
        "created": created(time.time_ns()),
        "id": str(uuid.uuid4()),
        "merchantId": merchant_id,
        **content,
        "type": name,
    }
    return Event(envelope["id"], name, merchant_id, payment_id, _compact(envelope), fate, urls)


def _compact(envelope: Json) -> bytes:
    return json.dumps(envelope, separators=(",", ":"), ensure_ascii=False).encode()


def created(nanoseconds: int) -> str:
    """With seven fractional digits, one more than Python's datetime has: so the platform writes it."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest // 100:07d}+00:00"
