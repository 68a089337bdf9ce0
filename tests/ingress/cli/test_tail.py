"""`payhook tail` tells what happens, a line each, until it is interrupted."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from ingress.cli import tail as command
from tests.ingress.cli.conftest import Desk, everywhere
from tests.ingress.conftest import program
from tests.servers.process_tree import wait_for
from worker.database import DatabaseUnavailable
from worker.gateways.gateway import Refused
from worker.lifecycle import MovementKind
from worker.reports import Happening, Line

PAYMENT = "3254564310"

Tail = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def tail(desk: Desk, tmp_path: Path) -> Iterator[Tail]:
    """Starts a tail that writes to a file."""
    running: list[subprocess.Popen[str]] = []

    def start(*words: str, stdout: Any = None) -> subprocess.Popen[str]:
        out = (tmp_path / "out").open("w") if stdout is None else stdout
        command = [program("payhook"), "tail", *words]
        running.append(subprocess.Popen(command, cwd=tmp_path, stdout=out, stderr=subprocess.PIPE, text=True))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def said(tmp_path: Path) -> Callable[[], list[str]]:
    """What it has said so far."""
    return lambda: (tmp_path / "out").read_text().splitlines()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_happens_is_told_until_it_is_interrupted(
    desk: Desk, tail: Tail, said: Callable[[], list[str]], number: signal.Signals
) -> None:
    """A line as it happens, with the key that tells more; then it ends with exit code 0."""
    desk.deliver("1111111111")
    process = tail("--since", "10m")
    assert wait_for(lambda: len(said()) == 1, seconds=20)

    (key,) = desk.deliver(PAYMENT, "payment.captured")
    desk.till.reconciler.event(key)
    assert wait_for(lambda: len(said()) >= 4, seconds=20)
    process.send_signal(number)

    assert process.wait(10) == 0
    lines = [line.split(" ", 2)[2] for line in said()]
    assert lines[1] == f"[waiting] event received {PAYMENT} payment.captured, key key-1 -> event {key}"
    assert sorted(lines[2:]) == [
        f"[authorised] payment {PAYMENT} the platform says 5 STATUS_5",
        f"[reconciled] event done {PAYMENT} payment.captured -> event {key}",
    ]
    assert process.stderr is not None
    assert process.stderr.read() == ""


class UntilTold(threading.Event):
    """Leaves at the fourth pause."""

    pauses = 0

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses += 1
        if self.pauses == 4:
            self.set()
        return self.is_set()


class UntilIdle(threading.Event):
    """Leaves as soon as there is nothing more to tell."""

    def wait(self, timeout: float | None = None) -> bool:
        self.set()
        return True


def told(desk: Desk, capsys: pytest.CaptureFixture[str], **wished: str | None) -> list[str]:
    """What a tail says of the last ten minutes."""
    since = datetime.now(UTC) - timedelta(minutes=10)
    wishes = {"payment_id": None, "type_": None, "merchant_id": None, "state": None, **wished}
    capsys.readouterr()
    command._follow(desk.database, Happening(since), wishes, UntilIdle(), as_json=bool(wished))
    return capsys.readouterr().out.splitlines()


@everywhere
@pytest.mark.parametrize(
    ("wished", "whats"),
    [
        ({"payment_id": PAYMENT, "state": "authorised"}, {"payment"}),
        ({"type_": "payment.captured"}, {"event received", "event quarantined"}),
        ({"type_": "capture"}, {"operation", "answered"}),
        ({"state": "quarantined"}, {"event quarantined"}),
        ({"merchant_id": "nobody"}, set()),
    ],
)
def test_it_tells_only_what_is_wished_for(
    desk: Desk, capsys: pytest.CaptureFixture[str], wished: dict[str, str], whats: set[str]
) -> None:
    """By payment, type, state and merchant; as JSON each line is an object."""
    desk.till.sent(MovementKind.CAPTURE, 400)
    desk.platform.errors.append(Refused("HTTP 400"))
    desk.till.reconciler.event(desk.deliver("1111111111", "payment.captured")[0])

    lines = [json.loads(line) for line in told(desk, capsys, **wished)]

    assert {line["what"] for line in lines} == whats
    assert all({"at", "what", "state", "detail", "subject", "key", "payment_id"} <= line.keys() for line in lines)


def test_what_came_from_outside_does_not_command_the_terminal(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """Escape sequences in an event's type are shown as text, and a line stays a line."""
    desk.deliver(PAYMENT, "pay\x1b[31m\nment")

    (line,) = told(desk, capsys)

    assert "pay?[31m?ment" in line


def test_a_database_that_is_away_for_a_while_is_waited_for(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """It is said once, and what happened meanwhile is told afterwards."""
    desk.deliver(PAYMENT)
    happening = Happening(datetime.now(UTC) - timedelta(minutes=10))
    read, absences = happening.read, [DatabaseUnavailable("the database does not answer")] * 3

    def reading(connection: Connection) -> tuple[list[Line], bool]:
        if absences:
            raise absences.pop()
        return read(connection)

    happening.read = reading  # type: ignore[method-assign]
    leaving = UntilTold()
    nothing = dict.fromkeys(("payment_id", "type_", "merchant_id", "state"))
    command._follow(desk.database, happening, nothing, leaving, as_json=False)

    said = capsys.readouterr()
    assert said.err == "the database does not answer; waiting for it\n"
    assert len(said.out.splitlines()) == 1


@pytest.mark.parametrize("happens", [False, True])
def test_it_ends_when_nobody_reads_any_more(desk: Desk, tail: Tail, happens: bool) -> None:
    """`payhook tail | head -1` does not wait for a second line; exit code 0 and no traceback."""
    desk.deliver(PAYMENT)
    ours, its = os.pipe()
    process = tail("--since", "10m", stdout=its)
    os.close(its)
    assert os.read(ours, 4096).count(b"\n") == 1

    os.close(ours)
    if happens:
        desk.deliver(PAYMENT)

    assert process.wait(10) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""
