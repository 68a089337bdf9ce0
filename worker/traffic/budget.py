"""How many requests a merchant's platform gets: timelines of slots in the database, which every worker takes from.

A slot is a moment for one request. The next free one is kept in a fact; whoever takes some moves it on. A process takes
a block of slots at a time, so the fact is written a few times a second and not for each request.
"""

import enum
import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy import Connection, select

from worker.database import Database, DatabaseUnavailable, now
from worker.models import BUDGET_FACT, Fact
from worker.traffic.facts import held, keep

log = structlog.get_logger("payhook.traffic")

#: Slots that nobody used are lost after this: so much of a burst is let through at once.
BURST_SECONDS = 2.0

#: A busy process takes slots for about so long at once; an idle one takes what it needs, lest many of them hold what
#: nobody uses.
BLOCK_SECONDS = 0.25

#: Each 429 halves the budget down to this share, and each minute without one doubles it again.
LEAST_SHARE = 1 / 64
DOUBLING_SECONDS = 60.0

#: Requests that were under way together are refused together: they count as one answer.
SLOWED_ONCE_SECONDS = 2.0

#: A merchant whose next look is further ahead than this has enough to do.
BEHIND_SECONDS = 5.0


class Lane(enum.StrEnum):
    """Operations have a lane of their own: they never wait behind looks, and together they keep the budget."""

    LOOKS = "looks"
    OPERATIONS = "operations"


SHARES = {Lane.LOOKS: 0.8, Lane.OPERATIONS: 0.2}


@dataclass
class _Block:
    """The slots a process holds of a lane, by its monotonic clock."""

    next: float = 0.0
    end: float = 0.0
    interval: float = 0.0
    size: int = 1
    taken_at: float = float("-inf")
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_used_up(self) -> bool:
        """Whether it has no slot left. Its last may be that of several requests: they are made up for in the next
        block, and nothing that was given back is lost."""
        return not self.interval or self.next + self.interval / 2 > self.end


class Budget:
    """The slots of every merchant, for one process.

    Args:
        database: where they are shared.
        per_second: how many there are for each merchant.
    """

    def __init__(self, database: Database, per_second: float):
        self._database = database
        self._per_second = per_second
        self._blocks: dict[tuple[str, Lane], _Block] = {}
        self._making = threading.Lock()

    def reserve(self, merchant_id: str, lane: Lane, calls: int, *, within: float = math.inf) -> float:
        """Take slots; the seconds until the first of them. If that is later than ``within``, none is taken.

        With the database away there is nothing to share and little to do: the requests may be made at once.
        """
        block = self._block(merchant_id, lane)
        with block.lock:
            oldest = time.monotonic() - BURST_SECONDS
            if block.next < oldest:  # unused slots are lost, and what was overdrawn so long ago has been made up for
                block.next, block.end = oldest, max(block.end, oldest)
            try:
                if block.is_used_up:
                    self._take(block, merchant_id, lane, calls)
            except DatabaseUnavailable:
                return 0.0
            seconds = max(block.next - time.monotonic(), 0.0)
            if seconds <= within:
                block.next += calls * block.interval
        return seconds

    def seconds_ahead(self, merchant_id: str, lane: Lane) -> float:
        """How long it is until the next slot that this process holds, 0.0 if it holds none; nobody else is asked.

        To be called inside a transaction too.
        """
        # Without the lock: whoever holds it may wait for the very database that the caller's transaction has locked.
        block = self._block(merchant_id, lane)
        return 0.0 if block.is_used_up else max(block.next - time.monotonic(), 0.0)

    def settle(self, merchant_id: str, lane: Lane, calls: int) -> None:
        """Take so many slots more, or give some back: what was needed is known only afterwards."""
        block = self._block(merchant_id, lane)
        with block.lock:
            block.next += calls * block.interval

    def slow_down(self, merchant_id: str) -> None:
        """The platform asks for fewer requests."""
        with self._database.transaction() as connection:
            fact = held(connection, f"{BUDGET_FACT}{merchant_id}")
            at, value = fact.at.timestamp(), dict(fact.value or {})
            if at - (value.get("slowed_at") or 0.0) < SLOWED_ONCE_SECONDS:
                return
            value.update(factor=max(share_left(value, at) / 2, LEAST_SHARE), slowed_at=at)
            keep(connection, f"{BUDGET_FACT}{merchant_id}", value=value)
        log.warning("budget.halved", merchant_id=merchant_id, share=round(value["factor"], 3))
        for lane in Lane:
            block = self._block(merchant_id, lane)
            with block.lock:
                block.end = block.next  # what is held was taken at the old pace

    def _block(self, merchant_id: str, lane: Lane) -> _Block:
        with self._making:
            return self._blocks.setdefault((merchant_id, lane), _Block())

    def _take(self, block: _Block, merchant_id: str, lane: Lane, calls: int) -> None:
        with self._database.transaction() as connection:
            fact = held(connection, f"{BUDGET_FACT}{merchant_id}")
            at, value = fact.at.timestamp(), dict(fact.value or {})
            interval = 1 / (self._per_second * SHARES[lane] * share_left(value, at))
            overdrawn = max(block.next - block.end, 0.0)
            length = max(calls, _size(block, interval)) * interval + overdrawn
            start = max(value.get(lane, 0.0), at - BURST_SECONDS)
            value[lane] = start + length
            keep(connection, f"{BUDGET_FACT}{merchant_id}", value=value)
        begins = time.monotonic() + (start - at)
        block.next, block.end, block.interval = begins + overdrawn, begins + length, interval
        block.taken_at = time.monotonic()


def _size(block: _Block, interval: float) -> int:
    """How many slots to take: twice as many as last time while blocks do not last, half as many when they last."""
    lasted = time.monotonic() - block.taken_at
    most = math.ceil(BLOCK_SECONDS / interval)
    block.size = min(block.size * 2, most) if lasted < BLOCK_SECONDS else max(block.size // 2, 1)
    return block.size


def share_left(value: Mapping[str, Any], at: float) -> float:
    """How much of a budget is left, so long after the last 429; 1.0 is all of it.

    Args:
        value: the budget's fact.
        at: now, in seconds since 1970.
    """
    if not value.get("slowed_at"):
        return 1.0
    doublings = min((at - value["slowed_at"]) / DOUBLING_SECONDS, 64.0)
    return min(float(value["factor"] * 2.0**doublings), 1.0)


def merchants_behind(connection: Connection) -> list[str]:
    """Those whose looks wait for their turns already."""
    budgets = connection.execute(
        select(Fact.name, Fact.value, now().label("at")).where(Fact.name.startswith(BUDGET_FACT))
    )
    return [
        row.name.removeprefix(BUDGET_FACT)
        for row in budgets
        if row.value.get(Lane.LOOKS, 0.0) > row.at.timestamp() + BEHIND_SECONDS
    ]
