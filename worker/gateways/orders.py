"""Requests that move money, as bytes: composed once, and sent as they were stored."""

from typing import Any

from onlinepayments.sdk.domain.amount_of_money import AmountOfMoney
from onlinepayments.sdk.domain.cancel_payment_request import CancelPaymentRequest
from onlinepayments.sdk.domain.capture_payment_request import CapturePaymentRequest
from onlinepayments.sdk.domain.operation_payment_references import OperationPaymentReferences
from onlinepayments.sdk.domain.refund_request import RefundRequest
from onlinepayments.sdk.json.default_marshaller import DefaultMarshaller

from worker.gateways.answers import PLATFORM_ID
from worker.gateways.gateway import Order, Refused
from worker.lifecycle import MovementKind, canonical_payment_id, decimals

#: The platform's limit.
LONGEST_IDEMPOTENCE_KEY = 40


class StoredBytes(DefaultMarshaller):  # type: ignore[misc]  # the SDK has no types
    """The SDK's marshaller, but that bytes are a request already and pass as they are.

    Bytes made anew could differ with the version of the SDK, and of the same key the platform knows the first ones.
    """

    def marshal(self, request_object: Any) -> str | bytes:
        if isinstance(request_object, bytes):
            return request_object
        text: str = super().marshal(request_object)
        return text


def composed(
    kind: MovementKind,
    amount: int,
    currency: str,
    *,
    is_final: bool,
    reference: str,
    group_reference: str | None,
    reason: str | None,
) -> bytes:
    """See `Gateway.compose`."""
    request = _REQUESTS[kind](amount, currency, is_final)
    references = OperationPaymentReferences()
    references.merchant_reference = reference
    references.operation_group_reference = group_reference
    request.operation_references = references
    if kind is MovementKind.REFUND:
        request.reason = reason
    text: str = DefaultMarshaller.instance().marshal(request)
    return text.encode()


def check(order: Order) -> None:
    """Make sure an order is whole. The SDK puts ids into URLs and keys into headers as they are; without a key each
    sending would be another capture, and without a body one of everything.

    Raises:
        Refused: it is not; nothing is sent.
    """
    key = order.idempotence_key
    if not PLATFORM_ID.fullmatch(order.payment_id) or canonical_payment_id(order.payment_id) != order.payment_id:
        raise Refused("not a canonical payment id; nothing was sent")
    if not (0 < len(key) <= LONGEST_IDEMPOTENCE_KEY and key.isascii() and key.isprintable() and " " not in key):
        raise Refused("not an idempotence key; nothing was sent")
    if not order.body:
        raise Refused("no body; nothing was sent")


def _capture(amount: int, currency: str, is_final: bool) -> Any:
    request = CapturePaymentRequest()
    if decimals(currency) == 2:
        request.amount = amount  # else left out, which captures all there is: see `decimals`
    request.is_final = is_final
    return request


def _refund(amount: int, currency: str, is_final: bool) -> Any:
    request = RefundRequest()
    request.amount_of_money = _money(amount, currency)
    request.is_final = is_final or None
    return request


def _cancellation(amount: int, currency: str, is_final: bool) -> Any:
    request = CancelPaymentRequest()
    request.amount_of_money = _money(amount, currency)
    request.is_final = is_final
    return request


_REQUESTS = {MovementKind.CAPTURE: _capture, MovementKind.REFUND: _refund, MovementKind.CANCEL: _cancellation}


def _money(amount: int, currency: str) -> Any:
    money = AmountOfMoney()
    money.amount = amount
    money.currency_code = currency
    return money
