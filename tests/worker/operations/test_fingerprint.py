"""Which platform a database belongs to: a copy of production, started elsewhere, moves no money."""

from typing import Any

import pytest
from sqlalchemy import select

from tests.worker.conftest import MERCHANT, FakePlatform
from tests.worker.till import Till
from worker.database import Database
from worker.lifecycle import MovementKind
from worker.models import Fact, JournalEntry
from worker.operations.fingerprint import FACT, adopt, stranger

ACME = {"acme": "payment.test"}
BOTH = {"acme": "payment.test", "other": "payment.test"}


def asked(database: Database, hosts: dict[str, str]) -> str | None:
    with database.transaction() as connection:
        return stranger(connection, hosts)


def known(database: Database) -> Any:
    with database.reading() as connection:
        return connection.execute(select(Fact.value).where(Fact.name == FACT)).scalar_one()["hosts"]


def test_the_first_process_leaves_its_fingerprint(database: Database) -> None:
    """And every process like it may move money."""
    assert [asked(database, ACME), asked(database, ACME)] == [None, None]
    assert known(database) == ACME


def test_a_merchant_more_is_taken_up(database: Database) -> None:
    """It is said in the journal."""
    asked(database, ACME)

    assert asked(database, BOTH) is None

    with database.reading() as connection:
        (why,) = connection.execute(select(JournalEntry.why)).scalars()
    assert known(database) == BOTH
    assert why.startswith("merchants added: other")


@pytest.mark.parametrize(
    "hosts", [{"acme": "elsewhere.test"}, {"other": "payment.test"}, {**BOTH, "acme": "elsewhere.test"}, {}]
)
def test_another_host_or_a_merchant_less_is_another_installation(database: Database, hosts: dict[str, str]) -> None:
    """It is told whose the database is, and what it can do; nothing is taken up."""
    asked(database, ACME)

    why = asked(database, hosts)

    assert why is not None
    assert "acme at payment.test" in why
    assert "payhook operations adopt" in why
    assert known(database) == ACME


def test_a_person_may_have_a_database_adopted(database: Database) -> None:
    """From then on it belongs to the new settings, and no longer to the old."""
    asked(database, ACME)

    with database.transaction() as connection:
        adopt(connection, {"acme": "elsewhere.test"}, why="moved", actor="anna")

    assert asked(database, {"acme": "elsewhere.test"}) is None
    assert asked(database, ACME) is not None


def test_a_stranger_sends_nothing(till: Till, platform: FakePlatform) -> None:
    """It stays promised, says why once, and is looked at again in a minute; adopted, it leaves."""
    asked(till.database, {MERCHANT: "production.test"})
    key = int(till.asked(MovementKind.CAPTURE, 400).operation_key)

    for _ in range(3):
        till.step(key)

    operation = till.row(key)
    assert (operation.state, operation.claims, platform.sent, till.attempts(key)) == ("planned", 0, [], [])
    assert f"{MERCHANT} at production.test" in operation.reason
    assert 0 < (till.due_in(key) or 0) <= 60
    assert sum("production.test" in why for *_, why in till.story(key)) == 1

    with till.database.transaction() as connection:
        adopt(connection, {MERCHANT: platform.host}, why="moved", actor="anna")
    till.step(key)

    assert till.state(key) == "accepted"
