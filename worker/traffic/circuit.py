"""A merchant's circuit: open while its platform is away or refuses us, so that asking in vain stops, for all workers.

Open, it is a fact with ``due_at``, when the next single request may try. The first answer closes it.
"""

import random
import threading
import time
from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy import select, update

from worker.database import Database, DatabaseUnavailable, now, seconds_from_now
from worker.gateways.gateway import CredentialsRefused, GatewayError
from worker.models import CIRCUIT_FACT, Fact
from worker.traffic.facts import held, keep

log = structlog.get_logger("payhook.traffic")

#: So many payments in a row without an answer open it; one that always fails is that payment's trouble.
FAILING_PAYMENTS = 5
#: A refusal of who we are is of the merchant, hardly ever of a payment.
REFUSED_PAYMENTS = 2

#: What others have opened or closed is known here within this.
KNOWN_SECONDS = 1.0

#: The one request that tries may take this long, until another may.
TRIAL_SECONDS = 20.0

#: Whoever comes during a trial asks again after this: those that are few, and those that are many.
TRIAL_WAIT_SECONDS, MANY_WAIT_SECONDS = 1.0, 8.0


@dataclass(frozen=True)
class Shut:
    """An open circuit."""

    why: str
    until: float  # monotonic
    trying: bool = False  # somebody is

    @property
    def seconds(self) -> float:
        """Until it may be tried."""
        return max(self.until - time.monotonic(), 0.0)

    @property
    def seconds_for_many(self) -> float:
        """The same for looks: a trial may be over long before its time is, and may also take all of it."""
        return min(self.seconds, MANY_WAIT_SECONDS) if self.trying else self.seconds

    @property
    def seconds_for_few(self) -> float:
        """The same for operations, which go first once it is over."""
        return min(self.seconds, TRIAL_WAIT_SECONDS) if self.trying else self.seconds


class Circuits:
    """Every merchant's circuit, for one process.

    Args:
        database: where they are shared.
        seconds: how long one stays open at first, and at most.
    """

    def __init__(self, database: Database, seconds: tuple[float, float]):
        self._database = database
        self._shortest, self._longest = seconds
        self._failing: dict[str, set[int]] = {}
        self._shut: dict[str, Shut] = {}
        self._learnt_at = float("-inf")
        self._lock = threading.Lock()

    def shut(self, merchant_id: str) -> Shut | None:
        """Why the platform is not to be asked for this merchant, and for how long; None when it may be.

        Once the time has come, one caller of all processes is let through, to try.
        """
        self.refresh()
        known = self._shut.get(merchant_id)
        if known is None:
            return None
        if known.seconds > 0:
            return known
        try:
            if self._begin_trial(merchant_id):
                return None
        except DatabaseUnavailable:
            return None  # what is seen cannot be written down either, and is soon tried again
        self.refresh(anyway=True)
        return Shut(known.why, time.monotonic() + TRIAL_WAIT_SECONDS) if merchant_id in self._shut else None

    def known(self, merchant_id: str) -> Shut | None:
        """The circuit as last learnt, while it is open: nothing is asked of the database, and nobody is let through."""
        return self._shut.get(merchant_id)

    def refresh(self, *, anyway: bool = False) -> None:
        """Learn what others have opened and closed, if that was not done just now."""
        with self._lock:
            if not anyway and time.monotonic() - self._learnt_at < KNOWN_SECONDS:
                return
            self._learnt_at = time.monotonic()
        try:
            with self._database.reading() as connection:
                rows = connection.execute(_OPEN).all()
        except DatabaseUnavailable:
            return
        self._shut = {
            row.name.removeprefix(CIRCUIT_FACT): Shut(
                row.value["why"], _monotonic(row.at, row.due_at), row.value["trying"]
            )
            for row in rows
        }

    def failed(self, merchant_id: str, subject: int, error: GatewayError) -> None:
        """A request had no answer, or one that refuses us."""
        with self._lock:
            failing = self._failing.setdefault(merchant_id, set())
            failing.add(subject)
            enough = REFUSED_PAYMENTS if isinstance(error, CredentialsRefused) else FAILING_PAYMENTS
            opens = len(failing) >= enough
            if not opens and merchant_id not in self._shut:
                return
            failing.clear()
        self._open(merchant_id, error.told, again_only=not opens)

    def answered(self, merchant_id: str) -> None:
        """A request had an answer: the circuit closes, whoever opened it."""
        with self._lock:
            self._failing.pop(merchant_id, None)
            if self._shut.pop(merchant_id, None) is None:
                return
        with self._database.transaction() as connection:
            closed = connection.execute(
                update(Fact)
                .where(Fact.name == f"{CIRCUIT_FACT}{merchant_id}", Fact.due_at.is_not(None))
                .values(due_at=None)
            )
        if closed.rowcount:
            log.warning("circuit.closed", merchant_id=merchant_id)

    def _open(self, merchant_id: str, why: str, *, again_only: bool) -> None:
        """Open it, or after a trial in vain leave it open for twice as long; said once, when it opens."""
        name = f"{CIRCUIT_FACT}{merchant_id}"
        with self._database.transaction() as connection:
            fact = held(connection, name)
            was_open, value = fact.due_at is not None, fact.value
            if was_open and not value["trying"]:
                return  # a request that was under way when it opened
            if again_only and not was_open:
                return  # others have closed it meanwhile
            wait = min(value["wait"] * 2, self._longest) if was_open else self._shortest
            since = value["since"] if was_open else fact.at.isoformat()
            later = seconds_from_now(wait * random.uniform(0.8, 1.0))  # noqa: S311 - spreads load
            keep(
                connection,
                name,
                value={"why": why, "since": since, "wait": wait, "trying": False},
                due_at=later,
            )
        if not was_open:
            log.error("circuit.opened", merchant_id=merchant_id, told=why)
        self.refresh(anyway=True)

    def _begin_trial(self, merchant_id: str) -> bool:
        name = f"{CIRCUIT_FACT}{merchant_id}"
        with self._database.transaction() as connection:
            fact = held(connection, name)
            if fact.due_at is None:
                return True
            if fact.due_at > fact.at:
                return False
            keep(connection, name, value={**fact.value, "trying": True}, due_at=seconds_from_now(TRIAL_SECONDS))
        return True


def _monotonic(at: datetime, then: datetime) -> float:
    return time.monotonic() + (then - at).total_seconds()


_OPEN = select(Fact.name, Fact.value, Fact.due_at, now().label("at")).where(
    Fact.name.startswith(CIRCUIT_FACT), Fact.due_at.is_not(None)
)
