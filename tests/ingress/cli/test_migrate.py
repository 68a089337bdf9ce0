"""`payhook migrate`: one command for an empty database, an old one and one that is up to date."""

import sqlite3
import subprocess
from pathlib import Path

import pytest

from tests.ingress.conftest import program
from tests.servers.ports import free_port
from worker.database import Database, head_revision


def run(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program("payhook"), "migrate", *arguments],
        env={f"PAYHOOK_{name}": value for name, value in settings.items()},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_it_brings_the_schema_to_the_revision_of_this_version(database_url: str, tmp_path: Path) -> None:
    """From nothing; a second time it says the same and changes nothing."""
    for _ in range(2):
        ended = run(tmp_path, DATABASE_URL=database_url)
        assert (ended.returncode, ended.stdout) == (0, f"the database is at revision {head_revision()}\n"), ended.stderr

    database = Database(database_url, connections=1, seconds=5, revision=head_revision())
    database.check()
    database.close()


def test_it_needs_neither_merchant_nor_broker_nor_keys(tmp_path: Path) -> None:
    """With nothing set it makes the file of the default setting."""
    assert run(tmp_path).returncode == 0

    with sqlite3.connect(tmp_path / "payhook.db") as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(head_revision(),)]
    assert not (tmp_path / "payhook.key").exists()


def test_it_does_not_ask_for_the_rest_of_a_merchant(tmp_path: Path) -> None:
    """A merchant that lacks a part stops who works for it, not who migrates."""
    assert run(tmp_path, MERCHANT_ID="acme").returncode == 0


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"POLICYY": "x"}, "Error: PAYHOOK_POLICYY is not a setting; did you mean PAYHOOK_POLICY?\n"),
        ({"DATABASE_URL": "nonsense"}, "Error: PAYHOOK_DATABASE_URL: not a database URL; "),
        (
            {"DATABASE_URL": f"postgresql+psycopg://payhook:canary-9c@127.0.0.1:{free_port()}/payhook"},
            "Error: the database does not answer (",
        ),
        ({"DATABASE_URL": "sqlite:////nowhere/at/all/payhook.db"}, "Error: the database does not answer ("),
    ],
    ids=["unknown name", "no URL", "nobody answers", "no folder"],
)
def test_what_is_wrong_is_one_sentence(tmp_path: Path, settings: dict[str, str], told: str) -> None:
    """Exit code 1, one line on standard error, no secret in it."""
    ended = run(tmp_path, **settings)

    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(told)
    assert ended.stderr.count("\n") == 1
    assert "canary" not in ended.stderr


def test_it_takes_no_argument(tmp_path: Path) -> None:
    """A misunderstanding is told by the usual exit code for one."""
    assert run(tmp_path, "head").returncode == 2
