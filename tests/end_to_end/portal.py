"""A person at the platform's portal, who moves money at random moments and tells nobody."""

import heapq
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Literal

from sandbox import SandboxClient

Click = Literal["capture", "capture, refused", "refund", "refund a part", "cancel"]

#: From a click to its outcome: long enough to be seen under way.
SETTLE_SECONDS = 1.5

#: The outcome of a capture that the acquirer refuses comes earlier.
REFUSED_AFTER_SECONDS = 1.0

#: Of the ten euros that a payment has.
PART = 400


@dataclass(frozen=True)
class Done:
    """A click and when its outcome was there, by the wall clock."""

    payment_id: str
    click: Click
    at: float


class Portal:
    """Clicks at random moments.

    Args:
        sandbox: the platform.
        chance: what the moments are drawn from.
    """

    def __init__(self, sandbox: SandboxClient, chance: Random):
        self._sandbox = sandbox
        self._chance = chance
        sandbox.settings(settle_seconds=SETTLE_SECONDS)

    def click(self, clicks: Sequence[tuple[str, Click]], seconds: float) -> list[Done]:
        """Make each of these within so many seconds; returns when the last outcome is there."""
        order, began, done = count(), time.monotonic(), []
        todo = [(self._chance.uniform(0, seconds), next(order), payment_id, click) for payment_id, click in clicks]
        refusals: dict[int, str] = {}
        heapq.heapify(todo)
        while todo:
            at, number, payment_id, click = heapq.heappop(todo)
            time.sleep(max(0.0, began + at - time.monotonic()))
            if number in refusals:
                self._sandbox.settle(refusals[number], "refused")
                done.append(Done(payment_id, click, time.time()))
                continue
            operation_id = self._once(payment_id, click)
            if click == "capture, refused":
                number = next(order)
                refusals[number] = operation_id
                heapq.heappush(todo, (at + REFUSED_AFTER_SECONDS, number, payment_id, click))
            else:
                done.append(Done(payment_id, click, time.time() + SETTLE_SECONDS))
        self._sandbox.wait_until_delivered()
        return done

    def _once(self, payment_id: str, click: Click) -> str:
        if click == "cancel":
            return self._sandbox.cancel(payment_id)
        if click == "refund":
            return self._sandbox.refund(payment_id)
        if click == "refund a part":
            return self._sandbox.refund(payment_id, PART)
        return self._sandbox.capture(payment_id)
