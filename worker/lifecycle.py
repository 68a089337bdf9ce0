"""The states of a payment and of what moved on it, and which platform status code means which."""

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass


class PaymentState(enum.StrEnum):
    """Where a payment stands; the platform may move it backwards (93 returns to authorised, 83 to captured)."""

    CREATED = "created"
    PENDING = "pending"
    AUTHORISED = "authorised"
    CAPTURED = "captured"
    REFUNDED = "refunded"
    CANCELLED = "cancelled"
    REJECTED = "rejected"


class MovementKind(enum.StrEnum):
    CAPTURE = "capture"
    REFUND = "refund"
    CANCEL = "cancel"


class MovementState(enum.StrEnum):
    """What became of one capture, refund or cancellation."""

    PENDING = "pending"
    DONE = "done"
    REFUSED = "refused"


class OperationState(enum.StrEnum):
    """Where a capture, refund or cancellation that somebody asked us for stands."""

    REQUESTED = "requested"  # a row, not yet looked at
    PLANNED = "planned"  # promised: covered, and to be sent
    SENDING = "sending"  # a request may be on its way
    UNKNOWN = "unknown"  # a request left and its outcome is not known: looked up before anything else
    ACCEPTED = "accepted"  # the platform has it, and says later what became of it
    SUCCEEDED = "succeeded"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"  # taken back before it was ever sent
    REVIEW = "review"  # a person must decide


_S = PaymentState
_M = MovementKind
_O = OperationState

#: Every move there is. What is not here is a fault of ours, and refused.
OPERATION_MOVES: dict[OperationState, frozenset[OperationState]] = {
    # A look may show what an earlier life of this database sent: then it is accepted without being sent.
    _O.REQUESTED: frozenset({_O.PLANNED, _O.ACCEPTED, _O.SUCCEEDED, _O.REFUSED}),
    _O.PLANNED: frozenset({_O.SENDING, _O.ACCEPTED, _O.SUCCEEDED, _O.REFUSED, _O.WITHDRAWN, _O.REVIEW}),
    _O.SENDING: frozenset({_O.PLANNED, _O.UNKNOWN, _O.ACCEPTED, _O.SUCCEEDED, _O.REFUSED, _O.REVIEW}),
    _O.UNKNOWN: frozenset({_O.SENDING, _O.PLANNED, _O.ACCEPTED, _O.SUCCEEDED, _O.REFUSED, _O.REVIEW}),
    _O.ACCEPTED: frozenset({_O.SUCCEEDED, _O.REFUSED, _O.REVIEW}),
    _O.REVIEW: frozenset({_O.PLANNED, _O.ACCEPTED, _O.SUCCEEDED, _O.REFUSED}),
    _O.SUCCEEDED: frozenset(),
    _O.REFUSED: frozenset(),
    _O.WITHDRAWN: frozenset(),
}

#: Nothing follows these: a fact that contradicts one is an anomaly, shown and never silently believed.
ABSORBING = frozenset(state for state, moves in OPERATION_MOVES.items() if not moves)

#: What holds a part of the payment's money, as long as the platform lists no movement for it.
HOLDING = frozenset({_O.PLANNED, _O.SENDING, _O.UNKNOWN, _O.ACCEPTED, _O.SUCCEEDED, _O.REVIEW})

#: Refused maintenance: the payment is back where it was, whatever the status string or category beside it says.
REFUSED_MAINTENANCE = {63: _S.AUTHORISED, 73: _S.CAPTURED, 83: _S.CAPTURED, 93: _S.AUTHORISED}

#: Every other code whose meaning is known. While an operation is under way the payment keeps the state it had: a
#: capture in 91 is an authorised payment with a pending capture, not a captured one.
STATES_BY_CODE = {
    0: _S.CREATED,
    1: _S.CANCELLED,
    2: _S.REJECTED,
    4: _S.PENDING,
    5: _S.AUTHORISED,
    6: _S.CANCELLED,
    7: _S.REFUNDED,
    8: _S.REFUNDED,
    9: _S.CAPTURED,
    46: _S.PENDING,
    50: _S.PENDING,
    51: _S.PENDING,
    52: _S.PENDING,
    55: _S.PENDING,
    61: _S.AUTHORISED,
    62: _S.AUTHORISED,
    64: _S.CANCELLED,
    71: _S.CAPTURED,
    72: _S.CAPTURED,
    74: _S.REFUNDED,
    75: _S.REFUNDED,
    81: _S.CAPTURED,
    82: _S.CAPTURED,
    85: _S.REFUNDED,
    91: _S.AUTHORISED,
    92: _S.AUTHORISED,
    95: _S.CAPTURED,
    99: _S.PENDING,
}

#: Codes on which the platform's own sources disagree: the category decides, else the payment is looked at again.
DISPUTED_CODES = frozenset({56, 57, 59, 84, 94})

STATES_BY_CATEGORY = {
    "CREATED": _S.CREATED,
    "UNSUCCESSFUL": _S.REJECTED,
    "PENDING_PAYMENT": _S.PENDING,
    "PENDING_MERCHANT": _S.AUTHORISED,
    "PENDING_CONNECT_OR_3RD_PARTY": _S.PENDING,
    "COMPLETED": _S.CAPTURED,
    "REVERSED": _S.CANCELLED,
    "REFUNDED": _S.REFUNDED,
}

#: What a movement's code says, by kind. 64, 74, 75, 94 and 95 are older spellings of the same endings.
_DONE = {_M.CAPTURE: {9, 95}, _M.REFUND: {7, 8, 74, 75, 85}, _M.CANCEL: {1, 6, 64}}
_REFUSED = {_M.CAPTURE: {2, 93}, _M.REFUND: {73, 83, 84, 94}, _M.CANCEL: {63}}
_KIND_BY_FAMILY = {6: _M.CANCEL, 7: _M.REFUND, 8: _M.REFUND, 9: _M.CAPTURE}

#: A cancellation, refund or capture is under way, or its outcome is uncertain, whether or not it is listed yet.
MOVING_CODES = frozenset({61, 62, 71, 72, 81, 82, 91, 92})

#: Cancelled by the customer before it was ever authorised: the same state as 6, but no money was reserved.
CANCELLED_UNAUTHORISED = 1


def payment_state(status_code: int | None, category: str | None) -> PaymentState:
    """The state a payment's status code stands for; an unknown code is settled by its category, else pending.

    A payment that is pending is looked at again, so an unknown code costs looks and never a wrong conclusion.
    """
    if status_code in REFUSED_MAINTENANCE:
        return REFUSED_MAINTENANCE[status_code]
    if status_code in STATES_BY_CODE:
        return STATES_BY_CODE[status_code]
    return STATES_BY_CATEGORY.get(category or "", PaymentState.PENDING)


def movement_kind(status_code: int | None) -> MovementKind | None:
    """Which kind of operation a code belongs to (6x cancels, 7x and 8x refund, 9x captures), None for none of them."""
    if status_code is None or status_code in (0, 1, 2, 4, 5):
        return None
    return _KIND_BY_FAMILY.get(status_code if status_code < 10 else status_code // 10)


def movement_state(
    kind: MovementKind, status_code: int | None, status: str | None, category: str | None
) -> MovementState:
    """What became of a movement. Where code and words disagree, pending is the safe reading: it is looked at again."""
    if status_code in _REFUSED[kind]:
        return MovementState.REFUSED
    words = status or ""
    if words.endswith("_REQUESTED") or (category or "").startswith("PENDING"):
        return MovementState.PENDING
    if status_code in _DONE[kind]:
        return MovementState.DONE
    if words.startswith("REJECTED") or category == "UNSUCCESSFUL":
        return MovementState.REFUSED
    return MovementState.PENDING


def money_may_have_moved(state: PaymentState, status_code: int | None) -> bool:
    """Whether the payment was ever authorised, so that its captures, refunds and cancellations are worth fetching."""
    if state in (PaymentState.CREATED, PaymentState.PENDING, PaymentState.REJECTED):
        return False
    return status_code != CANCELLED_UNAUTHORISED


def lists_are_read(state: PaymentState, status_code: int | None) -> bool:
    """Whether a look at a payment of this state reads what moved; one that does not has nothing to say about that.

    While a capture is being taken in, the payment may be called pending (4, 99), as one is that was never authorised.
    """
    return money_may_have_moved(state, status_code) or status_code in (4, 99)


@dataclass(frozen=True)
class Amounts:
    """What a payment's money adds up to, in the currency's minor unit."""

    authorised: int
    captured: int
    capture_pending: int
    refunded: int
    refund_pending: int
    cancelled: int


def amounts_of(
    state: PaymentState,
    status_code: int | None,
    amount: int,
    acquired: int | None,
    movements: Iterable[tuple[MovementKind, MovementState, int]],
) -> Amounts:
    """Recompute a payment's amounts from its movements; nothing is ever added up from events.

    Args:
        state: the payment's state.
        status_code: the platform's code behind it.
        amount: ``amountOfMoney``, what was asked for.
        acquired: ``acquiredAmount``, the captured amount the platform says to trust; None when it says nothing.
        movements: kind, state and amount of every movement the platform lists.
    """
    sums: dict[tuple[MovementKind, MovementState], int] = {}
    for kind, became, moved in movements:
        sums[kind, became] = sums.get((kind, became), 0) + moved
    captured = sums.get((MovementKind.CAPTURE, MovementState.DONE), 0)
    listed = any(kind is MovementKind.CAPTURE for kind, _ in sums)
    if not listed and state in (PaymentState.CAPTURED, PaymentState.REFUNDED):
        captured = amount if acquired is None else acquired  # a sale need not list its capture
    return Amounts(
        authorised=amount if money_may_have_moved(state, status_code) else 0,
        captured=captured,
        capture_pending=sums.get((MovementKind.CAPTURE, MovementState.PENDING), 0),
        refunded=sums.get((MovementKind.REFUND, MovementState.DONE), 0),
        refund_pending=sums.get((MovementKind.REFUND, MovementState.PENDING), 0),
        cancelled=sums.get((MovementKind.CANCEL, MovementState.DONE), 0),
    )


def refined(state: PaymentState, amounts: Amounts) -> PaymentState:
    """Captured or refunded, told by the amounts: after partial refunds the payment's own code does not say."""
    if state in (PaymentState.CAPTURED, PaymentState.REFUNDED) and amounts.captured:
        return PaymentState.REFUNDED if amounts.refunded >= amounts.captured else PaymentState.CAPTURED
    return state


#: ISO 4217: the currencies whose minor unit is not a hundredth.
_DECIMALS = {
    "BIF": 0, "CLP": 0, "DJF": 0, "GNF": 0, "ISK": 0, "JPY": 0, "KMF": 0, "KRW": 0, "PYG": 0, "RWF": 0, "UGX": 0,
    "UYI": 0, "VND": 0, "VUV": 0, "XAF": 0, "XOF": 0, "XPF": 0,
    "BHD": 3, "IQD": 3, "JOD": 3, "KWD": 3, "LYD": 3, "OMR": 3, "TND": 3,
    "CLF": 4, "UYW": 4,
}  # fmt: skip


def decimals(currency: str) -> int:
    """How many decimals a currency's minor unit has.

    Every amount of the platform is in the minor unit, but for one: CapturePayment's bare ``amount`` is documented "in
    cents, where single digit currencies are presumed to have 2 digits". Whether 500 captures 500 or 5 yen is unclear,
    so where this is not 2, a capture leaves the amount out, which captures all there is, and a part is not captured.

    Args:
        currency: three capital letters.
    """
    return _DECIMALS.get(currency, 2)


_PLAIN_ID = re.compile(r"[0-9]{1,20}(_[0-9]{1,6})?", re.ASCII)
_WRAPPED_ID = re.compile(r"(?:900000([0-9]{10,11})|90000([0-9]{11}))[0-9]{3}", re.ASCII)

#: What the platform sends when a webhook is tried out from its portal: never a real payment.
TEST_PAYMENT_ID = "9999"


def canonical_payment_id(raw: str) -> str | None:
    """The one spelling of a payment's id: both of the platform's formats and every operation of it fold into it.

    ``3254564310_2`` is the payment ``3254564310``; ``9000003254564310000`` and ``90000`` before eleven digits wrap
    the same inner id (the platform's own plugins unwrap it so). None when ``raw`` is no payment id at all: the SDK
    puts ids into URLs without escaping, so nothing else may reach it.
    """
    if not _PLAIN_ID.fullmatch(raw):
        return None
    prefix = raw.split("_")[0]
    wrapped = _WRAPPED_ID.fullmatch(prefix)
    return (wrapped[1] or wrapped[2]) if wrapped else prefix


def names_operation(raw: str) -> bool:
    """Whether an id of the platform's is that of a capture, refund or cancellation, and not of the payment itself.

    Operations of ``3254564310`` are ``3254564310_1``, ``_2`` and so on; ``_0`` is the payment's initial transaction, as
    is ``000`` at the end of the newer format. A number without either says nothing about an operation.
    """
    prefix, _, number = raw.partition("_")
    if number:
        return int(number) > 0
    return _WRAPPED_ID.fullmatch(prefix) is not None and not prefix.endswith("000")
