"""The search for secrets finds what is planted, wherever it must not be, and leaves alone where it may be."""

import sqlite3
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.canaries import Search, Watch
from worker.database import migrate

SECRET = "planted-only-here-9e1c"


@pytest.fixture
def search() -> Search:
    """One of our own: the run's would find it too."""
    return Search(canaries={SECRET.encode()})


def test_a_line_of_a_log_is_found(search: Search, tmp_path: Path) -> None:
    """And said by the file's name."""
    (tmp_path / "serve.log").write_text(f"starting\nwith {SECRET}\n")

    search.look_at_folder(tmp_path)

    assert list(search.found) == [str(tmp_path / "serve.log")]


def test_files_that_are_there_to_hold_secrets_are_left_alone(search: Search, tmp_path: Path) -> None:
    """Of keys and of settings."""
    (tmp_path / "secrets").mkdir()
    for name in ("keys.json", "payhook.key", ".env", "secret", "secrets.toml"):
        (tmp_path / name).write_text(SECRET)

    search.look_at_folder(tmp_path)

    assert search.found == {}


def test_a_raw_body_may_hold_it_and_no_other_column(search: Search, tmp_path: Path) -> None:
    """What the platform sent is kept byte by byte; nothing of it goes anywhere else."""
    migrate(f"sqlite:///{tmp_path / 'payhook.db'}")
    kept = (
        "INSERT INTO webhook_events"
        " (body, body_sha256, problem, position, key_id, deliveries, claims, rings, received_at) VALUES"
    )
    with sqlite3.connect(tmp_path / "payhook.db") as connection:
        connection.execute(f"{kept} (?, x'01', NULL, 0, 'k', 1, 0, 0, '')", (SECRET.encode(),))
    search.look_at_folder(tmp_path)
    assert search.found == {}

    with sqlite3.connect(tmp_path / "payhook.db") as connection:
        connection.execute(f"{kept} (x'00', x'02', ?, 0, 'k', 1, 0, 0, '')", (f"cannot: {SECRET}",))
    search.look_at_folder(tmp_path)

    assert list(search.found) == [f"{tmp_path / 'payhook.db'}: webhook_events"]


@pytest.mark.servers
def test_a_column_of_postgresql_is_found(search: Search, postgres_url: str) -> None:
    """The body's excepted."""
    import psycopg

    migrate(postgres_url)
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as connection:
        connection.execute(f"INSERT INTO facts (name, value) VALUES ('x', '\"{SECRET}\"')".encode())

    search.look_at_postgres(postgres_url)

    assert list(search.found) == ["PostgreSQL: facts"]


def test_an_argument_of_a_command_is_found(search: Search) -> None:
    """A command line is for everybody to read."""
    child = subprocess.Popen([sys.executable, "-c", "input()", SECRET], stdin=subprocess.PIPE)

    search.look_at_processes()
    child.communicate(b"\n")

    assert [where.split("[")[0] for where in search.found] == ["the command line of "]


def test_what_a_process_of_ours_was_given_is_looked_for_elsewhere(search: Search, tmp_path: Path) -> None:
    """No secret need be listed: its setting makes it one; in another process's environment it is found."""
    given = {"PAYHOOK_WEBHOOK_KEYS": "id=another-secret-of-ours-0b2f"}
    ours = subprocess.Popen([sys.executable, "-c", "input()"], env=given, stdin=subprocess.PIPE)
    search.look_at_processes()
    other = subprocess.Popen(
        [sys.executable, "-c", "input()"], env={"X": "another-secret-of-ours-0b2f"}, stdin=subprocess.PIPE
    )

    search.look_at_processes()
    for child in (ours, other):
        child.communicate(b"\n")

    assert [where.split("[")[0] for where in search.found] == ["the environment of "]


def test_what_a_process_of_the_run_knew_and_found_counts_for_the_run(tmp_path: Path) -> None:
    """Its secrets are looked for in everybody's files; what it found itself is told."""
    (tmp_path / "work.log").write_text(SECRET)
    watch = Watch()

    watch.pytest_testnodedown(SimpleNamespace(workeroutput={"canaries": ({SECRET.encode()}, {"a report": b"x"})}))
    watch.pytest_testnodedown(SimpleNamespace())  # one that crashed
    watch.search.look_at_folder(tmp_path)
    watch.end()

    assert set(watch.search.found) == {"a report", str(tmp_path / "work.log")}
