"""Things to be done at their time: a heap of due times that threads wait on."""

import heapq
import itertools
import threading
import time
from typing import Generic, TypeVar

T = TypeVar("T")


class DueQueue(Generic[T]):
    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._order = itertools.count()  # equal times leave in the order they came
        self._changed = threading.Condition()
        self._in_hand = 0
        self._held = False
        self._closed = False

    def put(self, item: T, after_seconds: float) -> None:
        with self._changed:
            heapq.heappush(self._heap, (time.monotonic() + after_seconds, next(self._order), item))
            self._changed.notify()

    def take(self) -> T | None:
        """Wait for the next due item; None when the queue has been closed. Say ``done`` after each."""
        with self._changed:
            while not self._closed:
                wait = self._seconds_to_next()
                if wait is not None and wait <= 0:
                    self._in_hand += 1
                    return heapq.heappop(self._heap)[2]
                self._changed.wait(wait)
            return None

    def _seconds_to_next(self) -> float | None:
        if self._held or not self._heap:
            return None
        return self._heap[0][0] - time.monotonic()

    def done(self) -> None:
        with self._changed:
            self._in_hand -= 1

    def hold(self, held: bool) -> None:
        with self._changed:
            self._held = held
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def waiting(self) -> list[tuple[float, T]]:
        """What is not yet in hand, each with the seconds until its time."""
        with self._changed:
            return [(max(0.0, due - time.monotonic()), item) for due, _, item in sorted(self._heap)]

    def clear(self) -> None:
        with self._changed:
            self._heap.clear()

    @property
    def unfinished(self) -> int:
        """Waiting and in hand: zero means that nothing more will come of what was put in."""
        with self._changed:
            return len(self._heap) + self._in_hand
