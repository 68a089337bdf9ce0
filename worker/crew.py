"""A process's bounded pool of threads for platform calls, so that one slow call delays no other row."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog

from worker import metrics
from worker.database import DatabaseUnavailable
from worker.logs import place_of

log = structlog.get_logger("payhook.crew")

#: Rows taken over beyond those being worked on: enough to keep every thread busy between two messages.
WAITING_PER_THREAD = 2

#: A row that is to be alone keeps others out for so long at most until those in hand are done, and once more while it
#: is worked on: by then nearly every look has ended. One that hangs, there or beside it, must not stop all others.
ALONE_SECONDS = 5.0


class Crew:
    """Threads that each work on one row at a time.

    Args:
        threads: how many rows at a time.
    """

    def __init__(self, threads: int):
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="crew")
        self._places = threads * (1 + WAITING_PER_THREAD)
        self._change = threading.Condition()
        self._taken = 0
        self._closed_until = 0.0  # monotonic; for the sake of a row that is alone

    def submit(self, job: Callable[[int], None], key: int, *, alone: bool = False) -> None:
        """Hand a row over; waits while every place is taken, which is the back-pressure on the queue.

        Args:
            job: what to do with it.
            key: the row.
            alone: with nothing beside it, `ALONE_SECONDS` permitting. It may be what killed its last worker, and
                whatever dies beside it would be suspected next.
        """
        with self._change:
            self._make_room(alone=alone)
            self._taken += 1
        try:
            self._pool.submit(self._do, job, key, alone)
        except RuntimeError:  # leaving: the row stays due
            self._done(alone)

    def _make_room(self, *, alone: bool) -> None:
        if alone:
            self._closed_until = time.monotonic() + ALONE_SECONDS
            self._change.wait_for(lambda: self._taken == 0, ALONE_SECONDS)
            self._closed_until = time.monotonic() + ALONE_SECONDS
            return
        while (closed := self._closed_until - time.monotonic()) > 0 or self._taken >= self._places:
            self._change.wait(closed if closed > 0 else None)

    def drain(self, seconds: float) -> bool:
        """Wait for the rows in hand, so long at most; whether all were finished. What was not stays due."""
        with self._change:
            finished = self._change.wait_for(lambda: self._taken == 0, seconds)
        self._pool.shutdown(wait=False, cancel_futures=True)
        return finished

    def _do(self, job: Callable[[int], None], key: int, alone: bool) -> None:
        try:
            job(key)
        except DatabaseUnavailable as error:
            log.warning("row.put_back", key=key, told=str(error))
            metrics.ROWS_FAILED.labels("database").inc()
        except Exception as error:
            # The text of an exception may hold what the platform sent; the row is due again whatever it was.
            log.error("row.failed", key=key, error=type(error).__name__, where=place_of(error))
            metrics.ROWS_FAILED.labels("fault").inc()
        finally:
            self._done(alone)

    def _done(self, alone: bool) -> None:
        with self._change:
            self._taken -= 1
            if alone:
                self._closed_until = 0.0
            self._change.notify_all()
