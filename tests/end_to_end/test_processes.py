"""The processes of the end-to-end tests start, are waited for, and end with all their children."""

import signal
import sys
import time
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Start
from tests.end_to_end.processes import ProcessFailed
from tests.servers.process_tree import tree

# Says its number, starts a child of its own kind, and stays.
FAMILY = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("ready", os.environ.get("PAYHOOK_POLICY"), flush=True)
time.sleep(600)
"""


def test_killing_it_takes_its_children(start: Start) -> None:
    """SIGKILL reaches the whole family, and nothing is left."""
    family = start("family", sys.executable, "-c", FAMILY)
    family.wait_until("ready")
    pids = family.pids()

    family.kill()

    assert len(pids) == 2
    assert [pid for pid in pids if tree(pid)] == []
    assert not family.is_running


def test_one_child_can_be_killed_alone(start: Start) -> None:
    """The first process goes on without its child."""
    family = start("family", sys.executable, "-c", FAMILY)
    family.wait_until("ready")

    family.kill_one_child()

    family.wait_until(lambda: family.children() == [])
    assert family.is_running


def test_children_whose_parent_has_gone_are_ended_too(start: Start) -> None:
    """Orphans are still found, by their session."""
    family = start("family", sys.executable, "-c", FAMILY)
    family.wait_until("ready")
    child = family.children()[0]

    family.signal(signal.SIGKILL)
    family.wait_until_ended()

    assert tree(child) == []


def test_our_settings_do_not_leak_into_it(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of PAYHOOK_… it sees only what the test gives it."""
    monkeypatch.setenv("PAYHOOK_POLICY", "from outside")

    without = start("without", sys.executable, "-c", FAMILY)
    given = start("given", sys.executable, "-c", FAMILY, env={"PAYHOOK_POLICY": "manual"})

    without.wait_until("ready None")
    given.wait_until("ready manual")


def test_a_restart_waits_for_signs_of_the_new_run_only(start: Start) -> None:
    """What the first run has written does not count for the second."""
    slow = start("slow", sys.executable, "-c", "import time; time.sleep(0.3); print('ready'); time.sleep(600)")
    slow.wait_until("ready")

    slow.restart()
    begin = time.monotonic()
    slow.wait_until("ready")

    assert time.monotonic() - begin > 0.1


def test_an_early_end_is_told_with_the_log(start: Start) -> None:
    """Waiting for a process that has died fails at once and shows what it said."""
    broken = start("broken", sys.executable, "-c", "raise SystemExit('no database')")

    with pytest.raises(ProcessFailed, match="no database"):
        broken.wait_until("ready")


def test_it_leaves_in_good_order_when_asked(start: Start, tmp_path: Path) -> None:
    """SIGTERM reaches the first process, whose exit code is returned."""
    polite = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(3)); print('ready'); time.sleep(600)"
    process = start("polite", sys.executable, "-c", polite)
    process.wait_until("ready")

    assert process.terminate() == 3
    assert (tmp_path / "polite.log").read_text() == "ready\n"
