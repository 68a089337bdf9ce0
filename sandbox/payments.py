"""A payment and what may happen to it: the platform's state machine."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from sandbox.refusals import not_allowed

Kind = Literal["capture", "refund", "cancel"]

Outcome = Literal["done", "refused", "uncertain"]

CREATED = 0
CANCELLED_BY_CONSUMER = 1
DECLINED = 2
AUTHORISED = 5
CANCELLED = 6
REFUNDED = 8
CAPTURED = 9
REDIRECTED = 46
SCREENING_PENDING = 50
AUTHORISATION_PENDING = 51
AUTHORISATION_UNCERTAIN = 52
CANCELLATION_PENDING = 61
CANCELLATION_UNCERTAIN = 62
CANCELLATION_REFUSED = 63
REFUND_PENDING = 81
REFUND_UNCERTAIN = 82
REFUND_REFUSED = 83
CAPTURE_PENDING = 91
CAPTURE_UNCERTAIN = 92
CAPTURE_REFUSED = 93

UNDECIDED = (CREATED, REDIRECTED, SCREENING_PENDING, AUTHORISATION_PENDING, AUTHORISATION_UNCERTAIN)
UNAUTHORISED = (*UNDECIDED, CANCELLED_BY_CONSUMER, DECLINED)
AUTHORISATIONS = tuple(sorted({*UNAUTHORISED, AUTHORISED} - {CREATED}))  # what an authorisation may become


class Move(NamedTuple):
    """The codes of an operation: the answer to the call, then one of the outcomes; uncertain is not yet the last."""

    pending: int
    uncertain: int
    done: int
    refused: int

    @property
    def open(self) -> tuple[int, int]:
        return self.pending, self.uncertain


MOVES: dict[Kind, Move] = {
    "capture": Move(CAPTURE_PENDING, CAPTURE_UNCERTAIN, CAPTURED, CAPTURE_REFUSED),
    "refund": Move(REFUND_PENDING, REFUND_UNCERTAIN, REFUNDED, REFUND_REFUSED),
    "cancel": Move(CANCELLATION_PENDING, CANCELLATION_UNCERTAIN, CANCELLED, CANCELLATION_REFUSED),
}
REFUSED_CODES = frozenset(move.refused for move in MOVES.values())


class Status(NamedTuple):
    name: str
    category: str
    is_authorized: bool
    is_cancellable: bool
    is_refundable: bool


STATUSES: dict[int, Status] = {
    CREATED: Status("CREATED", "CREATED", False, False, False),
    CANCELLED_BY_CONSUMER: Status("CANCELLED", "UNSUCCESSFUL", False, False, False),
    DECLINED: Status("REJECTED", "UNSUCCESSFUL", False, False, False),
    REDIRECTED: Status("REDIRECTED", "PENDING_PAYMENT", False, False, False),
    SCREENING_PENDING: Status("AUTHORIZATION_REQUESTED", "PENDING_CONNECT_OR_3RD_PARTY", False, False, False),
    AUTHORISATION_PENDING: Status("AUTHORIZATION_REQUESTED", "PENDING_CONNECT_OR_3RD_PARTY", False, False, False),
    AUTHORISATION_UNCERTAIN: Status("AUTHORIZATION_REQUESTED", "PENDING_CONNECT_OR_3RD_PARTY", False, False, False),
    AUTHORISED: Status("PENDING_CAPTURE", "PENDING_MERCHANT", True, True, False),
    CANCELLED: Status("CANCELLED", "UNSUCCESSFUL", False, False, False),
    REFUNDED: Status("REFUNDED", "REFUNDED", False, False, False),
    CAPTURED: Status("CAPTURED", "COMPLETED", False, False, True),
    # The platform really says CANCELLED while the cancellation is only under way: the code tells them apart.
    CANCELLATION_PENDING: Status("CANCELLED", "PENDING_MERCHANT", True, False, False),
    CANCELLATION_UNCERTAIN: Status("CANCELLED", "PENDING_MERCHANT", True, False, False),
    CANCELLATION_REFUSED: Status("REJECTED", "UNSUCCESSFUL", True, True, False),
    REFUND_PENDING: Status("REFUND_REQUESTED", "PENDING_CONNECT_OR_3RD_PARTY", False, False, False),
    REFUND_UNCERTAIN: Status("REFUND_REQUESTED", "PENDING_CONNECT_OR_3RD_PARTY", False, False, False),
    REFUND_REFUSED: Status("REJECTED", "UNSUCCESSFUL", False, False, True),
    CAPTURE_PENDING: Status("CAPTURE_REQUESTED", "PENDING_CONNECT_OR_3RD_PARTY", False, False, False),
    CAPTURE_UNCERTAIN: Status("CAPTURE_REQUESTED", "PENDING_CONNECT_OR_3RD_PARTY", False, False, False),
    CAPTURE_REFUSED: Status("REJECTED_CAPTURE", "UNSUCCESSFUL", True, True, False),
}


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Order:
    """What a payment is made from."""

    merchant_id: str
    amount: int
    currency: str
    sale: bool = False
    merchant_reference: str | None = None
    merchant_parameters: str | None = None
    card_number: str = "************4242"  # masked; the whole number is never kept
    card_bin: str = "424242"
    card_expiry: str = "1299"
    card_product: int = 1  # the payment product: Visa
    token: str | None = None  # of the vault, when the card is kept there
    webhook_urls: tuple[str, ...] = ()  # of this payment alone, in place of the configured ones


@dataclass(frozen=True, slots=True)
class Wish:
    """A capture, refund or cancellation as asked for; no amount means all that is left."""

    kind: Kind
    amount: int | None = None
    is_final: bool = False
    reference: str | None = None  # operationReferences.merchantReference
    group_reference: str | None = None


@dataclass(slots=True)
class Operation:
    number: int  # the part of its id after "_"
    kind: Kind
    amount: int
    code: int
    is_final: bool
    reference: str | None = None
    group_reference: str | None = None
    listed: bool = True  # does the platform name it in its lists?
    begun_at: datetime = field(default_factory=now)
    changed_at: datetime = field(default_factory=now)

    @property
    def is_live(self) -> bool:
        return self.code != MOVES[self.kind].refused


@dataclass(slots=True)
class Visit:
    """The consumer at the platform, sent there to pay or to authenticate; afterwards sent back to the shop."""

    return_url: str | None
    mac: str  # the RETURNMAC, which the shop gets twice: from the API, and with the consumer's return
    hosted: bool = False  # a hosted checkout, otherwise 3-D Secure
    expires_at: datetime | None = None
    given_up: bool = False


@dataclass(slots=True)
class Payment:
    number: int  # the ten digits of its ids
    order: Order
    authorisation: int = CREATED
    operations: list[Operation] = field(default_factory=list)
    visit: Visit | None = None
    declined_with: str | None = None  # the error's code
    long_ids: bool = False
    created_at: datetime = field(default_factory=now)
    ordinal: int = 0  # how many payments came before it: what its webhooks suffer is drawn from it
    emitted: int = 0  # how many events it has had

    @property
    def id(self) -> str:
        return self.id_of(None)

    def id_of(self, operation: Operation | None) -> str:
        number = operation.number if operation else 0
        return f"900000{self.number}{number:03d}" if self.long_ids else f"{self.number}_{number}"

    @property
    def last(self) -> Operation | None:
        return self.operations[-1] if self.operations else None

    def total(self, kind: Kind, *codes: int) -> int:
        """The sum of one kind's operations with these codes; without codes, of all that were not refused."""
        return sum(o.amount for o in self.operations if o.kind == kind and (o.code in codes if codes else o.is_live))

    @property
    def captured(self) -> int:
        return self.total("capture", CAPTURED)

    @property
    def capturable(self) -> int:
        """Authorised, and neither captured nor cancelled nor given up by a final operation."""
        if self.authorisation != AUTHORISED:
            return 0
        if any(o.is_final and o.is_live for o in self.operations if o.kind != "refund"):
            return 0
        return self.order.amount - self.total("capture") - self.total("cancel")

    @property
    def code(self) -> int:
        """The payment's own code. Parts change nothing: it stays 5 until nothing is left to capture, then 9."""
        if self.authorisation != AUTHORISED:
            return self.authorisation
        if self.capturable:
            return AUTHORISED
        under_way = self._first_open("capture") or self._first_open("cancel")
        if under_way:
            return under_way
        captured = self.captured
        if not captured:
            return CANCELLED
        if self.total("refund") < captured:
            return CAPTURED
        return self._first_open("refund") or REFUNDED

    def _first_open(self, kind: Kind) -> int | None:
        return next((code for code in MOVES[kind].open if self.total(kind, code)), None)

    def authorise(self, code: int, *, sale_is_listed: bool) -> None:
        """Bring the authorisation to this code; a sale is captured with it, under the payment's own id."""
        self.authorisation = code
        if code == AUTHORISED and self.order.sale:
            self.operations.append(Operation(0, "capture", self.order.amount, CAPTURED, True, listed=sale_is_listed))

    @property
    def refundable(self) -> int:
        """A capture under way counts: the platform takes its refund at once, and refuses it later if need be."""
        return self.captured + self.total("capture", CAPTURE_PENDING) - self.total("refund")

    def as_of(self, instant: datetime) -> "Payment":
        """How it was then, as a copy: what a replica that lags behind still tells."""
        then = [
            operation if operation.changed_at <= instant else replace(operation, code=MOVES[operation.kind].pending)
            for operation in self.operations
            if operation.begun_at <= instant
        ]
        return replace(self, operations=then)

    def amount_of(self, wish: Wish) -> int:
        """What it comes to; refused when the payment has no room for it."""
        room = self.refundable if wish.kind == "refund" else self.capturable
        amount = room if wish.amount is None else wish.amount
        if not 0 < amount <= room:
            raise not_allowed(wish.kind, amount, room)
        return amount

    def begin(self, wish: Wish) -> Operation:
        """Accept an operation as pending, or refuse it when the payment has no room for it."""
        amount = self.amount_of(wish)
        operation = Operation(
            number=1 + sum(1 for o in self.operations if o.number),
            kind=wish.kind,
            amount=amount,
            code=MOVES[wish.kind].pending,
            is_final=wish.is_final or wish.amount is None,
            reference=wish.reference,
            group_reference=wish.group_reference,
        )
        self.operations.append(operation)
        return operation

    def settle(self, operation: Operation, outcome: Outcome) -> None:
        """The acquirer's word: the operation becomes what it will stay, or uncertain."""
        paid_out = self.total("refund", REFUNDED) + operation.amount
        if operation.kind == "refund" and outcome == "done" and paid_out > self.captured:
            outcome = "refused"  # its capture was refused meanwhile
        operation.code = getattr(MOVES[operation.kind], outcome)
        operation.changed_at = now()
