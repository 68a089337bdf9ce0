"""What every test may ask for: real servers of its own, and the size it is to be run in."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, event

pytest_plugins = ["tests.canaries", "tests.servers.fixtures", "tests.proof.fixtures"]


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Every statement that this process sends: through SQLAlchemy, and in the driver's own words."""
    seen: list[str] = []
    execute = psycopg.Connection.execute

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(" ".join(statement.split())[:60])

    def noting(connection: Any, statement: str, *arguments: Any) -> Any:
        note(None, None, statement)
        return execute(connection, statement, *arguments)

    monkeypatch.setattr(psycopg.Connection, "execute", noting)
    event.listen(Engine, "before_cursor_execute", note)
    yield seen
    event.remove(Engine, "before_cursor_execute", note)
