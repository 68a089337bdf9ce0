"""A process's bounded pool of threads for platform calls, so that one slow call delays no other row."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog

from worker import metrics
from worker.database import DatabaseUnavailable
from worker.logs import place_of

log = structlog.get_logger("payhook.crew")

#: Rows taken over beyond those being worked on: enough to keep every thread busy between two messages.
WAITING_PER_THREAD = 2


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
        self._asking_alone = 0
        self._alone = False

    def submit(self, job: Callable[[int], None], key: int, *, alone: bool = False) -> None:
        """Hand a row over; waits while every place is taken, which is the back-pressure on the queue.

        Args:
            job: what to do with it.
            key: the row.
            alone: with nothing beside it. It may be what killed its last worker, and whatever dies beside it would be
                suspected next.
        """
        with self._change:
            self._asking_alone += alone
            if alone:
                self._change.wait_for(lambda: self._taken == 0)
            else:
                self._change.wait_for(lambda: not (self._alone or self._asking_alone) and self._taken < self._places)
            self._asking_alone -= alone
            self._alone = alone
            self._taken += 1
        try:
            self._pool.submit(self._do, job, key)
        except RuntimeError:  # leaving: the row stays due
            self._done()

    def drain(self, seconds: float) -> bool:
        """Wait for the rows in hand, so long at most; whether all were finished. What was not stays due."""
        with self._change:
            finished = self._change.wait_for(lambda: self._taken == 0, seconds)
        self._pool.shutdown(wait=False, cancel_futures=True)
        return finished

    def _do(self, job: Callable[[int], None], key: int) -> None:
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
            self._done()

    def _done(self) -> None:
        with self._change:
            self._taken -= 1
            self._alone = False
            self._change.notify_all()
