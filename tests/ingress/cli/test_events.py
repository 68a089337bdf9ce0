"""`payhook events` lists what was received, tells what became of it, and has it worked on once more."""

import fcntl
import os
import pty
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest
from sqlalchemy import update

from ingress.cli import actor
from tests.ingress.cli.conftest import Desk, everywhere
from tests.ingress.conftest import program
from tests.worker.conftest import MERCHANT, body_of
from worker.gateways.gateway import Refused
from worker.models import JournalEntry, WebhookEvent

PAYMENT = "3254564310"


def parked(desk: Desk) -> int:
    """An event whose payment is looked at no more."""
    (key,) = desk.deliver(PAYMENT)
    desk.platform.errors.append(Refused("HTTP 400"))
    desk.till.reconciler.event(key)
    desk.paper.open_the_gate()
    return key


@everywhere
def test_events_are_listed_with_what_became_of_them(desk: Desk) -> None:
    """The newest first; a problem is in its row."""
    key = parked(desk)
    (waiting,) = desk.deliver("1111111111", "payment.captured")

    result = desk.run("events", "list")

    names, first, second = result.stdout.splitlines()
    assert names.split() == ["key", "payment_id", "type", "state", "age", "sent", "problem"]
    assert first.split() == [str(waiting), "1111111111", "payment.captured", "waiting", "0m", "1", "-"]
    assert "its payment is parked: the platform refuses the request: HTTP 400" in second
    assert [row["event_key"] for row in desk.told("events", "list", "--stuck")] == [key]


@everywhere
@pytest.mark.parametrize("words", [("--payment", f"900000{PAYMENT}000"), ("--payment", f"{PAYMENT}_0")])
def test_a_payment_is_named_in_either_format(desk: Desk, words: tuple[str, ...]) -> None:
    """As the platform, its portal or a webhook shows it."""
    desk.deliver("1111111111")
    (key,) = desk.deliver(PAYMENT)

    assert [row["event_key"] for row in desk.told("events", "list", *words)] == [key]


def test_the_lists_of_the_command_take_every_filter(desk: Desk) -> None:
    """Each of them is passed on; JSON has the columns of the schema, and never the body."""
    desk.platform.truth.clear()
    (old,) = desk.deliver(PAYMENT)
    desk.till.reconciler.event(old)
    (key,) = desk.deliver(PAYMENT)

    def listed(*words: str) -> list[int]:
        return [row["event_key"] for row in desk.told("events", "list", *words)]

    assert listed("--state", "waiting") == [key]
    assert listed("--state", "waiting", "--state", "reconciled") == [key, old]
    assert listed("--reference", "order-1") == [key, old]
    assert listed("--merchant", MERCHANT) == [key, old]
    assert listed("--merchant", "nobody") == []
    assert listed("--since", "5m") == [key, old]
    assert listed("--since", "2300-01-01T00:00:00Z") == []
    assert listed("--before", str(key)) == [old]
    (row,) = desk.told("events", "list", "--limit", "1")
    assert set(row) == {column.name for column in WebhookEvent.__table__.columns} - {"body"}


def test_where_a_list_goes_on_its_last_line_says_how(desk: Desk) -> None:
    """Followed to the end, every event was on a page."""
    keys = desk.deliver(PAYMENT, *["payment.captured"] * 5)

    seen: list[str] = []
    words: tuple[str, ...] = ()
    while True:
        lines = desk.run("events", "list", "--limit", "2", *words).stdout.splitlines()
        seen += [line.split()[0] for line in lines[1:3]]
        if not lines[-1].startswith("more: "):
            break
        words = tuple(lines[-1].split()[-2:])

    assert words[0] == "--before"
    assert seen[:5] == [str(key) for key in reversed(keys)]


@everywhere
def test_an_event_is_shown_with_its_timeline_and_without_its_body(desk: Desk) -> None:
    """A body is personal data: it is printed only for who asks for it, and then to the byte."""
    key = parked(desk)

    shown = desk.run("events", "show", str(key)).stdout
    told = desk.told("events", "show", str(key))
    body = desk.run("events", "show", str(key), "--body")

    assert "timeline (UTC)" in shown
    assert "event quarantined" in shown
    assert "body" not in told
    assert "apiVersion" not in shown
    assert {line["what"] for line in told["timeline"]} == {"event received", "event quarantined", "payment"}
    assert body.stdout_bytes == body_of(PAYMENT, number=1)


def test_a_body_that_is_erased_and_an_event_that_is_not_there_are_said(desk: Desk) -> None:
    """With exit code 1."""
    (key,) = desk.deliver(PAYMENT)
    with desk.database.transaction() as connection:
        connection.execute(update(WebhookEvent).values(body=None))

    erased, missing = desk.run("events", "show", str(key), "--body"), desk.run("events", "show", "99")

    assert (erased.exit_code, erased.stderr) == (1, f"Error: the body of event {key} has been erased\n")
    assert (missing.exit_code, missing.stderr) == (1, "Error: there is no event 99\n")


@everywhere
def test_a_replay_is_tried_first_and_then_done(desk: Desk) -> None:
    """Without --yes nothing is written; with it the event is due, and the journal says who and what it was."""
    key = parked(desk)

    tried = desk.run("events", "replay", str(key))
    untouched = desk.paper.event(key).outcome
    done = desk.run("events", "replay", str(key), "--yes")

    assert "1 events would be due. Nothing was done" in tried.stdout
    assert str(key) in tried.stdout.splitlines()[1]
    assert untouched == "quarantined"
    assert done.stdout == "1 events are due. What comes of each: `payhook events show KEY`.\n"
    assert desk.paper.open_events() == [key]
    (line,) = [line for line in desk.told("events", "show", str(key))["timeline"] if line["what"] == "event"]
    assert actor() in line["detail"]
    assert "quarantined to waiting: replayed; it was quarantined: its payment is parked" in line["detail"]
    desk.till.reconciler.event(key)
    assert desk.paper.event(key).outcome == "reconciled"


def test_events_are_replayed_by_the_filters_of_the_list(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, in batches, each once; --limit takes the newest."""
    monkeypatch.setattr("ingress.cli.events.BATCH", 3)
    keys = desk.deliver(PAYMENT, *["payment.captured"] * 8)
    desk.till.look()
    desk.deliver("1111111111")

    tried = desk.told("events", "replay", "--state", "reconciled")
    few = desk.told("events", "replay", "--state", "reconciled", "--limit", "4", "--yes")
    rest = desk.told("events", "replay", "--payment", PAYMENT, "--yes")

    assert tried == {"done": False, "due": 8, "refused": []}
    assert few == {"done": True, "due": 4, "refused": []}
    assert rest["due"] == 8
    with desk.database.reading() as connection:
        lines = connection.execute(
            JournalEntry.__table__.select().where(JournalEntry.subject == "event").order_by(JournalEntry.journal_key)
        ).all()
    assert sorted(int(line.subject_id) for line in lines[:4]) == keys[4:]
    assert sorted(int(line.subject_id) for line in lines[4:]) == keys


def test_of_each_event_that_cannot_be_replayed_it_is_said_why(desk: Desk) -> None:
    """The others are due all the same; exit code 1."""
    (key,) = desk.deliver(PAYMENT)
    (aside,) = desk.deliver("1111111111", merchant_id="stranger")
    desk.till.reconciler.event(aside)

    result = desk.run("events", "replay", str(key), str(aside), "999", "--yes")

    assert result.exit_code == 1
    assert f"event {aside} cannot be replayed: of a merchant that is not ours" in result.stdout
    assert "event 999 cannot be replayed: there is no such event" in result.stdout
    assert "1 events are due" in result.stdout
    assert result.stderr == "Error: 2 cannot be replayed\n"


@pytest.mark.parametrize("words", [(), ("--yes",), ("--limit", "5"), ("1", "--state", "waiting"), ("--state", "due")])
def test_everything_is_not_replayed_by_a_slip(desk: Desk, words: tuple[str, ...]) -> None:
    """Neither keys nor filters, or both, is a command written wrongly."""
    desk.deliver(PAYMENT)

    assert desk.run("events", "replay", *words).exit_code == 2
    assert desk.paper.payments() == []


@pytest.mark.parametrize("words", [("list",), ("show", "1"), ("replay", "1")])
def test_a_database_that_is_away_is_a_sentence(
    desk: Desk, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On standard error, with exit code 1."""
    monkeypatch.setenv("PAYHOOK_DATABASE_URL", "postgresql+psycopg://payhook@127.0.0.1:9/payhook")

    result = desk.run("events", *words)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: the database does not answer")


def test_a_list_that_is_longer_than_the_terminal_goes_through_the_pager(desk: Desk, tmp_path: Path) -> None:
    """Where somebody sits who can turn pages; all of it, and no wider than the terminal."""
    desk.deliver(PAYMENT, *["payment.captured"] * 60)
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\necho through the pager\ncat\n")
    pager.chmod(0o755)
    environment = {**os.environ, "TERM": "dumb", "PAGER": str(pager)}
    command = subprocess.Popen(
        [program("payhook"), "events", "list"], cwd=tmp_path, env=environment, stdin=its, stdout=its, stderr=its
    )
    os.close(its)
    said = b""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            said += os.read(ours, 65536)
        except OSError:  # how Linux tells that the other end is closed
            break
    os.close(ours)

    assert command.wait(10) == 0, said
    assert b"through the pager" in said
    assert said.count(PAYMENT.encode()) == 60
    assert max(map(len, said.decode().splitlines())) <= 80
