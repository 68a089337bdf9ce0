"""Finds and signals a process together with everything it has started."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

# Long enough for a killed process to be taken off by a busy kernel.
GONE_WITHIN_SECONDS = 10.0


class _Entry(NamedTuple):
    pid: int
    state: str
    parent: int
    session: int


def tree(root: int) -> list[int]:
    """The living among the root, all that descend from it, and all of its session (orphans included); parents first."""
    entries = sorted(_processes(), key=lambda entry: entry.pid)
    found = {entry.pid for entry in entries if entry.pid == root or entry.session == root}
    grown = True
    while grown:
        more = {entry.pid for entry in entries if entry.parent in found} - found
        found |= more
        grown = bool(more)
    return [root] * (root in found and _is_alive(root, entries)) + [
        entry.pid for entry in entries if entry.pid in found and entry.pid != root and entry.state not in "ZX"
    ]


def kill_tree(root: int) -> None:
    """End all of it at once with SIGKILL, and return when nothing of it runs."""
    # Stopped first, so that nothing is born between the look and the kill.
    doomed = freeze_tree(root)
    _signal(doomed, signal.SIGKILL)
    wait_until_gone(doomed)


def freeze_tree(root: int) -> list[int]:
    """Stop all of it where it stands, the parents first, until a look finds nothing that is not stopped."""
    stopped: list[int] = []
    while fresh := [pid for pid in tree(root) if pid not in stopped]:
        _signal(fresh, signal.SIGSTOP)
        stopped += fresh
    return stopped


def thaw_tree(root: int) -> None:
    """Let all of it go on, the children first."""
    _signal(reversed(tree(root)), signal.SIGCONT)


def wait_until_gone(pids: list[int]) -> None:
    """Return when none of these runs any more; a zombie does not run."""
    if not wait_for(lambda: not set(pids) & _running(), GONE_WITHIN_SECONDS):
        raise RuntimeError(f"still running after {GONE_WITHIN_SECONDS:.0f} s: {sorted(set(pids) & _running())}")


def wait_for(condition: Callable[[], object], seconds: float) -> bool:
    """Ask again and again until the answer is yes (True) or the time is up (False)."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _running() -> set[int]:
    return {entry.pid for entry in _processes() if entry.state not in "ZX"}


def _is_alive(pid: int, entries: list[_Entry]) -> bool:
    return any(entry.pid == pid and entry.state not in "ZX" for entry in entries)


def _processes() -> list[_Entry]:
    entries = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            # A process may end while we look.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                # The second field, the name, is in parentheses and may itself hold spaces and parentheses.
                state, parent, _group, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
                entries.append(_Entry(int(folder.name), state, int(parent), int(session)))
    return entries
