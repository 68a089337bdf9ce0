"""`payhook retention` counts what is old, and lets go of it."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import func, select, update

from ingress.cli import main
from tests.ingress.conftest import event_body
from worker import inbox
from worker.database import Database, migrate, open_database, seconds_from_now
from worker.models import WebhookEvent
from worker.settings import load_settings


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def database(
    request: pytest.FixtureRequest, migrated_sqlite_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """A database of each kind, named by the environment; two events are old, one is not."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("PAYHOOK_")]:
        monkeypatch.delenv(name)
    if request.param == "sqlite":
        shutil.copy(migrated_sqlite_file, tmp_path / "payhook.db")
        url = f"sqlite:///{tmp_path / 'payhook.db'}"
    else:
        url = request.getfixturevalue("postgres_url")
        migrate(url)
    monkeypatch.setenv("PAYHOOK_DATABASE_URL", url)
    database = open_database(load_settings(), threads=2, seconds=5)
    for number, days in enumerate((500.0, 100.0, 1.0)):
        body = event_body(id=f"event-{number}")
        (key,) = inbox.keep(database, body, "k", key_merchant_id=None, merchant_ids=None, ring_seconds=5.0).due
        at = seconds_from_now(-days * 86400)
        done = {"received_at": at, "done_at": at, "due_at": None, "outcome": "reconciled"}
        with database.transaction() as connection:
            connection.execute(update(WebhookEvent).where(WebhookEvent.event_key == key).values(**done))
    yield database
    database.close()


def run(*words: str) -> Result:
    result = CliRunner().invoke(main, ["retention", *words], prog_name="payhook")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def left(database: Database) -> tuple[int, int]:
    """Events and bodies."""
    counted = select(func.count(), func.count(WebhookEvent.body)).select_from(WebhookEvent)
    with database.reading() as connection:
        rows, bodies = connection.execute(counted).one()
    return rows, bodies


def test_what_is_old_goes_as_the_dry_run_said(database: Database) -> None:
    """First it only counts, then it does it and says the same, then nothing is left to do."""
    nothing = {"bodies": 0, "webhook_events": 0, "payments": 0, "movements": 0, "journal": 0}

    counted = run("--dry-run", "--json")
    before = left(database)
    done = run("--json")
    again = run("--json")

    assert (counted.exit_code, done.exit_code) == (0, 0)
    assert json.loads(counted.stdout) == {**nothing, "dry_run": True, "bodies": 2, "webhook_events": 1}
    assert json.loads(done.stdout) == {**nothing, "dry_run": False, "bodies": 2, "webhook_events": 1}
    assert json.loads(again.stdout) == {**nothing, "dry_run": False}
    assert (before, left(database)) == ((3, 3), (2, 1))


def test_people_get_a_table(database: Database) -> None:
    """And neither a bar nor its remains where nobody looks."""
    result = run("--dry-run")

    assert result.stderr == ""
    rows = [line.rsplit(None, 1) for line in result.stdout.splitlines()[1:]]
    assert [(name.strip(), int(count)) for name, count in rows] == [
        ("raw bodies of events", 2),
        ("events", 1),
        ("payments", 0),
        ("movements", 0),
        ("journal lines", 0),
    ]


def test_settings_decide_and_400_days_are_the_least(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer keeps more; a wrong setting is a sentence, exit code 1, and nothing goes."""
    monkeypatch.setenv("PAYHOOK_KEEP_BODIES_DAYS", "120")
    monkeypatch.setenv("PAYHOOK_KEEP_ROWS_DAYS", "600")
    counted = json.loads(run("--dry-run", "--json").stdout)
    monkeypatch.setenv("PAYHOOK_KEEP_ROWS_DAYS", "399")
    refused = run()

    assert (counted["bodies"], counted["webhook_events"]) == (1, 0)
    assert refused.exit_code == 1
    assert "PAYHOOK_KEEP_ROWS_DAYS" in refused.stderr
    assert left(database) == (3, 3)
