"""Databases to keep keys in: SQLite, PostgreSQL, and a table that a test may put keys into and spoil."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from ingress.key_stores import DatabaseKeyStore, WebhookKey
from ingress.key_stores.database import add_key
from worker.database import Database, head_revision, migrate


class Table:
    """The table of keys, and the store over it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.encryption = [Fernet(Fernet.generate_key())]
        self.store = DatabaseKeyStore(database, self.encryption)

    def put(self, key_id: str, key: WebhookKey) -> None:
        assert add_key(self.database, self.encryption, key_id, key, actor="test")


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the schema, for copying: migrating one for each test takes longer than the tests."""
    path = tmp_path_factory.mktemp("migrated") / "payhook.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def database_of(
    request: pytest.FixtureRequest, tmp_path: Path, migrated_file: Path
) -> Iterator[Callable[[str], Database]]:
    """Makes a migrated database of a kind; a test has one of each at most."""
    opened: list[Database] = []

    def make(kind: str) -> Database:
        if kind == "sqlite":
            shutil.copy(migrated_file, tmp_path / "payhook.db")
            url = f"sqlite:///{tmp_path / 'payhook.db'}"
        else:
            url = request.getfixturevalue("postgres_url")
            migrate(url)
        opened.append(Database(url, connections=2, seconds=2, revision=head_revision()))
        return opened[-1]

    yield make
    for database in opened:
        database.close()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def either_database(request: pytest.FixtureRequest, database_of: Callable[[str], Database]) -> Database:
    """SQLite and PostgreSQL in turn."""
    return database_of(request.param)


@pytest.fixture
def table(database_of: Callable[[str], Database]) -> Table:
    """Keys in a SQLite database."""
    return Table(database_of("sqlite"))


@pytest.fixture
def either_table(either_database: Database) -> Table:
    """Keys in SQLite and PostgreSQL in turn."""
    return Table(either_database)
