"""Ends what the tests have started and removes its folders, also when the tests themselves are killed with SIGKILL."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path


class Undertaker:
    """A small process that waits for the end of the pipe we hold, and then clears away what is on its list."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[str] | None = None
        self._parent = os.getpid()

    def watch(self, pid: int) -> None:
        """From now on this process, and the session it leads, die with us."""
        self._tell(f"watch {pid}")

    def forget(self, pid: int) -> None:
        """This process has ended and been waited for: its number may soon be another's."""
        self._tell(f"forget {pid}")

    def remove(self, folder: Path) -> None:
        """This folder is removed at the end."""
        self._tell(f"remove {folder}")

    def _tell(self, line: str) -> None:
        if self._child is None or self._parent != os.getpid():
            self._parent = os.getpid()
            # A session of its own: Ctrl-C in the terminal must not end it before it has done its work.
            self._child = subprocess.Popen(
                [sys.executable, "-S", __file__], stdin=subprocess.PIPE, text=True, start_new_session=True
            )
        assert self._child.stdin is not None
        self._child.stdin.write(line + "\n")
        self._child.stdin.flush()


undertaker = Undertaker()


def _main() -> None:
    watched: set[int] = set()
    folders: list[str] = []
    for line in sys.stdin:
        order, _, name = line.rstrip("\n").partition(" ")
        if order == "watch":
            watched.add(int(name))
        elif order == "forget":
            watched.discard(int(name))
        else:
            folders.append(name)

    for pid in watched:
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError):
                kill(pid, signal.SIGKILL)
    for folder in folders:
        # Twice: a server's children need a moment to see that it has gone, and may write until then.
        for _ in range(2):
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _main()
