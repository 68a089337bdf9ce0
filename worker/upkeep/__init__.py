"""Periodic jobs: each is a fact whose ``due_at`` has passed, done by whichever worker claims it first."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy import Connection, Row, null, update

from worker import metrics
from worker.database import DatabaseUnavailable, insert_into, now, seconds_from_now
from worker.logs import place_of
from worker.models import JOB_FACT, Fact
from worker.reports.standing import FAILED
from worker.upkeep import drift, retention, understanding, webhooks
from worker.upkeep.job import Done, Job, Tools

log = structlog.get_logger("payhook.upkeep")

#: Nobody else begins a job within this; one run of it takes a fraction.
LEASE_SECONDS = 300.0

#: A job that failed is tried again after this: what it has done so far is done, and nobody waits for the rest.
RETRY_SECONDS = 60.0


class Upkeep:
    """Does the jobs of one process.

    Args:
        tools: what they work with.
        jobs: by name.
    """

    def __init__(self, tools: Tools, jobs: Mapping[str, Job] | None = None):
        self._tools = tools
        self._jobs = JOBS if jobs is None else jobs

    def job(self, fact_key: int) -> Done | None:
        """Do a job that is due, unless somebody else is at it."""
        with self._tools.database.transaction() as connection:
            fact = _claimed(connection, fact_key, self._jobs)
        if fact is None:
            return None
        name = str(fact.name).removeprefix(JOB_FACT)
        state = dict(fact.value or {})
        failed = state.pop(FAILED, None)
        try:
            done = self._jobs[name](self._tools, state)
        except DatabaseUnavailable:  # no fault of the job's: whoever handed it over says so
            self._due_in(fact_key, RETRY_SECONDS)
            raise
        except Exception as error:  # its text may hold what the platform sent
            kind, where = type(error).__name__, place_of(error)
            metrics.JOBS.labels(name, "failed").inc()
            log.error("job.failed", job=name, error=kind, where=where)
            since = failed["since"] if failed else datetime.now(UTC).isoformat(timespec="seconds")
            told = {"since": since, "error": kind, "where": where}
            self._due_in(fact_key, RETRY_SECONDS, value={**state, FAILED: told})  # for the doctor, until a run succeeds
            return None
        self._due_in(fact_key, done.seconds, value=dict(done.state))
        metrics.JOBS.labels(name, "done").inc()
        log.info("job.done", job=name, next_in=round(done.seconds), **done.counts)
        return done

    def _due_in(self, fact_key: int, seconds: float, **values: Any) -> None:
        with self._tools.database.transaction() as connection:
            connection.execute(
                update(Fact).where(Fact.fact_key == fact_key).values(due_at=seconds_from_now(seconds), **values)
            )


def enrol(connection: Connection, jobs: Mapping[str, Job] | None = None) -> None:
    """Make sure that every job has its row; a new one is due at once."""
    rows = [{"name": f"{JOB_FACT}{name}", "due_at": now()} for name in (JOBS if jobs is None else jobs)]
    if rows:
        statement = insert_into(Fact, connection).values(rows)
        connection.execute(statement.on_conflict_do_nothing(index_elements=["name"]))


def _claimed(connection: Connection, fact_key: int, names: Collection[str]) -> Row[Any] | None:
    """The job for this process alone; one of another version is left to a process that knows it."""
    return connection.execute(
        update(Fact)
        .where(Fact.fact_key == fact_key, Fact.name.in_([f"{JOB_FACT}{name}" for name in names]))
        .where(Fact.due_at.is_not(null()), Fact.due_at <= seconds_from_now(LEASE_SECONDS / 2))
        .values(due_at=seconds_from_now(LEASE_SECONDS))
        .returning(Fact.name, Fact.value)
    ).one_or_none()


#: Every job there is.
JOBS: dict[str, Job] = {
    "drift": drift.run_once,
    "retention": retention.run_once,
    "understanding": understanding.run_once,
    "webhooks": webhooks.run_once,
}

__all__ = ["JOBS", "Done", "Job", "Tools", "Upkeep", "enrol"]
