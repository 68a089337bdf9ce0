"""Rings for row keys: gathered over a few milliseconds, off the caller's thread, bounded, and rebuilt after a fork.

A ring that cannot be delivered is dropped, never waited for: the sweep rings again for every row that is due.
"""

import contextlib
import heapq
import os
import threading
import time
from collections.abc import Iterable
from typing import Any

import structlog
from celery import Celery

from worker import metrics
from worker.celery_app import publishing_connection

log = structlog.get_logger("payhook.doorbell")

EVENTS = "payhook.events"
PAYMENTS = "payhook.payments"
OPERATIONS = "payhook.operations"
UPKEEP = "payhook.upkeep"

#: How long keys are gathered: one message of fifty costs a fiftieth of fifty messages.
GATHER_SECONDS = 0.005
MOST_KEYS = 50

#: Rings waiting to be sent, or for their time; more are dropped, for memory stays bounded and the sweep has them.
MOST_WAITING = 10_000

#: After a failed send, so long nothing is tried: each try may hold the thread for seconds.
BACK_OFF_SECONDS = 1.0


class Doorbell:
    """Rings through Celery. Safe to call from any thread; no call of it ever waits for the broker.

    Args:
        app: the Celery app whose broker carries the rings.
    """

    def __init__(self, app: Celery):
        self._app = app
        self.dropped = 0
        self._delivering = True
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def ring(self, task: str, keys: Iterable[int], *, alone: bool = False) -> None:
        """Have a task look at these rows soon.

        Args:
            task: `EVENTS`, `PAYMENTS`, `OPERATIONS` or `UPKEEP`.
            keys: the rows.
            alone: each key in a message of its own, and worked on with nothing beside it.
        """
        with self._change:
            for key in keys:
                if len(self._now) >= MOST_WAITING:
                    self._drop(1)
                    continue
                self._now[task, key] = alone or self._now.get((task, key), False)
            self._wake()

    def ring_later(self, task: str, key: int, seconds: float) -> None:
        """The same in so many seconds; of two rings for a row the earlier stays."""
        at = time.monotonic() + seconds
        with self._change:
            if len(self._later) >= MOST_WAITING:
                self._drop(1)
                return
            if at < self._times.get((task, key), float("inf")):
                self._times[task, key] = at
                heapq.heappush(self._later, (at, task, key))
            self._wake()

    def state(self) -> dict[str, Any]:
        """How ringing goes, for readiness: no ring is ever waited for, so the last one tells."""
        return {"ok": self._delivering, "dropped": self.dropped, "waiting": len(self._now)}

    def flush(self, seconds: float) -> bool:
        """Wait until what is to be rung now has left, for so long at most; whether it has."""
        deadline = time.monotonic() + seconds
        with self._change:
            while (self._now or self._sending) and time.monotonic() < deadline:
                self._change.wait(0.05)
            return not (self._now or self._sending)

    def _drop(self, rings: int) -> None:
        self.dropped += rings
        _DROPPED.inc(rings)

    def _reset(self) -> None:
        # Called in a forked child too: thread, connection and waiting rings are the parent's.
        self._change = threading.Condition()
        self._now: dict[tuple[str, int], bool] = {}
        self._later: list[tuple[float, str, int]] = []
        self._times: dict[tuple[str, int], float] = {}
        self._sending = False
        self._thread: threading.Thread | None = None

    def _wake(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            thread = threading.Thread(target=self._run, name="doorbell", daemon=True)
            with contextlib.suppress(RuntimeError):  # no room for a thread: the next ring tries, or the sweep rings
                thread.start()
                self._thread = thread
        self._change.notify_all()

    def _run(self) -> None:
        sender = _Sender(self._app)
        while True:
            self._wait()
            time.sleep(GATHER_SECONDS)
            with self._change:
                batch, self._now = self._now, {}
                self._sending = True
            delivered = sender.send(batch)
            with self._change:
                self._sending, self._delivering = False, delivered
                (_SENT if delivered else _FAILED).inc(len(batch))
                if not delivered:
                    self.dropped += len(batch)
                    self._drop(len(self._now))
                    self._now.clear()
                self._change.notify_all()
            if not delivered:
                time.sleep(BACK_OFF_SECONDS)

    def _wait(self) -> None:
        """Until there is something to ring for now."""
        with self._change:
            while True:
                while self._later and self._later[0][0] <= time.monotonic():
                    at, task, key = heapq.heappop(self._later)
                    if self._times.get((task, key)) == at:
                        del self._times[task, key]
                        self._now.setdefault((task, key), False)
                if self._now:
                    return
                self._change.wait(max(0.0, self._later[0][0] - time.monotonic()) if self._later else None)


# Asked for here: to ask for a label while another thread forks could leave its lock locked in the child.
_SENT, _FAILED, _DROPPED = (metrics.RINGS.labels(outcome) for outcome in ("sent", "failed", "dropped"))


class _Sender:
    """Messages over one connection, opened anew after any failure."""

    def __init__(self, app: Celery):
        self._app = app
        self._connection: Any = None
        self._producer: Any = None

    def send(self, batch: dict[tuple[str, int], bool]) -> bool:
        """Send a batch, as few messages as may be; whether the broker has them all."""
        try:
            for task, keys, alone in _messages(batch):
                keyed: dict[str, Any] = {_KEYS[task]: keys, **({"alone": True} if alone else {})}
                # Nobody reads a ring's result: with a result backend each would leave one behind.
                self._app.send_task(task, kwargs=keyed, producer=self._open(), retry=False, ignore_result=True)
        except Exception as error:  # kombu, the drivers and the sockets each raise their own
            log.warning("ring.failed", error=type(error).__name__, rows=len(batch))
            self._close()
            return False
        return True

    def _open(self) -> Any:
        if self._producer is None:
            self._connection = publishing_connection(self._app)
            self._producer = self._app.amqp.Producer(self._connection)
        return self._producer

    def _close(self) -> None:
        connection, self._connection, self._producer = self._connection, None, None
        with contextlib.suppress(Exception):  # whatever is wrong with it: it is not used again
            if connection is not None:
                connection.release()  # its time-outs bound the goodbye


#: What each task calls its keys.
_KEYS = {EVENTS: "event_keys", PAYMENTS: "payment_keys", OPERATIONS: "operation_keys", UPKEEP: "fact_keys"}


def _messages(batch: dict[tuple[str, int], bool]) -> list[tuple[str, list[int], bool]]:
    messages: list[tuple[str, list[int], bool]] = []
    together: dict[str, list[int]] = {}
    for (task, key), alone in batch.items():
        if alone:
            messages.append((task, [key], True))
        else:
            together.setdefault(task, []).append(key)
    for task, keys in together.items():
        messages += [(task, keys[start : start + MOST_KEYS], False) for start in range(0, len(keys), MOST_KEYS)]
    return messages
