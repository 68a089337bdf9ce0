"""The platform as we see it: looks at payments, orders that move money, and errors named for what to do next.

    GatewayError
    ├── TryAgain                nothing is known to have happened: again after a back-off
    │   ├── SlowDown            the platform asks for fewer requests (429)
    │   └── NotSent             the request never left (connection refused, no name): again, same idempotence key
    ├── PaymentUnknown          the platform knows no such payment: a few tries, then a person looks
    ├── CredentialsRefused      our API key, clock or merchant is refused (401, 403): a person looks, nothing is lost
    ├── OutcomeUnknown          money may have moved: look before anything is sent again
    │   └── InProgress          the first request with this idempotence key still runs: wait, same key
    └── Refused                 a definitive no to this request: never again as it is
        └── NotAllowed          no, because of where the payment stands: look whether our record of it is old

The message of each is made of codes and ids only; the SDK's own texts carry whole response bodies.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from worker.lifecycle import MovementKind, MovementState, PaymentState


class GatewayError(Exception):
    """A call to the platform that gave no usable answer.

    Args:
        told: what happened, safe to log and to store: codes, ids and exception class names, nothing of a body.
        http_status: the status answered, None when there was no answer.
        error_id: the platform's ``errorId``, by which its support finds the call.
        replayed: the answer was the kept one of an earlier request with the same idempotence key.
    """

    def __init__(
        self, told: str, *, http_status: int | None = None, error_id: str | None = None, replayed: bool = False
    ):
        super().__init__(told)
        self.told = told
        self.http_status = http_status
        self.error_id = error_id
        self.replayed = replayed


class TryAgain(GatewayError):
    """Nothing is known to have happened: again after a back-off."""


class SlowDown(TryAgain):
    """The platform asks for fewer requests."""


class NotSent(TryAgain):
    """The request never left: again, with the same idempotence key."""


class PaymentUnknown(GatewayError):
    """The platform knows no such payment for this merchant."""


class CredentialsRefused(GatewayError):
    """Our API key, our clock or the merchant is refused: a person must look, nothing is lost meanwhile."""


class OutcomeUnknown(GatewayError):
    """Money may have moved: look before anything is sent again."""


class InProgress(OutcomeUnknown):
    """The first request with this idempotence key still runs: wait, then the same key."""


class Refused(GatewayError):
    """A definitive no to this request: never again as it is."""


class NotAllowed(Refused):
    """Refused because of where the payment stands: our record may be old, or it was done already."""


@dataclass(frozen=True)
class Order:
    """A capture, refund or cancellation as it leaves: the same bytes under the same key, however often it is sent."""

    kind: MovementKind
    payment_id: str  # canonical
    amount: int  # minor units, what was promised
    currency: str
    reference: str  # our operation's uuid = operationReferences.merchantReference
    idempotence_key: str  # ASCII, at most 40 characters
    body: bytes  # from `Gateway.compose`, stored when the operation was promised


@dataclass(frozen=True)
class Movement:
    """A capture, refund or cancellation as the platform lists it."""

    platform_operation_id: str
    kind: MovementKind
    state: MovementState
    amount: int  # minor units
    currency: str
    status: str | None
    status_code: int | None
    reference: str | None  # operationReferences.merchantReference: ours when we asked for it


@dataclass(frozen=True)
class Receipt:
    """The platform's word that it has an order, naming no operation: which one it is, a look tells."""

    status_code: int


@dataclass(frozen=True)
class PaymentView:
    """A complete look at a payment: every part of it was answered, or there is no view at all."""

    merchant_id: str
    payment_id: str  # canonical, see `worker.lifecycle.canonical_payment_id`
    state: PaymentState
    status: str | None
    status_code: int | None
    status_category: str | None
    currency: str | None
    amount: int  # amountOfMoney, minor units
    acquired: int | None  # acquiredAmount
    merchant_reference: str | None
    movements: tuple[Movement, ...] = ()
    calls: int = 1  # how many requests it took
    snapshot: Mapping[str, Any] = field(default_factory=dict)  # redacted: no card, customer or token data


@dataclass(frozen=True)
class Contact:
    """How the platform answers when it is asked for nothing."""

    refusal: GatewayError | None  # None: it knows us
    skew_seconds: float | None  # how much our clock is ahead of its; None: it did not tell the time


class Gateway(ABC):
    """One merchant's door to the platform. Thread-safe; made after fork, one per process and merchant."""

    merchant_id: str
    host: str  # of the platform; with its merchants it tells one installation from another

    @abstractmethod
    def look(self, payment_id: str, *, seconds: float) -> PaymentView:
        """Fetch a payment and, when money may have moved, its captures, refunds and cancellations.

        Args:
            payment_id: the payment's id, canonical or as the platform spelt it.
            seconds: the wall-clock time all calls of the look together may take.

        Raises:
            TryAgain: any part could not be fetched; nothing of the others is used.
            PaymentUnknown: the platform knows no such payment.
            CredentialsRefused: the platform refuses who we are.
            Refused: the platform refuses the request itself (a malformed id, for instance).
        """

    @abstractmethod
    def compose(
        self,
        kind: MovementKind,
        amount: int,
        currency: str,
        *,
        is_final: bool,
        reference: str,
        group_reference: str | None = None,
        reason: str | None = None,
    ) -> bytes:
        """The exact bytes of a request that moves money, to be stored and sent.

        Args:
            kind: what is asked for.
            amount: in minor units. A capture in a currency without two decimals is always of all there is, see
                `worker.lifecycle.decimals`.
            currency: the payment's, three letters.
            is_final: nothing of the same kind is to follow.
            reference: our operation's uuid, by which its movement is found again.
            group_reference: the caller's own name for it, at most 40 characters.
            reason: of a refund, shown in the platform's portal; the other two have no place for it.
        """

    @abstractmethod
    def send(self, order: Order, *, seconds: float) -> Movement | Receipt:
        """Ask the platform to move money, once: nothing is sent again by itself.

        Args:
            order: what was promised.
            seconds: the wall-clock time the call may take.

        Returns:
            The movement its answer names, as yet mostly pending; it may also say that it was refused. A receipt when
            the answer names the payment alone, as the platform's own example of a cancellation does.

        Raises:
            NotSent: no byte left.
            SlowDown: the platform asks for fewer requests.
            CredentialsRefused: the platform refuses who we are.
            InProgress: the first request with this key still runs.
            OutcomeUnknown: whatever does not say for certain what became of it.
            PaymentUnknown: the platform knows no such payment.
            NotAllowed: the payment stands where this is not possible.
            Refused: the platform refuses the request itself, or the issuer declined.
        """

    @abstractmethod
    def contact(self, *, seconds: float) -> Contact:
        """Ask the platform whether it knows us, and what time it is. It tells the time too when it refuses us, which
        it does when our clock is more than 5 minutes off.

        Args:
            seconds: the wall-clock time the call may take.
        """

    @abstractmethod
    def is_webhook_key(self, key_id: str, signature_of_nothing: str, *, seconds: float) -> bool:
        """Whether the platform signs this merchant's webhooks with this key.

        Args:
            key_id: the key's id.
            signature_of_nothing: what the key's secret makes of an empty body; the secret itself is not sent.
            seconds: the wall-clock time the call may take.

        Raises:
            GatewayError: the platform gave no answer to that.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the connections."""
