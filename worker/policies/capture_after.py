"""Capture a payment some time after it was authorised: when the goods have left, say, or a trial has ended."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from worker.lifecycle import MovementKind
from worker.policies.policy import PaymentFacts, Policy, Wanted
from worker.settings.policies import CAPTURE_AFTER


class CaptureAfter(Policy):
    """Captures all that is left.

    Args:
        delay: how long after the payment was first seen authorised.
    """

    name = CAPTURE_AFTER

    def __init__(self, delay: timedelta):
        self.delay = delay

    def wants(self, payment: PaymentFacts) -> Sequence[Wanted]:
        if not payment.is_capturable or payment.now < self._due_at(payment):
            return ()
        return (Wanted(MovementKind.CAPTURE, is_final=True),)

    def asks_at(self, payment: PaymentFacts) -> datetime | None:
        due_at = self._due_at(payment)
        return due_at if payment.is_capturable and payment.now < due_at else None

    def _due_at(self, payment: PaymentFacts) -> datetime:
        # Without a time, this very look is the first that saw it authorised.
        return (payment.authorised_at or payment.now) + self.delay
