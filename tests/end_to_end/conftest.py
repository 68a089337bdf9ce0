"""What the end-to-end tests share: processes that end with the test, and whose logs are shown when it fails."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from tests.end_to_end.processes import Process

started = pytest.StashKey[list[Process]]()


class Start(Protocol):
    """Starts a command under a name, waiting for nothing."""

    def __call__(
        self, name: str, *command: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Process: ...


@pytest.fixture
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Start]:
    """Start processes that are killed when the test ends."""
    with starting(request.node, tmp_path) as start_one:
        yield start_one


@pytest.fixture(scope="module")
def start_for_all(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start processes that the tests of a file share, and that are killed when the last of them ends."""
    with starting(request.node, tmp_path_factory.mktemp("shared")) as start_one:
        yield start_one


@contextmanager
def starting(node: pytest.Item | pytest.Collector, folder: Path) -> Iterator[Start]:
    """Starts what belongs to a test, or to a file of tests, and kills all of it at the end."""
    processes = node.stash.setdefault(started, [])

    def start_one(
        name: str, *command: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Process:
        process = Process(name, command, folder=folder, env=env, cwd=cwd)
        processes.append(process)
        process.start()
        return process

    yield start_one

    for process in reversed(processes):
        process.kill()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the end of each process's log to the report of a test that failed."""
    report = yield
    if report.failed:
        for process in [process for node in item.listchain() for process in node.stash.get(started, [])]:
            report.sections.append((f"end of {process.name}'s log", process.tail()))
    return report
