"""What the platform's answers say about a payment, in our values: whole and well formed, or not at all."""

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from worker.gateways.errors import UnusableAnswer
from worker.gateways.gateway import Movement, Order, PaymentView, Receipt
from worker.lifecycle import (
    MovementKind,
    MovementState,
    canonical_payment_id,
    movement_kind,
    movement_state,
    names_operation,
    payment_state,
)

#: What a bigint column holds.
LARGEST_AMOUNT = 2**63 - 1
#: The columns' widths: statuses 64, references 128 (the platform's own limit is 40).
STATUS_LENGTH, REFERENCE_LENGTH = 64, 128
#: Movements repeated in the snapshot; all of them have rows of their own.
SNAPSHOT_MOVEMENTS = 50

PLATFORM_ID = re.compile(r"[0-9]{1,20}(_[0-9]{1,6})?", re.ASCII)
_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)
_METHOD = re.compile(r"[A-Za-z0-9_-]{1,32}", re.ASCII)
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # PostgreSQL refuses the one, UTF-8 the others
_CONTROL = re.compile("[\x01-\x1f\x7f-\x9f]")


def payment_view(merchant_id: str, payment_id: str, payment: Any) -> PaymentView:
    """A view of the payment answered, as yet without its movements.

    Args:
        merchant_id: whose payment it is.
        payment_id: its canonical id.
        payment: the SDK's PaymentResponse.

    Raises:
        UnusableAnswer: a part of it is missing, of another shape, or of another payment.
    """
    check_family(payment, payment_id)
    output = _part(payment, "payment_output")
    status_output = _part(payment, "status_output")
    code = _status_code(status_output)
    category = _category(payment)
    amount, currency = _money(output.amount_of_money)
    acquired = None
    if output.acquired_amount is not None:
        acquired, _ = _money(output.acquired_amount, currency)
    view = PaymentView(
        merchant_id=merchant_id,
        payment_id=payment_id,
        state=payment_state(code, category),
        status=_text(payment.status, "status", STATUS_LENGTH),
        status_code=code,
        status_category=category,
        currency=currency,
        amount=amount,
        acquired=acquired,
        merchant_reference=_reference(output.references),
    )
    return replace(view, snapshot=_snapshot(view, payment))


def with_movements(view: PaymentView, movements: Iterable[Movement]) -> PaymentView:
    """The view with what moved. The same movement listed twice is one; two that share an id contradict each other.

    Args:
        view: from `payment_view`.
        movements: what `captures_of`, `refunds_of` and `cancellations_of` read.

    Raises:
        UnusableAnswer: the movements contradict the payment or one another.
    """
    found: dict[str, Movement] = {}
    for one in movements:
        if one.currency != view.currency:
            raise UnusableAnswer(f"a {one.kind} has another currency than its payment")
        if found.setdefault(one.platform_operation_id, one) != one:
            raise UnusableAnswer(f"two movements share the id {one.platform_operation_id}")
    distinct = tuple(found.values())
    listed = {"movementsListed": len(distinct), "movements": [_brief(one) for one in distinct[:SNAPSHOT_MOVEMENTS]]}
    return replace(view, movements=distinct, snapshot={**view.snapshot, **listed})


def captures_of(answer: Any, payment_id: str) -> list[Movement]:
    """The captures the platform lists; its CapturesResponse names each by id, code, amount and reference."""
    return [
        _movement(MovementKind.CAPTURE, one, _part(one, "capture_output"), payment_id)
        for one in _listed(answer, "captures")
    ]


def refunds_of(answer: Any, payment_id: str) -> list[Movement]:
    """The refunds the platform lists; there is no way to ask for a single one."""
    return [
        _movement(MovementKind.REFUND, one, _part(one, "refund_output"), payment_id)
        for one in _listed(answer, "refunds")
    ]


def cancellations_of(answer: Any, payment_id: str) -> list[Movement]:
    """The cancellations among a payment's operations. Captures and refunds stand there too, told apart by the code;
    theirs are taken from the lists of their own, which are the platform's advice for sums."""
    check_family(answer, payment_id)
    return [
        _movement(MovementKind.CANCEL, one, one, payment_id)
        for one in _listed(answer, "operations")
        if movement_kind(_status_code(_part(one, "status_output"))) is MovementKind.CANCEL
    ]


def ordered_movement(order: Order, answer: Any) -> Movement | Receipt:
    """The movement that the answer to an order names. What it leaves out is as ordered, what it tells must be.
    An answer that names the payment alone is a receipt, if its code is that of such an order and no refusal.

    Args:
        order: what was asked for.
        answer: the SDK's CaptureResponse, RefundResponse or CancelPaymentResponse.

    Raises:
        UnusableAnswer: it names no operation of the payment, or tells of another one than was ordered.
    """
    one, output = _answered_operation(order, answer)
    operation_id = _own_id(one.id, order.payment_id)
    code = _status_code(_part(one, "status_output"))
    if movement_kind(code) not in (None, order.kind):
        raise UnusableAnswer(f"statusCode {code} is not that of a {order.kind}")
    status = _text(one.status, "status", STATUS_LENGTH)
    state = movement_state(order.kind, code, status, _category_of(order.kind, one))
    if not names_operation(operation_id):
        if movement_kind(code) is None or state is MovementState.REFUSED:
            raise UnusableAnswer("the id is the payment's, not the operation's")
        return Receipt(code)
    money = getattr(output, "amount_of_money", None)
    if money is not None and _money(money) != (order.amount, order.currency):
        raise UnusableAnswer("another amount than was ordered")
    if _reference(getattr(output, "operation_references", None)) not in (None, "", order.reference):
        raise UnusableAnswer("another reference than was ordered")
    return Movement(
        platform_operation_id=operation_id,
        kind=order.kind,
        state=state,
        amount=order.amount,
        currency=order.currency,
        status=status,
        status_code=code,
        reference=order.reference,
    )


def _answered_operation(order: Order, answer: Any) -> tuple[Any, Any]:
    """The part of an answer that stands for the operation, and the part with its amount and reference, if any."""
    if answer is None:
        raise UnusableAnswer("an empty answer")
    if order.kind is MovementKind.CAPTURE:
        return answer, answer.capture_output
    if order.kind is MovementKind.REFUND:
        return answer, answer.refund_output
    payment = _part(answer, "payment")
    check_family(payment, order.payment_id)
    # Without an operation of its own in it, nothing here is the cancellation's: the amount is that of the payment.
    return (payment, None) if payment.operation_output is None else (payment.operation_output,) * 2


def check_family(answer: Any, payment_id: str) -> None:
    """Make sure an answer is of this payment: an answer that came late on the wire could be of another."""
    _own_id(getattr(answer, "id", None), payment_id)


def _snapshot(view: PaymentView, payment: Any) -> dict[str, Any]:
    """What is kept of the answer: named fields only, so that nothing personal can slip through."""
    output, status_output = payment.payment_output, payment.status_output
    money = {"currencyCode": view.currency}
    return {
        "id": payment.id,
        "status": view.status,
        "statusOutput": {
            "statusCode": view.status_code,
            "statusCategory": view.status_category,
            "isAuthorized": _flag(status_output.is_authorized),
            "isCancellable": _flag(status_output.is_cancellable),
            "isRefundable": _flag(status_output.is_refundable),
        },
        "amountOfMoney": {"amount": view.amount, **money},
        "acquiredAmount": None if view.acquired is None else {"amount": view.acquired, **money},
        "merchantReference": view.merchant_reference,
        "paymentMethod": output.payment_method if _matches(_METHOD, output.payment_method) else None,
        "paymentProductId": _product_id(output),
    }


def _brief(one: Movement) -> dict[str, Any]:
    return {
        "id": one.platform_operation_id,
        "kind": one.kind.value,
        "state": one.state.value,
        "amount": one.amount,
        "statusCode": one.status_code,
        "merchantReference": one.reference,
    }


def _movement(kind: MovementKind, one: Any, output: Any, payment_id: str) -> Movement:
    code = _status_code(_part(one, "status_output"))
    status = _text(one.status, "status", STATUS_LENGTH)
    amount, currency = _money(output.amount_of_money)
    return Movement(
        platform_operation_id=_own_id(one.id, payment_id),
        kind=kind,
        state=movement_state(kind, code, status, _category_of(kind, one)),
        amount=amount,
        currency=currency,
        status=status,
        status_code=code,
        reference=_reference(output.operation_references),
    )


def _part(answer: Any, name: str) -> Any:
    found = getattr(answer, name, None)
    if found is None:
        raise UnusableAnswer(f"{name} is missing")
    return found


def _listed(answer: Any, name: str) -> list[Any]:
    """A list of an answer. An answer that leaves it out says that nothing is in it: APIs of this kind drop empty
    members, and a payment that could never be read for it would be worse than one looked at again."""
    if answer is None:
        raise UnusableAnswer("an empty answer")
    found = getattr(answer, name, None)
    if not isinstance(found, list | None):
        raise UnusableAnswer(f"{name} is not a list")
    return found or []


def _own_id(value: Any, payment_id: str) -> str:
    if not isinstance(value, str) or not PLATFORM_ID.fullmatch(value):
        raise UnusableAnswer("an id is missing or none of the platform's")
    if canonical_payment_id(value) != payment_id:
        raise UnusableAnswer("an id is of another payment")
    return value


def _status_code(status_output: Any) -> int:
    code = status_output.status_code
    if type(code) is not int or not 0 <= code < 1_000_000:
        raise UnusableAnswer("statusCode is missing or no code")
    return code


def _category(one: Any) -> str | None:
    return _text(_part(one, "status_output").status_category, "statusCategory", STATUS_LENGTH)


def _category_of(kind: MovementKind, one: Any) -> str | None:
    """The category of a movement; captures are told with nothing but a code."""
    return None if kind is MovementKind.CAPTURE else _category(one)


def _reference(references: Any) -> str | None:
    return None if references is None else _text(references.merchant_reference, "merchantReference", REFERENCE_LENGTH)


def _money(money: Any, currency: str | None = None) -> tuple[int, str]:
    """Amount in minor units and its currency; the one given, if one is."""
    if money is None or type(money.amount) is not int or not 0 <= money.amount <= LARGEST_AMOUNT:
        raise UnusableAnswer("an amount is missing or no amount")
    if not _matches(_CURRENCY, money.currency_code) or currency not in (None, money.currency_code):
        raise UnusableAnswer("a currency is missing or another one")
    return money.amount, money.currency_code


def _text(value: Any, name: str, length: int) -> str | None:
    """A string as it can be stored and shown: what no database takes makes the answer unusable, the rest is cleaned."""
    if value is None:
        return None
    if not isinstance(value, str) or _UNSTORABLE.search(value):
        raise UnusableAnswer(f"{name} is no text")
    return _CONTROL.sub(" ", value)[:length]


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _product_id(output: Any) -> int | None:
    """Which brand paid; it stands in the part named for the way of paying, beside data we do not want."""
    for way in ("card", "redirect", "mobile", "sepa_direct_debit"):
        found = getattr(output, f"{way}_payment_method_specific_output", None)
        product_id = getattr(found, "payment_product_id", None)
        if type(product_id) is int and 0 <= product_id < 1_000_000:
            return product_id
    return None


def _matches(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None
