"""Watches a whole test run for secrets and card numbers where they must not be; a pytest plugin.

Known are some that are planted, and every secret that a process of the run was given in its environment. They may be in
the raw body of a stored event, in a file of keys or settings, and nowhere else: not in what any process wrote, not in
another column, not in a command line, not in the report of a test. Where processes share the tests of a run, the one
that leads them searches the files, for what any of them knows.
"""

import contextlib
import re
import sqlite3
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

#: The corpus of tests/hostile and the tests of the ingress plant these wherever strangers can put something.
PLANTED = {
    "hello+world",
    "secret-of-the-hostile-corpus-7d41",
    "api-secret-of-the-hostile-corpus-5a3b",
    "4111111111111111",
    "5500005555555559",
}

SECRET_SETTINGS = ("PAYHOOK_WEBHOOK_KEYS", "PAYHOOK_API_SECRET", "PAYHOOK_ENCRYPTION_KEYS")

#: Shorter ones are words; those of the sandbox are printed by it and published with it.
SHORTEST = 10
PUBLISHED = re.compile(r"sandbox")

#: What tests write themselves to give secrets and bodies to programs, and what programs keep keys in.
MAY_HOLD_SECRETS = re.compile(
    r"(\.key|\.pem|\.env|\.toml|\.properties|\.json|\.headers|\.body|\.py|\.pyc|\.sh|/secret[^/]*|/keys?[^/]*|/body[^/]*|/headers[^/]*)$"
)

LOOK_EVERY_SECONDS = 0.5


@dataclass
class Search:
    """What is looked for, and where it was found."""

    canaries: set[bytes] = field(default_factory=lambda: {canary.encode() for canary in PLANTED})
    found: dict[str, bytes] = field(default_factory=dict)

    def look(self, where: str, content: bytes) -> None:
        """Whether a canary is in this content."""
        for canary in tuple(self.canaries):
            if canary in content:
                self.found.setdefault(where, canary)

    def look_at_folder(self, folder: Path) -> None:
        """Every file in it that is not there to hold secrets; of a database, every column but the raw body."""
        for path in folder.rglob("*"):
            if path.is_symlink() or not path.is_file() or MAY_HOLD_SECRETS.search(str(path)):
                continue
            with contextlib.suppress(OSError, sqlite3.DatabaseError):
                with path.open("rb") as file:
                    is_database = file.read(16) == b"SQLite format 3\0"
                if is_database:
                    self.look_at_sqlite(path)
                elif not path.name.endswith(("-wal", "-shm", "-journal")):
                    self.look(str(path), path.read_bytes())

    def look_at_sqlite(self, path: Path) -> None:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            for (table,) in tables:
                columns = [
                    row[1]
                    for row in connection.execute(f"PRAGMA table_info('{table}')")
                    if (table, row[1]) != ("webhook_events", "body")
                ]
                if columns:
                    names = ", ".join(f'"{name}"' for name in columns)
                    for row in connection.execute(f'SELECT {names} FROM "{table}"'):
                        self.look(f"{path}: {table}", repr(row).encode())

    def look_at_postgres(self, url: str) -> None:
        """The same of a PostgreSQL database."""
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
            tables = connection.execute(
                "SELECT table_name, string_agg(quote_ident(column_name), ',') FROM information_schema.columns"
                " WHERE table_schema = 'public' AND (table_name, column_name) <> ('webhook_events', 'body')"
                " GROUP BY table_name"
            ).fetchall()
            for table, columns in tables:
                for row in connection.execute(f"SELECT {columns} FROM {table}".encode()):
                    self.look(f"PostgreSQL: {table}", repr(row).encode())

    def look_at_processes(self) -> None:
        """The command lines of all processes under this one, and the environments of those that are not payhook's."""
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error, OSError):
                line, environment = process.cmdline(), process.environ()
                self.look(f"the command line of {line[:3]}", "\0".join(line).encode())
                given = [environment[name] for name in SECRET_SETTINGS if name in environment]
                if given:
                    self._learn(given)
                else:
                    self.look(f"the environment of {line[:3]}", repr(environment).encode())

    def _learn(self, given: list[str]) -> None:
        for secret in (part.partition("=")[2] or part for value in given for part in value.split(",")):
            if len(secret) >= SHORTEST and not PUBLISHED.search(secret):
                self.canaries.add(secret.encode())


class Watch:
    """Looks on while the tests run, and everywhere when they have run."""

    def __init__(self) -> None:
        self.search = Search()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="canaries", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(LOOK_EVERY_SECONDS):
            with contextlib.suppress(psutil.Error):
                self.search.look_at_processes()

    def end(self) -> None:
        """Look at no more processes."""
        self._ended.set()
        self._thread.join()

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        said = "".join(f"{name}\n{text}" for name, text in report.sections) + report.longreprtext
        self.search.look(f"the report of {report.nodeid}", said.encode(errors="replace"))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.end()
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["canaries"] = self.search.canaries, self.search.found
            return
        factory = getattr(session.config, "_tmp_path_factory", None)
        if factory is not None and factory._basetemp is not None:
            self.search.look_at_folder(factory.getbasetemp())
        if self.search.found:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A process that shared in the tests has ended."""
        canaries, found = getattr(node, "workeroutput", {}).get("canaries", (set(), {}))
        self.search.canaries |= canaries
        self.search.found |= found

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.search.found:
            terminalreporter.section("secrets where they must not be", red=True)
            for where in sorted(self.search.found):
                terminalreporter.line(f"{where}: {self.search.found[where].decode()[:4]}…")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Watch(), "canary-watch")


@pytest.fixture(scope="session")
def canary_search(request: pytest.FixtureRequest) -> Search:
    """The search of this run, for whatever is gone when it ends."""
    watch: Watch = request.config.pluginmanager.get_plugin("canary-watch")  # type: ignore[assignment]
    return watch.search
