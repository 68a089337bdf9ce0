"""Nothing of our own accord: whatever is to happen is asked for by people and by other systems."""

from collections.abc import Sequence

from worker.policies.policy import PaymentFacts, Policy, Wanted


class Manual(Policy):
    """Wants nothing."""

    name = "manual"

    def wants(self, payment: PaymentFacts) -> Sequence[Wanted]:
        return ()
