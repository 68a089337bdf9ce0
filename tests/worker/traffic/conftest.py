"""A database that is not there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.database import Database


@pytest.fixture(params=["sqlite", "postgresql"])
def nowhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """One of each kind, which cannot answer."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'no-such-folder' / 'payhook.db'}"
    else:
        url = "postgresql+psycopg://payhook@127.0.0.1:1/payhook"
    database = Database(url, connections=2, seconds=1, revision=None)
    yield database
    database.close()
