"""What a policy is: something that looks at a payment and says what it wants done with its money."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from worker.lifecycle import MOVING_CODES, MovementKind, PaymentState


@dataclass(frozen=True)
class PaymentFacts:
    """A payment as it stood at the look that has just been made. Money is in the currency's minor unit."""

    merchant_id: str
    payment_id: str  # canonical
    merchant_reference: str | None
    state: PaymentState
    status_code: int | None  # the platform's, behind the state
    currency: str | None
    amount_authorised: int
    amount_captured: int
    amount_capture_pending: int
    amount_refunded: int
    amount_refund_pending: int
    amount_cancelled: int
    remainder: int  # what could still be captured: authorised less captures, cancellations and what is promised
    authorised_at: datetime | None  # when payhook first saw it authorised
    now: datetime  # the database's clock
    expires_at: datetime | None = None  # when the authorisation ends, by `authorisation_days`

    @property
    def is_capturable(self) -> bool:
        """Authorised, with something left to capture, and nothing under way that the remainder may not know of."""
        return self.state is PaymentState.AUTHORISED and self.remainder > 0 and self.status_code not in MOVING_CODES


@dataclass(frozen=True)
class Wanted:
    """An operation that a policy wants."""

    kind: MovementKind
    amount: int | None = None  # minor units; None is all that is left
    is_final: bool = False  # of a capture: what it leaves is not to be captured any more
    reason: str | None = None  # for people


class Policy(ABC):
    """What we do with a payment of our own accord.

    Asked in the transaction that replaces the payment's record, so neither method may wait for anything; and that
    transaction may be tried again, so neither may change anything.
    """

    name: str  # its operations have the source ``policy:NAME``; `worker.settings.policies` limits its length

    @abstractmethod
    def wants(self, payment: PaymentFacts) -> Sequence[Wanted]:
        """The operations it wants now, one of a kind at most; what it wanted at an earlier look may be among them."""

    def asks_at(self, payment: PaymentFacts) -> datetime | None:
        """When it is to be asked again, should nothing else happen to the payment; None leaves it to the next look."""
        return None
