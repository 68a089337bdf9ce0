"""Periodic jobs: whoever claims one that is due does it, once at a time; a dead or failing one is done again."""

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import insert, select, update
from structlog.testing import capture_logs

from tests.worker.conftest import Paper
from worker.database import Database, DatabaseUnavailable, now, seconds_from_now
from worker.models import Fact
from worker.reports.standing import standing
from worker.rescue import sweep
from worker.settings import Settings
from worker.traffic import Traffic
from worker.upkeep import JOBS, Done, Job, Tools, Upkeep, enrol


class House:
    """Processes that do jobs over one database."""

    def __init__(self, database: Database, settings: Settings, jobs: Mapping[str, Job]) -> None:
        self.database, self.jobs = database, jobs
        self.tools = Tools(database, {}, settings, Traffic(database, settings))
        with database.transaction() as connection:
            enrol(connection, jobs)

    def process(self) -> Upkeep:
        return Upkeep(self.tools, self.jobs)

    def fact(self, name: str) -> Any:
        with self.database.reading() as connection:
            return connection.execute(select(Fact.__table__).where(Fact.name == f"job:{name}")).one()

    def due_in(self, name: str) -> float:
        seconds = Paper(self.database).due_in(self.fact(name))
        assert seconds is not None
        return seconds

    def let_fall_due(self, name: str) -> None:
        with self.database.transaction() as connection:
            connection.execute(update(Fact).where(Fact.name == f"job:{name}").values(due_at=seconds_from_now(-1.0)))


def count_up(_: Tools, state: Mapping[str, Any]) -> Done:
    return Done(3600.0, {"runs": 1}, {"runs": state.get("runs", 0) + 1}, payment_keys=(7,))


def test_a_job_is_done_and_goes_on_where_it_was(database: Database, settings: Settings) -> None:
    """What a run leaves is given to the next, which is due when the run has said."""
    house = House(database, settings, {"count": count_up})
    key = house.fact("count").fact_key

    done = house.process().job(key)
    house.let_fall_due("count")
    house.process().job(key)

    assert done is not None
    assert done.payment_keys == (7,)
    assert house.fact("count").value == {"runs": 2}
    assert 3590 < house.due_in("count") <= 3600


def test_two_processes_do_a_due_job_once(database: Database, settings: Settings) -> None:
    """While one is at it, and afterwards, a doubled ring finds nothing to do."""
    begun, end, runs = threading.Event(), threading.Event(), []

    def slow(_: Tools, __: Mapping[str, Any]) -> Done:
        runs.append(1)
        begun.set()
        assert end.wait(20)
        return Done(3600.0)

    house = House(database, settings, {"slow": slow})
    key = house.fact("slow").fact_key

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(house.process().job, key)
        assert begun.wait(20)
        meanwhile = house.process().job(key)
        end.set()
        assert first.result(20) is not None
    afterwards = house.process().job(key)

    assert (meanwhile, afterwards, len(runs)) == (None, None, 1)


def test_two_processes_that_begin_at_once_do_a_job_once(database: Database, settings: Settings) -> None:
    """The claim is one conditional statement, whichever comes first."""
    together, runs = threading.Barrier(2), []

    def noted(_: Tools, __: Mapping[str, Any]) -> Done:
        runs.append(1)
        return Done(3600.0)

    house = House(database, settings, {"noted": noted})
    key = house.fact("noted").fact_key

    def do() -> Done | None:
        together.wait(20)
        return house.process().job(key)

    for _ in range(5):
        house.let_fall_due("noted")
        with ThreadPoolExecutor(2) as pool:
            done = [future.result(20) for future in [pool.submit(do), pool.submit(do)]]
        assert done.count(None) == 1

    assert len(runs) == 5


def test_a_job_whose_worker_died_is_done_again_after_its_lease(database: Database, settings: Settings) -> None:
    """Whoever dies in the midst of it writes nothing: the row falls due by itself, with what it was."""

    class Killed(BaseException):
        """As SIGKILL would end it: nothing of ours runs afterwards."""

    def dying(_: Tools, __: Mapping[str, Any]) -> Done:
        raise Killed

    house = House(database, settings, {"count": dying})
    key = house.fact("count").fact_key
    with pytest.raises(Killed):
        house.process().job(key)
    survivor = Upkeep(house.tools, {"count": count_up})

    at_once, lease = survivor.job(key), house.due_in("count")
    house.let_fall_due("count")
    rung = sweep(database, 10).job_keys
    after = survivor.job(key)

    assert at_once is None
    assert 290 < lease <= 300
    assert rung == [key]
    assert after is not None
    assert house.fact("count").value == {"runs": 1}


def test_a_job_that_raises_is_tried_again_and_stops_no_other(database: Database, settings: Settings) -> None:
    """It is due again after a minute, with what it had; the log says where, and nothing of the error's text."""

    def broken(_: Tools, state: Mapping[str, Any]) -> Done:
        if state.get("runs", 0) == 1:
            raise ValueError("4111111111111111")
        return count_up(_, state)

    house = House(database, settings, {"broken": broken, "count": count_up})
    key = house.fact("broken").fact_key
    house.process().job(key)
    house.let_fall_due("broken")

    with capture_logs() as logged:
        failed = house.process().job(key)
        other = house.process().job(house.fact("count").fact_key)

    assert failed is None
    assert other is not None
    kept = house.fact("broken").value
    assert (kept["runs"], kept["failed"]["error"]) == (1, "ValueError")
    assert 50 < house.due_in("broken") <= 60
    (fault,) = [line for line in logged if line["event"] == "job.failed"]
    assert (fault["job"], fault["error"], fault["log_level"]) == ("broken", "ValueError", "error")
    assert "test_upkeep.py:" in fault["where"]
    assert "4111" not in str(logged)


def test_that_a_job_fails_is_known_until_a_run_succeeds(database: Database, settings: Settings) -> None:
    """Since the first of its failures; the job itself hears nothing of it."""
    given: list[Mapping[str, Any]] = []

    def broken_at_first(_: Tools, state: Mapping[str, Any]) -> Done:
        given.append(dict(state))
        if len(given) in (2, 3):
            raise ValueError
        return count_up(_, state)

    house = House(database, settings, {"count": broken_at_first})
    key, known = house.fact("count").fact_key, []
    for _ in range(4):
        house.let_fall_due("count")
        house.process().job(key)
        with database.reading() as connection:
            known.append(standing(connection, notice_seconds=1.0).failing_jobs)

    assert [len(jobs) for jobs in known] == [0, 1, 1, 0]
    ((first,), (again,)) = known[1:3]
    assert (first.name, first.error, first.since) == ("count", "ValueError", again.since)
    assert given == [{}, {"runs": 1}, {"runs": 1}, {"runs": 1}]
    assert house.fact("count").value == {"runs": 2}


def test_a_job_without_a_database_is_put_back(database: Database, settings: Settings) -> None:
    """No fault of the job: the crew says so, as of any row, and it is due again after a minute."""

    def cut_off(_: Tools, __: Mapping[str, Any]) -> Done:
        raise DatabaseUnavailable("the database does not answer")

    house = House(database, settings, {"cut_off": cut_off})

    with capture_logs() as logged, pytest.raises(DatabaseUnavailable):
        house.process().job(house.fact("cut_off").fact_key)

    assert 50 < house.due_in("cut_off") <= 60
    assert logged == []


def test_a_job_of_another_version_is_left_alone(database: Database, settings: Settings) -> None:
    """A process that does not know it does not touch its row: one that does claims it at once."""
    house = House(database, settings, {"newer": count_up})
    before = house.fact("newer")

    older = Upkeep(house.tools, {}).job(before.fact_key)

    assert older is None
    assert house.fact("newer") == before
    assert house.process().job(before.fact_key) is not None


def test_a_ring_for_another_fact_does_nothing(database: Database, settings: Settings) -> None:
    """A forged key may name a circuit or a fingerprint: they are no jobs, due or not."""
    house = House(database, settings, {"count": count_up})
    with database.transaction() as connection:
        connection.execute(insert(Fact).values(name="circuit:count", value={"why": "x"}, due_at=now()))
        key = connection.execute(select(Fact.fact_key).where(Fact.name == "circuit:count")).scalar_one()

    assert house.process().job(key) is None
    assert house.process().job(key + 1000) is None


def test_enrolling_twice_changes_nothing(database: Database, settings: Settings) -> None:
    """Every worker enrols the jobs at its start: a row that is there keeps what it knows and when it is due."""
    house = House(database, settings, {"count": count_up})
    house.process().job(house.fact("count").fact_key)
    before = house.fact("count")

    with database.transaction() as connection:
        enrol(connection, {"count": count_up})

    assert house.fact("count") == before


def test_the_sweep_rings_for_jobs_that_are_due(database: Database, settings: Settings) -> None:
    """A new job at once, one that waits not; rung for, it is not rung for again within the minute."""
    house = House(database, settings, {"new": count_up, "waiting": count_up})
    waiting = house.fact("waiting").fact_key
    house.process().job(waiting)

    first, second = sweep(database, 10), sweep(database, 10)
    house.let_fall_due("waiting")
    third = sweep(database, 10)

    assert first.job_keys == [house.fact("new").fact_key]
    assert second.job_keys == []
    assert third.job_keys == [waiting]


def test_what_is_rung_for_can_be_claimed(database: Database, settings: Settings) -> None:
    """The sweep moves a job on when it rings: that must not keep it from whoever hears the ring."""
    house = House(database, settings, {"count": count_up})

    (rung,) = sweep(database, 10).job_keys

    assert house.process().job(rung) is not None


def test_every_worker_does_retention() -> None:
    """Its name is that of its row."""
    assert "retention" in JOBS
