"""payhook's own programs as processes that a test can wait for, kill, freeze and start again."""

import os
import re
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.servers.ports import free_port
from tests.servers.process_tree import freeze_tree, kill_tree, thaw_tree, tree, wait_for
from tests.servers.undertaker import undertaker

__all__ = ["Process", "ProcessFailed", "free_port"]

WAIT_SECONDS = 30.0
LOG_TAIL_LINES = 60

# A proxy of the machine must not stand between two processes of one test.
SCRUBBED = re.compile(r"PAYHOOK_|CELERY_|FLASK_|GUNICORN_|(https?|all)_proxy$", re.IGNORECASE)

_without_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))

Sign = str | re.Pattern[str] | Callable[[], object]


class ProcessFailed(AssertionError):
    """A process ended, or did not do in time what it was to do; the message holds the end of its log."""


class Process:
    """A command in a session of its own, so that killing it takes all its children; never outlives the tests."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        folder: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.command = [str(word) for word in command]
        self.log = folder / f"{name}.log"
        self.cwd = cwd or Path.cwd()
        self.env = {key: value for key, value in os.environ.items() if not SCRUBBED.match(key)}
        self.env |= {"PYTHONUNBUFFERED": "1", **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None
        # Where in the log the present run begins: what an earlier one wrote is no sign of this one.
        self._log_begins = 0

    def start(self) -> None:
        """Start it, without waiting for anything."""
        assert not self.is_running, f"{self.name} runs already"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._log_begins = log.tell()
            self._process = subprocess.Popen(
                self.command,
                env=self.env,
                cwd=self.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        undertaker.watch(self._process.pid)

    def wait_until(self, sign: Sign, seconds: float = WAIT_SECONDS) -> None:
        """Return when the URL answers 2xx, the pattern stands in this run's log, or the function says so."""
        seen = self._sense(sign)
        if not wait_for(lambda: seen() or not self.is_running, seconds) or not seen():
            what = "has ended" if not self.is_running else f"did not show {sign!r} within {seconds:g} s"
            raise ProcessFailed(f"{self.name} {what}; the end of {self.log}:\n{self.tail()}")

    def wait_until_ended(self, seconds: float = WAIT_SECONDS) -> int:
        """Its exit code, once it has ended of itself."""
        if not wait_for(lambda: not self.is_running, seconds):
            raise ProcessFailed(f"{self.name} still runs after {seconds:g} s; the end of {self.log}:\n{self.tail()}")
        return self._bury()

    def terminate(self, seconds: float = WAIT_SECONDS) -> int:
        """SIGTERM to its first process, as a service manager does; its exit code once it has left in good order."""
        self.signal(signal.SIGTERM)
        return self.wait_until_ended(seconds)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its first process only."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL for all of it at once: the first process and every child."""
        if self._process is not None:
            self._bury()

    def kill_one_child(self, index: int = 0) -> int:
        """SIGKILL for one of the processes it has started, and nothing else; returns which."""
        child = self.children()[index]
        os.kill(child, signal.SIGKILL)
        return child

    def restart(self) -> None:
        """Kill it if it runs, and start it anew."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP for all of it."""
        freeze_tree(self.pid)

    def thaw(self) -> None:
        """Let it go on."""
        thaw_tree(self.pid)

    @property
    def pid(self) -> int:
        """Its first process."""
        assert self._process is not None, f"{self.name} is not running"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether its first process lives, frozen or not."""
        return self._process is not None and self._process.pid in tree(self._process.pid)

    def pids(self) -> list[int]:
        """Every process of it, the first one first."""
        return tree(self._process.pid) if self._process else []

    def children(self) -> list[int]:
        """Every process of it but the first."""
        return [pid for pid in self.pids() if pid != self.pid]

    def output(self) -> str:
        """What the present run has written so far."""
        with self.log.open("rb") as log:
            log.seek(self._log_begins)
            return log.read().decode(errors="replace")

    def tail(self) -> str:
        """The last lines of its log, earlier runs included."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])

    def _bury(self) -> int:
        # Its number is not given to another process until it is waited for; so that is done here and nowhere before.
        assert self._process is not None
        kill_tree(self._process.pid)
        code = self._process.wait()
        undertaker.forget(self._process.pid)
        self._process = None
        return code

    def _sense(self, sign: Sign) -> Callable[[], object]:
        if callable(sign):
            return sign
        if isinstance(sign, str) and re.match(r"https?://", sign):
            return lambda: _answers(sign)
        return lambda: re.search(sign, self.output())


def _answers(url: str) -> bool:
    try:
        with _without_proxy.open(url, timeout=2) as answer:
            return answer.status in range(200, 300)
    except (urllib.error.URLError, OSError):
        return False
