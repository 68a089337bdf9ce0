"""The sweep's thread, in every worker's main process: rings for what is due, again and again."""

import random
import threading

import structlog

from worker import metrics, rescue, upkeep
from worker.database import Database, DatabaseUnavailable
from worker.doorbell import EVENTS, OPERATIONS, PAYMENTS, UPKEEP, Doorbell
from worker.settings import Settings

log = structlog.get_logger("payhook.sweep")

# Asked for here: to ask for a label while another thread forks could leave its lock locked in the child.
_SWEEPS_DONE, _SWEEPS_FAILED = (metrics.SWEEPS.labels(outcome) for outcome in ("done", "failed"))
_SWEPT = {table: metrics.SWEEP_ROWS.labels(table) for table in ("events", "payments", "operations", "jobs")}


class Sweep(threading.Thread):
    """Sweeps until it is told to leave.

    Args:
        database: where.
        doorbell: what to ring.
        settings: how often, and how many rows at most.
    """

    def __init__(self, database: Database, doorbell: Doorbell, settings: Settings) -> None:
        super().__init__(name="sweep", daemon=True)
        self._database = database
        self._doorbell = doorbell
        self._settings = settings
        self._leaving = threading.Event()
        self._enrolled = False

    def run(self) -> None:
        pause = 0.0  # the first at once: what a killed worker left behind has waited long enough
        while not self._leaving.wait(pause):
            try:
                self.run_once()
            except DatabaseUnavailable as error:
                log.warning("sweep.waits", told=str(error))
                _SWEEPS_FAILED.inc()
            except Exception as error:
                log.error("sweep.failed", error=type(error).__name__)
                _SWEEPS_FAILED.inc()
            pause = self._settings.sweep_seconds * random.uniform(0.9, 1.1)  # noqa: S311 - spreads load

    def run_once(self) -> int:
        """Ring for what is due; how many rows.

        While rings do not get through, one row of each table is enough to find out when they do: moving more of them
        on would put their next rings off for nothing.
        """
        if not self._enrolled:
            with self._database.transaction() as connection:
                upkeep.enrol(connection)
            self._enrolled = True
        ring = self._doorbell.ring
        due = rescue.sweep(self._database, self._settings.sweep_limit if self._doorbell.state()["ok"] else 1)
        ring(PAYMENTS, due.payment_keys)
        ring(EVENTS, due.event_keys)
        ring(OPERATIONS, due.operation_keys)
        ring(OPERATIONS, due.operations_alone, alone=True)
        ring(PAYMENTS, due.payments_alone, alone=True)
        ring(EVENTS, due.events_alone, alone=True)
        ring(UPKEEP, due.job_keys)
        _count(due)
        if due:
            log.info("sweep.rang", rows=len(due))
        return len(due)

    def leave(self) -> None:
        """Sweep no more."""
        self._leaving.set()


def _count(due: rescue.Due) -> None:
    _SWEEPS_DONE.inc()
    _SWEPT["events"].inc(len(due.event_keys) + len(due.events_alone))
    _SWEPT["payments"].inc(len(due.payment_keys) + len(due.payments_alone))
    _SWEPT["operations"].inc(len(due.operation_keys) + len(due.operations_alone))
    _SWEPT["jobs"].inc(len(due.job_keys))
