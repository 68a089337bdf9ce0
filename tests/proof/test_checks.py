"""The judgements find what they are there to find, in histories where it is known."""

from pathlib import Path

import pytest

from tests.proof import checks
from tests.proof.history import History, Line, Type


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "history.jsonl")


def sent(history: History, body: str, *ends: Type) -> None:
    """A body that was sent once for each end."""
    for end in ends:
        history.note("platform", "invoke", checks.WEBHOOK, body)
        history.note("platform", end, checks.WEBHOOK, body)


def read(*payments: tuple[str, int, int], connections: int = 1) -> Line:
    told = {"payments": payments, "connections": connections}
    return Line(0.0, "observer", "ok", checks.READ, "payments", told)


def test_what_was_acknowledged_and_is_not_there_is_lost(history: History) -> None:
    """However often it failed before; what was never acknowledged may be missing."""
    sent(history, "kept", "info", "ok")
    sent(history, "gone", "info", "ok")
    sent(history, "never", "info", "fail")

    assert checks.lost(history.lines(), {"kept"}) == ["gone"]


def test_what_was_refused_and_is_there_all_the_same_is_told(history: History) -> None:
    """A certain no, each time; after an uncertain end it may be there."""
    sent(history, "refused", "fail", "fail")
    sent(history, "uncertain", "fail", "info")
    history.note("platform", "invoke", checks.WEBHOOK, "unfinished")

    found = checks.stored_though_refused(history.lines(), {"refused", "uncertain", "unfinished"})

    assert found == ["refused"]


def test_what_nobody_sent_is_told(history: History) -> None:
    """A row out of nowhere."""
    sent(history, "sent", "info")

    assert checks.invented(history.lines(), {"sent", "invented"}) == ["invented"]


def test_a_record_that_falls_back_is_told() -> None:
    """Fewer hints answered, or less captured, than was seen before; others may go on meanwhile."""
    seen = [read(("1", 1, 0), ("2", 5, 400)), read(("1", 2, 400)), read(("2", 5, 0)), read(("1", 1, 400))]

    found = checks.went_backwards(seen)

    assert found == ["2: (5, 400) became (5, 0)", "1: (2, 400) became (1, 400)"]


def test_the_most_connections_are_told() -> None:
    """Of any one moment."""
    assert checks.most_connections([read(connections=3), read(connections=40), read(connections=5)]) == 40


def test_only_faults_that_were_carried_out_count(history: History) -> None:
    """A kill that failed was none."""
    with history.call("nemesis", checks.KILL, "worker"):
        pass
    with pytest.raises(ProcessLookupError), history.call("nemesis", checks.KILL, "ingress"):
        raise ProcessLookupError

    assert checks.done(history.lines(), checks.KILL) == {"worker": 1}


def test_recovery_is_from_the_kill_to_the_next_acknowledgement() -> None:
    """One that nothing follows never ended."""
    lines = [
        Line(1.0, "nemesis", "ok", checks.KILL, "worker"),
        Line(1.5, "platform", "info", checks.WEBHOOK, "a"),
        Line(3.0, "platform", "ok", checks.WEBHOOK, "a"),
        Line(4.0, "nemesis", "ok", checks.KILL, "worker"),
    ]

    assert checks.recoveries(lines) == [2.0, float("inf")]


def test_a_canary_is_found_wherever_it_stands(tmp_path: Path) -> None:
    """In a log, or in a text; and is not itself quoted."""
    log = tmp_path / "work.log"
    log.write_text("fetched\nfailed with 4000000000000127\n")

    found = checks.leaks([log, "nothing here", "secret-1"], ["4000000000000127", "secret-1"])

    assert found == ["4000… in work.log", "secr… in text"]


def test_threads_and_processes_share_a_history(tmp_path: Path) -> None:
    """Each adds whole lines at the end."""
    first, second = History(tmp_path / "history.jsonl"), History(tmp_path / "history.jsonl")

    for number in range(50):
        (first if number % 2 else second).note("platform", "ok", checks.WEBHOOK, f"body-{number}")

    assert len(checks.acknowledged(first.lines())) == 50


def test_the_burst_is_what_the_fullest_window_has_beyond_its_rate() -> None:
    """Ten at once, then two a second; however long nothing was asked before, or where the window begins."""
    burst = [(100.0, 4), (100.0, 6)]
    steady = [(100.5 + 0.5 * number, 1) for number in range(20)]

    assert checks.over_rate([*reversed(steady), *burst, (1.0, 1)], 2.0) == pytest.approx(10)
    assert checks.over_rate(steady, 2.0) == pytest.approx(1)
    assert checks.over_rate([], 2.0) == 0


def test_the_fullest_second_may_begin_anywhere() -> None:
    """Not only where the clock's seconds do."""
    assert checks.fullest([3.9, 0.0, 4.1, 4.2, 5.5], 1.0) == 3
    assert checks.fullest([], 1.0) == 0
