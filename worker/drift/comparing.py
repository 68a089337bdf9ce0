"""Compare payments with the platform: several at a time, within the budget, and nothing told that is not so twice.

The platform's replicas may lag behind, and a payment may move while it is compared. So a difference counts when two
looks some seconds apart have found the same one, and our record of the payment stood still from before the first.
"""

import enum
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any

import structlog
from sqlalchemy import Row

from worker.database import Database
from worker.drift.differences import Difference, differences
from worker.drift.record import read
from worker.gateways.gateway import Gateway, GatewayError, PaymentView, Refused, TryAgain
from worker.inbox import NOT_OURS
from worker.logs import place_of
from worker.reconciliation import turns
from worker.settings import Settings
from worker.traffic import Traffic

log = structlog.get_logger("payhook.drift")

#: A payment that differs, or cannot be looked at, is looked at so often at most, with so many seconds between: the
#: platform's replicas catch up meanwhile.
MOST_LOOKS = 3
LAG_SECONDS = 2.0


class Verdict(enum.StrEnum):
    """What came of comparing a payment."""

    EQUAL = "equal"
    DIFFERENT = "different"
    IN_MOTION = "in motion"  # it differs, and is being brought in line, or moves
    FAILED = "failed"  # the platform gave no usable answer
    NOT_ASKED = "not asked"  # the merchant's circuit is open


@dataclass(frozen=True)
class Compared:
    """A payment that was compared, or could not be."""

    payment: Row[Any]  # our record of it, before the last look
    verdict: Verdict
    differences: tuple[Difference, ...] = ()
    why: str | None = None  # why it could not be compared


@dataclass(frozen=True)
class _Next:
    """A payment to be looked at, for the first time or once more."""

    payment_key: int
    at: float = 0.0  # monotonic; not before
    looks: int = 0  # so far
    failures: int = 0  # looks that gave no answer
    suspected: tuple[Difference, ...] = ()  # what the last look found, if the record stood still then
    since: Any = None  # the record's ``refreshed_at`` and ``wanted`` at that look


class Comparer:
    """Compares payments for one process.

    Args:
        database: our record; read only.
        gateways: the platform, by merchant.
        settings: how long a look may take.
        traffic: each look waits for its turn, behind operations.
        threads: how many looks at a time.
    """

    def __init__(
        self,
        database: Database,
        gateways: Mapping[str, Gateway],
        settings: Settings,
        traffic: Traffic,
        *,
        threads: int = 1,
    ):
        self._database = database
        self._gateways = gateways
        self._settings = settings
        self._traffic = traffic
        self._threads = threads
        self.shut: dict[str, str] = {}  # merchants that are not asked any more: their circuit was open, and why
        self._leaving = threading.Event()

    @property
    def is_over(self) -> bool:
        """Whether no merchant's platform is to be asked any more."""
        return self.shut.keys() >= self._gateways.keys()

    def compare(self, payment_keys: Iterable[int]) -> Generator[Compared]:
        """Compare payments; each is told as soon as it is clear. One whose row is gone is not told of.

        To end it early, close the generator: looks under way are waited for, no other begins.

        Raises:
            DatabaseUnavailable: our record cannot be read.
        """
        fresh = map(_Next, payment_keys)
        again: deque[_Next] = deque()  # the time between looks is the same for all: who came first is due first
        under_way: set[Future[Compared | _Next | None]] = set()
        self._leaving.clear()
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="drift")
        try:
            while True:
                while len(under_way) < self._threads and (one := _due(again) or next(fresh, None)) is not None:
                    under_way.add(pool.submit(self._compare, one))
                if not under_way and not again:
                    return
                done, under_way = self._wait(under_way, again)
                for future in done:
                    came = future.result()
                    if isinstance(came, _Next):
                        again.append(came)
                    elif came is not None:
                        yield came
        finally:
            self._leaving.set()
            pool.shutdown(cancel_futures=True)

    def _wait(self, under_way: set[Future[Any]], again: deque[_Next]) -> tuple[set[Future[Any]], set[Future[Any]]]:
        """Until a look has ended, or one is to be made again and there is a thread for it."""
        idle = bool(again) and len(under_way) < self._threads
        seconds = max(again[0].at - time.monotonic(), 0.0) if idle else None
        if not under_way:
            time.sleep(seconds or 0.0)
            return set(), under_way
        done, left = wait(under_way, seconds, FIRST_COMPLETED)
        return done, left

    def _compare(self, one: _Next) -> Compared | _Next | None:
        with self._database.reading() as connection:
            ours = read(connection, one.payment_key)
        if ours is None:
            return None
        try:
            view = self._look(ours.payment)
        except _Shut as shut:
            return Compared(ours.payment, Verdict.NOT_ASKED, why=shut.why)
        except GatewayError as error:
            if isinstance(error, TryAgain) and one.failures + 1 < MOST_LOOKS:
                return replace(one, at=time.monotonic() + LAG_SECONDS, failures=one.failures + 1)
            return Compared(ours.payment, Verdict.FAILED, why=error.told)
        found = differences(ours.payment, ours.movements, view)
        if not found:
            return Compared(ours.payment, Verdict.EQUAL)
        with self._database.reading() as connection:
            still = ours.stands_still(read(connection, one.payment_key))
        since = (ours.payment.refreshed_at, ours.payment.wanted)
        if still and found == one.suspected and since == one.since:
            return Compared(ours.payment, Verdict.DIFFERENT, found)
        if one.looks + 1 == MOST_LOOKS:
            return Compared(ours.payment, Verdict.IN_MOTION, found)
        again = replace(one, at=time.monotonic() + LAG_SECONDS, looks=one.looks + 1)
        return replace(again, suspected=found if still else (), since=since)

    def _look(self, payment: Row[Any]) -> PaymentView:
        gateway = self._gateways.get(payment.merchant_id)
        if gateway is None:
            raise Refused(NOT_OURS)
        calls = turns.calls_of(payment)
        self._wait_for_turn(payment.merchant_id, calls)
        try:
            with self._traffic.asking(payment.merchant_id, payment.payment_key) as asked:
                view = gateway.look(payment.payment_id, seconds=self._settings.claim_seconds)
                asked.more = view.calls - calls
            return view
        except GatewayError:
            raise
        except Exception as fault:  # ours: it must cost this payment's comparison, not all others'
            log.error("look.broke", payment_key=payment.payment_key, error=type(fault).__name__, where=place_of(fault))
            raise Refused(f"a fault of payhook: {type(fault).__name__}") from None

    def _wait_for_turn(self, merchant_id: str, calls: int) -> None:
        if merchant_id in self.shut:
            raise _Shut(self.shut[merchant_id])
        turn = self._traffic.turn(merchant_id, calls, for_operation=lambda: False)
        if turn.why is not None:
            self.shut[merchant_id] = turn.why
            raise _Shut(turn.why)
        if self._leaving.wait(turn.seconds):
            raise _Shut("the comparison was ended")


def counted(verdicts: Mapping[str, int]) -> dict[str, int]:
    """What many comparisons come to.

    Args:
        verdicts: how many of each there were.
    """
    different, in_motion = verdicts.get(Verdict.DIFFERENT, 0), verdicts.get(Verdict.IN_MOTION, 0)
    return {
        "compared": verdicts.get(Verdict.EQUAL, 0) + different + in_motion,
        "different": different,
        "in_motion": in_motion,
        "failed": verdicts.get(Verdict.FAILED, 0) + verdicts.get(Verdict.NOT_ASKED, 0),
    }


class _Shut(Exception):
    """The platform is not to be asked."""

    def __init__(self, why: str):
        super().__init__(why)
        self.why = why


def _due(again: deque[_Next]) -> _Next | None:
    return again.popleft() if again and again[0].at <= time.monotonic() else None
