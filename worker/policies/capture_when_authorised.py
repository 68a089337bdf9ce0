"""Capture a payment as soon as it is seen authorised."""

from collections.abc import Sequence

from worker.lifecycle import MovementKind
from worker.policies.policy import PaymentFacts, Policy, Wanted


class CaptureWhenAuthorised(Policy):
    """Captures all that is left, at once."""

    name = "capture-when-authorised"

    def wants(self, payment: PaymentFacts) -> Sequence[Wanted]:
        return (Wanted(MovementKind.CAPTURE, is_final=True),) if payment.is_capturable else ()
