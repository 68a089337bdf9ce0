"""`payhook demo`: what it says is so, it says when it is not, and nothing is left of it."""

import copy
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ingress.cli.demo import story
from ingress.cli.demo.interruptions import Ended, Interruptions
from ingress.cli.demo.verdict import Claim, Fake, Look, Outage, Record, claims

LONGEST_SECONDS = 45.0

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

DEMO = (sys.executable, "-c", "from ingress.cli import main; main(['demo'])")


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Start the demo in a place of bad settings that are not its business, with temporary files where we see them."""
    started: list[subprocess.Popen[str]] = []
    here, temporary = tmp_path / "here", tmp_path / "temporary"
    here.mkdir()
    temporary.mkdir()
    (here / ".env").write_text("PAYHOOK_DATABASE_URL=nonsense\n")
    elsewhere = {"PAYHOOK_POLICY": "nonsense", "HTTP_PROXY": "http://127.0.0.1:1", "TMPDIR": str(temporary)}

    def start() -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                DEMO,
                cwd=here,
                env={**os.environ, **elsewhere, "PYTHONPATH": str(Path(__file__).parents[3])},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.terminate()
        process.communicate()


def at_work_in(folder: Path) -> list[str]:
    """The processes whose working directory is, or was, in the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.readlink(entry / "cwd").startswith(str(folder)):
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it has ended meanwhile, or has no directory any more
            continue
    return found


@pytest.mark.alone
def test_everything_it_claims_holds(demo: Callable[[], subprocess.Popen[str]], tmp_path: Path) -> None:
    """Exit code 0 in time, a line for each thing that happens, no process and no file left."""
    began = time.monotonic()

    process = demo()
    said, _ = process.communicate(timeout=LONGEST_SECONDS + 10)
    seconds = time.monotonic() - began

    assert process.returncode == 0, said
    assert seconds < LONGEST_SECONDS
    for line in (
        "payhook sandbox plays the payment platform",
        "payhook migrate makes the database",
        "payhook keys add keeps the secret",
        "payhook up takes the webhooks",
        "30 payments through Worldline's SDK",
        "A forged webhook is answered 401",
        "A webhook signed with an unknown key is answered 401",
        "SIGKILL for payhook",
        "payhook operations capture, twice, under one request id",
        "payhook up again, on the same file",
        "The shop is done",
        "All of it is true",
    ):
        assert line in said
    assert "FALSE" not in said
    assert "\x1b" not in said  # nothing for terminals where there is none
    assert at_work_in(tmp_path / "temporary") == []
    assert list((tmp_path / "temporary").iterdir()) == []


def test_it_can_be_ended_at_any_time(demo: Callable[[], subprocess.Popen[str]], tmp_path: Path) -> None:
    """A signal ends it at once with the shell's exit code, its processes and files with it."""
    process = demo()
    assert process.stdout is not None
    while "payhook keys add" not in process.stdout.readline():
        assert process.poll() is None

    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=LONGEST_SECONDS)

    assert process.returncode == 128 + signal.SIGTERM
    assert "Ended by SIGTERM" in said
    assert at_work_in(tmp_path / "temporary") == []
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.fixture
def look() -> Look:
    """Two payments, three events of them, one of which came twice."""
    amounts = dict.fromkeys(
        ("amount_capture_pending", "amount_refunded", "amount_refund_pending", "amount_cancelled"), 0
    )
    capture = {"kind": "capture", "amount": 500, "reference": "ours"}
    ledger: list[dict[str, Any]] = [
        {"payment_id": "1", "status_code": 5, "amount_authorised": 1000, "amount_captured": 0, **amounts},
        {"payment_id": "2", "status_code": 9, "amount_authorised": 500, "amount_captured": 500, **amounts},
    ]
    for row, operations in zip(ledger, ([], [capture]), strict=True):
        row["operations"] = operations
    told = ("event_id", "status")
    log = [dict(zip(told, line, strict=True)) for line in (("a", None), ("a", 204), ("b", 204), ("c", 204), ("c", 204))]
    events = [
        {"event_id": event_id, "deliveries": deliveries, "done_at": "now", "outcome": "reconciled"}
        for event_id, deliveries in (("a", 1), ("b", 1), ("c", 2))
    ]
    states = ("authorised", "captured")
    payments = [{**copy.deepcopy(row), "state": state} for row, state in zip(ledger, states, strict=True)]
    deliveries = {"settling": 0, "queued": 0, "given_up": 0, "deliveries": log}
    operations = [{"operation_uuid": "ours", "kind": "capture", "amount": 500, "state": "succeeded"}]
    return Look(ledger, deliveries, Record(events, payments, operations))


FAKES = (Fake("A forged webhook", "x", 401), Fake("A webhook signed with an unknown key", "y", 401))
OUTAGE = Outage(killed_at=1.0, exit_code=-9, open_events=2, started_at=2.0)
ASKED = (0, 0)
ONCE = "What was asked for twice was made once"


def false_ones(look: Look, fakes: tuple[Fake, ...] = FAKES, outage: Outage = OUTAGE, orders: int = 2) -> list[Claim]:
    return [claim for claim in claims(look, fakes, outage, ASKED, orders) if not claim.holds]


def test_a_record_like_the_ledger_is_true(look: Look) -> None:
    """With both sides alike, every claim holds."""
    assert false_ones(look) == []


def test_a_payment_that_differs_is_named(look: Look) -> None:
    """The payment, the column, and both values."""
    look.record.payments[1]["amount_captured"] = 400

    (claim,) = false_ones(look)

    assert claim.said == "Every payment is as the platform has it"
    assert claim.against == ("payment 2: amount_captured is 400, the platform says 500",)


@pytest.mark.parametrize(
    ("falsify", "said"),
    [
        (lambda look: look.record.payments[0].update(state="captured"), "Every payment is as the platform has it"),
        (lambda look: look.record.payments.pop(), "Every payment is as the platform has it"),
        (lambda look: look.ledger.pop(), "Every payment is as the platform has it"),
        (lambda look: look.record.events[0].update(outcome="ignored"), "What is stored is reconciled"),
        (lambda look: look.record.events[0].update(done_at=None, outcome=None), "What is stored is reconciled"),
        (lambda look: look.record.events.pop(0), "What was acknowledged is stored"),
        (lambda look: look.deliveries.update(queued=1), "Every webhook was acknowledged in the end"),
        (lambda look: look.deliveries.update(given_up=1), "Every webhook was acknowledged in the end"),
        (lambda look: look.deliveries["deliveries"][2].update(status=503), "Every webhook was acknowledged in the end"),
        (lambda look: look.record.events.append(look.record.events[0]), "What came again was stored once"),
        (lambda look: look.record.operations.clear(), ONCE),
        (lambda look: look.record.operations[0].update(state="accepted"), ONCE),
        (lambda look: look.record.operations.append({"operation_uuid": "x", "state": "succeeded"}), ONCE),
        (lambda look: look.ledger[1].update(operations=[]), ONCE),
        (lambda look: look.ledger[1]["operations"].append(look.ledger[1]["operations"][0]), ONCE),
        (lambda look: look.ledger[1]["operations"][0].update(amount=250), ONCE),
        (lambda look: look.record.events[0].update(event_id="x"), "A forged webhook is turned away"),
    ],
)
def test_each_thing_that_can_be_false_is_found(look: Look, falsify: Callable[[Look], object], said: str) -> None:
    """Whatever is taken from the record or from the platform's side, the claim about it fails."""
    falsify(look)

    assert said in [claim.said for claim in false_ones(look)]


@pytest.mark.parametrize(
    "outage",
    [
        Outage(killed_at=1.0, exit_code=0, open_events=2, started_at=2.0),
        Outage(killed_at=1.0, exit_code=-9, open_events=2),
    ],
)
def test_a_kill_that_was_none_is_false(look: Look, outage: Outage) -> None:
    """It must have been SIGKILL, and payhook must have come back."""
    assert [claim.said for claim in false_ones(look, outage=outage)] == ["Killed at work, and started again"]


def test_a_kill_at_leisure_is_false(look: Look) -> None:
    """With nothing open and no attempt in vain, the kill has shown nothing."""
    look.deliveries["deliveries"].pop(0)

    idle = Outage(killed_at=1.0, exit_code=-9, open_events=0, started_at=2.0)

    assert [claim.said for claim in false_ones(look, outage=idle)] == ["Killed at work, and started again"]


def test_a_fake_that_is_taken_is_false(look: Look) -> None:
    """A fake answered with anything but 401 was not turned away."""
    fakes = (FAKES[0], Fake(FAKES[1].what, "y", 204))

    assert [claim.said for claim in false_ones(look, fakes)] == ["A webhook signed with an unknown key is turned away"]


def test_what_is_false_is_said_and_its_traces_kept(
    look: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, the claim with what speaks against it, and where the logs are."""

    class UntrueStory(story.Story):
        def play(self) -> list[Claim]:
            look.record.payments[1]["amount_captured"] = 400
            return claims(look, FAKES, OUTAGE, ASKED, 2)

    monkeypatch.setattr(story, "Story", UntrueStory)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    code = story.tell()

    (kept,) = tmp_path.iterdir()
    said = capsys.readouterr().out
    assert code == 1
    assert "FALSE: Every payment is as the platform has it: 1 of 2" in said
    assert "payment 2: amount_captured is 400, the platform says 500" in said
    assert f"Logs and database are kept in {kept}" in said


def test_time_that_runs_out_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever hangs, the deadline ends it with exit code 1."""

    class EndlessStory(story.Story):
        def play(self) -> list[Claim]:
            time.sleep(60)
            return []

    monkeypatch.setattr(story, "Story", EndlessStory)
    monkeypatch.setattr(story, "DEADLINE_SECONDS", 0.2)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    code = story.tell()

    assert code == 1
    assert "FALSE: not done within 0.2 s" in capsys.readouterr().out


def test_a_child_that_dies_is_told_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The end of its log says why; there is no traceback of the demo's own."""

    class BrokenStory(story.Story):
        def play(self) -> list[Claim]:
            self._children.run("broken", "no-such-command")
            return []

    monkeypatch.setattr(story, "Story", BrokenStory)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    code = story.tell()

    said = capsys.readouterr().out
    assert code == 1
    assert "broken ended with code 2" in said
    assert "No such command 'no-such-command'" in said


@pytest.fixture
def defaults_of_signals() -> Iterator[None]:
    """As a terminal leaves them: who runs the tests in the background has some of them ignored."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_each_of_them_ends_it(defaults_of_signals: None, number: signal.Signals) -> None:
    """Ctrl-C, a service manager, a terminal that is closed."""
    with Interruptions(60), pytest.raises(Ended) as ended:
        os.kill(os.getpid(), number)

    assert ended.value.number == number


def test_a_signal_waits_while_it_is_held() -> None:
    """No process can be started and then not be known because a signal came in between."""
    done = []

    def hold(interruptions: Interruptions) -> None:
        with interruptions.held():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("what was begun")

    with Interruptions(60) as interruptions, pytest.raises(Ended, match="SIGTERM"):
        hold(interruptions)

    assert done == ["what was begun"]


def test_nothing_disturbs_the_tidying_up() -> None:
    """After the end has begun, a second Ctrl-C changes nothing."""
    with Interruptions(60) as interruptions:
        interruptions.stop()

        os.kill(os.getpid(), signal.SIGINT)
