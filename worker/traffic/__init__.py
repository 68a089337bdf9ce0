"""What a merchant's platform is asked: a budget all workers share, and a circuit that opens when asking is in vain.

Neither guards money. They guard the platform's patience, and one merchant's payments from another's troubles.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from worker.database import Database, DatabaseUnavailable
from worker.gateways.gateway import CredentialsRefused, GatewayError, OutcomeUnknown, SlowDown, TryAgain
from worker.settings import Settings
from worker.traffic.budget import Budget, Lane
from worker.traffic.circuit import Circuits
from worker.traffic.trouble import Troubles

#: What waits for a circuit comes back spread over this, so that a platform that has just recovered is not run over.
SPREAD_SECONDS = 4.0

#: An operation asks no sooner than this whether a circuit has been closed.
LEAST_SECONDS = 1.0


@dataclass(frozen=True)
class Turn:
    """When requests may be made."""

    seconds: float  # from now; 0.0 is now
    why: str | None = None  # why not now, where that is more than others' being first


NOW = Turn(0.0)


@dataclass
class Asked:
    """What becomes known of requests while they are made."""

    more: int = 0  # than a turn was asked for; fewer when negative


class Traffic:
    """One process's view of it. Safe to use from any thread. Inside a transaction only what is as last learnt may be
    asked (`shut`, `may_be_tried`, `put_off`): all else may wait for a connection of its own.

    Args:
        database: where the workers share it.
        settings: the budget, and how long a circuit stays open.
    """

    def __init__(self, database: Database, settings: Settings):
        self._budget = Budget(database, settings.budget_per_second)
        self._circuits = Circuits(database, settings.circuit_seconds)
        self._troubles = Troubles()

    def turn(self, merchant_id: str, calls: int, *, for_operation: Callable[[], bool]) -> Turn:
        """When so many requests may be made. A later turn is kept: whoever waits for it need not ask again.

        Args:
            merchant_id: whose platform.
            calls: how many requests, as far as is known; none when their turn was taken before and has come.
            for_operation: whether they serve an operation, which goes first; asked only when it matters.
        """
        was_open = self._circuits.known(merchant_id) is not None
        shut = self._circuits.shut(merchant_id)
        if shut is not None:
            spread = random.uniform(0, SPREAD_SECONDS)  # noqa: S311 - spreads load, guards nothing
            return Turn(shut.seconds_for_many + spread, shut.why)
        if was_open or not calls:  # the one look that tries has no slot to wait for: meanwhile all others wait for it
            return NOW
        seconds = self._budget.reserve(merchant_id, Lane.LOOKS, calls)
        if seconds > 0 and for_operation():
            sooner = self._budget.reserve(merchant_id, Lane.OPERATIONS, calls, within=seconds)
            if sooner <= seconds:
                self._budget.settle(merchant_id, Lane.LOOKS, -calls)
                return Turn(sooner)
        return Turn(seconds)

    def operation_turn(self, merchant_id: str, *, within: float) -> Turn:
        """When a request that moves money may be made; by the circuit as last learnt.

        Args:
            merchant_id: whose platform.
            within: seconds; a later turn is nobody's: whoever did not wait for it would take it from all others.
        """
        return self.shut(merchant_id) or Turn(self._budget.reserve(merchant_id, Lane.OPERATIONS, 1, within=within))

    def put_off(self, merchant_id: str, *, within: float) -> Turn | None:
        """What an operation waits for without a claim, as last learnt; to be called inside a transaction too.

        Args:
            merchant_id: whose platform.
            within: seconds; None is returned for a turn that is no later.
        """
        shut = self.shut(merchant_id)
        if shut is not None:
            return shut
        seconds = self._budget.seconds_ahead(merchant_id, Lane.OPERATIONS)
        return Turn(seconds, "its budget of requests is used up") if seconds > within else None

    def refresh(self) -> None:
        """Learn of circuits that others have opened, for what is answered as last learnt."""
        self._circuits.refresh()

    def shut(self, merchant_id: str) -> Turn | None:
        """What an operation waits for, as last learnt, not asking the database: None when the circuit is closed.

        An open one is tried with looks only. An operation that is sent in vain would be in doubt for nothing.
        """
        shut = self._circuits.known(merchant_id)
        return None if shut is None else Turn(max(shut.seconds_for_few, LEAST_SECONDS), shut.why)

    def may_be_tried(self, merchant_id: str) -> bool:
        """Whether an open circuit waits for a look that tries it."""
        shut = self._circuits.known(merchant_id)
        return shut is not None and shut.seconds <= 0

    @contextmanager
    def asking(self, merchant_id: str, subject: int) -> Iterator[Asked]:
        """Ask within it: how the block ends says what came of the requests, as `made` is told.

        A fault of ours within it says nothing of the platform, so nothing is learnt of it.
        """
        asked = Asked()
        try:
            yield asked
        except GatewayError as error:
            self.made(merchant_id, subject, error, calls=asked.more)
            raise
        else:
            self.made(merchant_id, subject, None, calls=asked.more)

    def made(self, merchant_id: str, subject: int, error: GatewayError | None, *, calls: int = 0) -> None:
        """Say what came of requests.

        Args:
            merchant_id: whose platform.
            subject: the payment's key: a circuit opens for several payments that fail, never for one.
            error: why there was no usable answer, None when there was one.
            calls: how many more requests than a turn was asked for; fewer when negative.
        """
        if calls:
            self._budget.settle(merchant_id, Lane.LOOKS, calls)
        # What cannot be shared now is found out again: by the next request, here or in another process.
        with suppress(DatabaseUnavailable):
            if isinstance(error, SlowDown):
                self._budget.slow_down(merchant_id)
            if error is not None and _in_vain(error):
                self._circuits.failed(merchant_id, subject, error)
            else:
                self._troubles.answered(merchant_id, subject)
                self._circuits.answered(merchant_id)

    def own_trouble(self, merchant_id: str, subject: int, error: GatewayError) -> bool:
        """Whether a look without a usable answer is its payment's own trouble; to be asked once for each.

        Never so while the circuit is open, or the platform asks for fewer requests.

        Args:
            merchant_id: whose platform.
            subject: the payment's key.
            error: why there was no usable answer.
        """
        if isinstance(error, SlowDown) or self.shut(merchant_id) is not None:
            return False
        return self._troubles.failed(merchant_id, subject)


def _in_vain(error: GatewayError) -> bool:
    """Whether others would have fared no better. Not so after an answer, if only a no: the platform is there, and takes
    us for whom we are."""
    if isinstance(error, CredentialsRefused):
        return True
    unanswered = error.http_status is None or error.http_status >= 500
    return isinstance(error, TryAgain | OutcomeUnknown) and unanswered


__all__ = ["LEAST_SECONDS", "NOW", "SPREAD_SECONDS", "Traffic", "Turn"]
