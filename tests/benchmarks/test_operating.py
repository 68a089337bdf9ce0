"""Every question of an operator lives on an index: however much was done, its answer comes at once."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, event

from benchmarks.installation import BIG, Filled, fill
from benchmarks.operating import Answered
from benchmarks.questions import QUESTIONS, Question, Sample
from benchmarks.report import operating_tables
from tests.servers.postgres_server import PostgresServer
from worker.database import Database, migrate

#: Enough for PostgreSQL to prefer an index wherever there is one.
SMALL = Filled(events=20_000, payments=8_000, operations=8_000)


@pytest.fixture(scope="module")
def filled(postgres_server: PostgresServer) -> Iterator[Database]:
    postgres_server.revive()
    url = postgres_server.new_database()
    migrate(url)
    database = Database(url, connections=1, seconds=60, revision=None)
    with database.session() as connection:
        fill(connection.execution_options(isolation_level="AUTOCOMMIT"), SMALL)
    yield database
    database.close()
    postgres_server.drop_database(url)


@pytest.mark.servers
@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_no_question_reads_a_table_through(filled: Database, question: Question) -> None:
    """Not one that grows with what was ever done; and there is an answer."""
    with filled.reading() as connection:
        sample = Sample.of(connection)
        asked = statements_of(connection, lambda: question(connection, sample))
        read = [read_through(connection, *one) for one in asked]

    assert asked
    assert read == [set()] * len(asked)


@pytest.mark.servers
def test_a_table_that_is_read_through_is_seen(filled: Database) -> None:
    """The check above can fail."""
    with filled.reading() as connection:
        read = read_through(connection, "SELECT count(*) FROM payments WHERE amount_refunded = %(n)s", {"n": 1})

    assert read == {"payments"}


@pytest.mark.servers
def test_every_question_finds_something(filled: Database) -> None:
    """An empty answer is quick, and says nothing of one that is not."""
    with filled.reading() as connection:
        sample = Sample.of(connection)

        assert [name for name, question in QUESTIONS.items() if not question(connection, sample)] == []


def test_the_best_and_the_worst_of_all_turns_are_told() -> None:
    """And whether the worst keeps to what is promised."""
    table = operating_tables([Answered("quick", [1.25, 2.0]), Answered("slow", [2.0, 301.0])])["operating"]

    assert "| quick | 1.2 | 2.0 | yes |" in table
    assert "| slow | 2.0 | 301.0 | no |" in table


def statements_of(connection: Connection, ask: Any) -> list[tuple[str, Any]]:
    """The statements that a question sends, with what is put into them."""
    seen: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        seen.append((statement, parameters))

    event.listen(connection.engine, "before_cursor_execute", note)
    ask()
    event.remove(connection.engine, "before_cursor_execute", note)
    return seen


def read_through(connection: Connection, statement: str, parameters: Any) -> set[str]:
    """The big tables that PostgreSQL would read from one end to the other."""
    (plans,) = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).scalars()
    return {
        node["Relation Name"]
        for node in nodes((plans if isinstance(plans, list) else json.loads(plans))[0]["Plan"])
        if node["Node Type"] == "Seq Scan" and node["Relation Name"] in BIG
    }


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for one in plan.get("Plans", ()):
        yield from nodes(one)
