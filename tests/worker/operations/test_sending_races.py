"""Two processes with the same operation: what one reads before it has the payment's lock may be over when it has."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from tests.servers.process_tree import wait_for
from tests.worker.conftest import FakePlatform
from tests.worker.till import Till
from worker.database import Database
from worker.lifecycle import MovementKind, OperationState
from worker.operations.ledger import open_ledger
from worker.operations.moves import move
from worker.sending import NOTHING
from worker.settings import Settings


def waits_for_a_row(database: Database) -> bool:
    """Whether anybody waits for a lock that another transaction holds."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with database.reading() as connection:
        return bool(connection.execute(text(waiting)).scalar_one())


@pytest.mark.parametrize(
    ("before", "after"),
    [(OperationState.REQUESTED, OperationState.REFUSED), (OperationState.PLANNED, OperationState.WITHDRAWN)],
)
def test_nothing_is_done_about_what_has_ended_while_its_payment_was_waited_for(
    postgres: Database, platform: FakePlatform, settings: Settings, before: OperationState, after: OperationState
) -> None:
    """A look refuses a request, a person takes a promise back, and a ring for it had come just before."""
    till = Till(postgres, platform, settings)
    key = till.ask(MovementKind.CAPTURE, 600)
    if before is OperationState.PLANNED:
        till.look()
    assert till.state(key) == before

    with ThreadPoolExecutor(1) as pool:
        with postgres.transaction() as connection:
            (operation,) = open_ledger(connection, till.payment().payment_key).operations
            step = pool.submit(till.step, key)
            assert wait_for(lambda: waits_for_a_row(postgres), 10)
            move(connection, operation, after, "meanwhile")
        follow = step.result(10)

    assert follow == NOTHING
    assert till.state(key) == after
    assert till.due_in(key) is None
    assert till.attempts(key) == []
