"""What the servers of the tests have in common: real ones, as processes of our own, that can be killed and frozen."""

import atexit
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

from tests.servers.ports import free_port
from tests.servers.process_tree import freeze_tree, kill_tree, thaw_tree, tree, wait_for
from tests.servers.undertaker import undertaker

INSTALL = "tests/servers/install.sh installs what the tests need"

# A killed RabbitMQ reads its queues back in; on two busy cores that has taken 15 s.
START_WITHIN_SECONDS = 60.0
STOP_WITHIN_SECONDS = 20.0
LOG_TAIL_LINES = 40


class Server(ABC):
    """A server in a folder of its own, on a loopback port of its own; never one that the machine already runs."""

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    user: str | None = None  # whom it runs as, when that is not ourselves

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"payhook-{self.name}-"))
        undertaker.remove(self.folder)
        self.port = free_port()
        self.log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._is_prepared = False
        atexit.register(self.close)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def prepare(self) -> None:
        """Lay out the folder, once."""

    @abstractmethod
    def command(self) -> list[str]:
        """What is run, in the foreground."""

    @abstractmethod
    def ask(self) -> object:
        """Put a question to the server over a connection of its own, or raise."""

    def environment(self) -> dict[str, str]:
        """Nothing of ours leaks in but the search path."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), "LC_ALL": "C.UTF-8"}

    @property
    def is_running(self) -> bool:
        """Whether its first process lives, frozen or not."""
        return self._process is not None and self._process.pid in tree(self._process.pid)

    def pids(self) -> list[int]:
        """Every process of the server, the first one first."""
        return tree(self._process.pid) if self._process else []

    def start(self) -> None:
        """Return when the server answers."""
        if not self._is_prepared:
            self.give_to_user(self.folder)
            self.prepare()
            self._is_prepared = True
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                **self._as_itself(),
                stdout=log,
                stderr=log,
                # Its own session: Ctrl-C in the terminal reaches us, and we end it.
                start_new_session=True,
            )
        undertaker.watch(self._process.pid)
        if not wait_for(lambda: self._answers() or not self.is_running, START_WITHIN_SECONDS) or not self.is_running:
            self.kill()
            raise RuntimeError(f"{self.name} does not answer on port {self.port}; the end of its log:\n{self.tail()}")

    def stop(self) -> None:
        """End it in good order; the data stays."""
        if self._process is not None:
            self._process.send_signal(self.stop_signal)
            wait_for(lambda: not self.is_running, STOP_WITHIN_SECONDS)
            self.kill()

    def kill(self) -> None:
        """SIGKILL for every process of it, as when the machine loses its power; the data stays as it is."""
        if self._process is not None:
            kill_tree(self._process.pid)
            self._process.wait()
            undertaker.forget(self._process.pid)
            self._process = None

    def restart(self) -> None:
        """Start it on the data and the port it had, killing it first if it still runs."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP for every process of it: connections stay open and nothing answers."""
        freeze_tree(self._first_pid())

    def thaw(self) -> None:
        """Let a frozen server go on."""
        thaw_tree(self._first_pid())

    def revive(self) -> None:
        """Make it answer again, whatever was done to it."""
        if not self.is_running:
            self.restart()
        self.thaw()

    def close(self) -> None:
        """End it at once and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.close)

    def tail(self) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])

    def give_to_user(self, path: Path) -> None:
        """Let the user the server runs as own this path."""
        if self.user:
            entry = pwd.getpwnam(self.user)
            os.chown(path, entry.pw_uid, entry.pw_gid)

    def _as_itself(self) -> dict[str, Any]:
        """How its programs are run: as its user, in its folder, reading nothing."""
        return {
            "env": self.environment(),
            "cwd": self.folder,
            "user": self.user,
            "group": self.user,
            "extra_groups": [] if self.user else None,
            "stdin": subprocess.DEVNULL,
        }

    def run(self, *command: str) -> str:
        """Run one of the server's own programs to its end, as the server's user; returns what it printed."""
        ended = subprocess.run(
            command,
            **self._as_itself(),
            capture_output=True,
            text=True,
            timeout=START_WITHIN_SECONDS,
        )
        if ended.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}\n{ended.stdout}{ended.stderr}")
        return ended.stdout

    def _answers(self) -> bool:
        try:
            self.ask()
        except Exception:
            # Each client raises its own kinds, and while the server starts all of them mean "not yet".
            return False
        return True

    def _first_pid(self) -> int:
        assert self._process is not None, f"{self.name} is not running"
        return self._process.pid
