"""The commands over a database of each kind, and one process that works beside them."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner, Result

from ingress.cli import main
from tests.worker.conftest import (  # two of them are fixtures: one database, emptied between tests
    MERCHANT,
    Deliver,
    FakePlatform,
    Paper,
    deliver_to,
    emptied_postgres_url,
    migrated_postgres_url,
    settings_of,
)
from tests.worker.till import Till
from worker.database import Database, open_database
from worker.settings import load_settings

__all__ = ["emptied_postgres_url", "migrated_postgres_url"]

#: What needs more than one kind of database to be believed.
everywhere = pytest.mark.parametrize(
    "kind_of_database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)], indirect=True
)


@dataclass
class Desk:
    """The commands, and a worker that does what it is told to."""

    url: str
    database: Database
    platform: FakePlatform
    till: Till
    deliver: Deliver
    paper: Paper

    def run(self, *words: str) -> Result:
        """A command, which must end without a traceback."""
        result = CliRunner().invoke(main, [*words], prog_name="payhook")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    def told(self, *words: str) -> Any:
        """What a command that succeeds prints as JSON."""
        result = self.run(*words, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)


@pytest.fixture
def kind_of_database(request: pytest.FixtureRequest, migrated_sqlite_file: Path, tmp_path: Path) -> str:
    """A migrated database's URL: SQLite, unless the test asks for more."""
    if getattr(request, "param", "sqlite") == "sqlite":
        shutil.copy(migrated_sqlite_file, tmp_path / "payhook.db")
        return f"sqlite:///{tmp_path / 'payhook.db'}"
    postgres_url: str = request.getfixturevalue("emptied_postgres_url")
    return postgres_url


@pytest.fixture
def desk(
    kind_of_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logs_as_they_were: None
) -> Iterator[Desk]:
    """The settings of one merchant in the environment, and nothing else of ours."""
    structlog.reset_defaults()  # whatever ran before in this process
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())  # a worker's logs are no part of a command's
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("PAYHOOK_")]:
        monkeypatch.delenv(name)
    given = {"DATABASE_URL": kind_of_database, "MERCHANT_ID": MERCHANT, "API_KEY_ID": "key", "API_SECRET": "secret"}
    for name, value in {**given, "KEY_STORE": "memory:", "WEBHOOK_KEYS": "key-1=secret"}.items():
        monkeypatch.setenv(f"PAYHOOK_{name}", value)
    database = open_database(load_settings(), threads=4, seconds=5)
    platform = FakePlatform()
    till = Till(database, platform, settings_of())
    yield Desk(kind_of_database, database, platform, till, deliver_to(database), Paper(database))
    database.close()
