"""The sweep's thread: what it rings for, and that nothing ends it."""

import threading

from tests.worker.conftest import Deliver, FakeDoorbell, Paper, settings_of
from worker.database import Database, DatabaseUnavailable
from worker.doorbell import EVENTS, PAYMENTS, UPKEEP
from worker.reconciliation import Reconciler
from worker.settings import Settings
from worker.sweep import Sweep
from worker.upkeep import JOBS


def test_a_sweep_rings_for_what_is_due(
    database: Database, reconciler: Reconciler, settings: Settings, deliver: Deliver, paper: Paper
) -> None:
    """Events and payments in messages of many, what may have killed its worker alone."""
    first, second = deliver("1111111111")[0], deliver("2222222222")[0]
    reconciler.event(deliver("3333333333")[0])
    polled = paper.payment("3333333333").payment_key
    with database.transaction() as connection:
        connection.exec_driver_sql(f"UPDATE webhook_events SET claims = 2 WHERE event_key = {second}")
    paper.pass_time()
    doorbell = FakeDoorbell()

    rows = Sweep(database, doorbell, settings).run_once()

    rung = [one for one in doorbell.now if one[0] != UPKEEP]
    jobs = [key for task, keys, _alone in doorbell.now if task == UPKEEP for key in keys]
    assert rows == 3 + len(jobs)
    assert len(jobs) == len(JOBS)  # of a new database: each is due at once
    assert sorted(rung) == [(EVENTS, [first], False), (EVENTS, [second], True), (PAYMENTS, [polled], False)]


def test_while_rings_do_not_get_through_one_row_is_enough_to_try(
    database: Database, settings: Settings, deliver: Deliver, paper: Paper
) -> None:
    """Of each table: more of them would have their next rings put off for nothing."""
    for payment_id in ("1111111111", "2222222222", "3333333333"):
        deliver(payment_id)
    paper.pass_time()
    doorbell = FakeDoorbell(ok=False)

    Sweep(database, doorbell, settings).run_once()

    assert [len(keys) for task, keys, _alone in doorbell.now if task == EVENTS] == [1]


def test_the_sweep_outlives_whatever_happens(database: Database) -> None:
    """A database that is away, or a fault of ours, costs a turn and never the thread; it leaves when told to."""
    turns, again = [], threading.Event()

    class Stumbling(Sweep):
        def run_once(self) -> int:
            turns.append(1)
            if len(turns) == 1:
                raise DatabaseUnavailable("no answer")
            if len(turns) == 2:
                raise RuntimeError("4111111111111111")
            again.set()
            return 0

    sweep = Stumbling(database, FakeDoorbell(), settings_of(sweep_seconds=0.01))
    sweep.start()

    assert again.wait(5)
    sweep.leave()
    sweep.join(5)
    assert not sweep.is_alive()
