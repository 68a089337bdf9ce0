"""The demo's processes: payhook's own commands, in a folder and an environment of their own."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ingress.cli.demo.interruptions import Interruptions

#: The installed command, whatever it is called by and wherever its script lies.
PAYHOOK = (sys.executable, "-c", "from ingress.cli import main; main(prog_name='payhook')")

#: The caller's settings are not the demo's, and a proxy has no part in what stays on this machine.
SCRUBBED = re.compile(r"PAYHOOK_|CELERY_|FLASK_|GUNICORN_|(https?|all)_proxy$", re.IGNORECASE)

#: Below 32768, where the kernel begins to take ports for outgoing connections: the platform keeps calling payhook's
#: port while payhook is dead, and could be given that very port as its own end.
PORTS = range(20000, 32000)

LOOK_SECONDS = 0.05
LEAVE_SECONDS = 3.0
LOG_TAIL_LINES = 15


class ChildFailed(Exception):
    """A process ended when it should not have; the message holds the end of its log."""


class Children:
    """Starts processes, and ends every one of them.

    Args:
        folder: where they run and where their logs go.
        interruptions: held back while a process is started, so that none is started and not known.
    """

    def __init__(self, folder: Path, interruptions: Interruptions):
        self.folder = folder
        self._interruptions = interruptions
        self._started: list[tuple[str, subprocess.Popen[bytes]]] = []

    def start(self, name: str, *words: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start ``payhook WORDS``, waiting for nothing."""
        surroundings = {key: value for key, value in os.environ.items() if not SCRUBBED.match(key)}
        with self._interruptions.held(), self.log_of(name).open("ab") as log:
            child = subprocess.Popen(
                [*PAYHOOK, *words],
                cwd=self.folder,  # so no .env of the caller is read
                env={**surroundings, "PYTHONUNBUFFERED": "1", **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a terminal's Ctrl-C is for the demo, which then ends them in good order
            )
            self._started.append((name, child))
        return child

    def run(self, name: str, *words: str) -> None:
        """Run ``payhook WORDS`` to its end, which must be a good one."""
        child = self.start(name, *words)
        while child.poll() is None:
            time.sleep(LOOK_SECONDS)
        if child.returncode:
            raise self._failure(name, child)

    def wait_until(self, child: subprocess.Popen[bytes], sign: Callable[[], bool]) -> None:
        """Return when the sign is there; the process must live until then."""
        while not sign():
            self.check(child)
            time.sleep(LOOK_SECONDS)

    def check(self, child: subprocess.Popen[bytes]) -> None:
        """Make sure that a process lives."""
        if child.poll() is not None:
            raise self._failure(next(name for name, other in self._started if other is child), child)

    def kill(self, child: subprocess.Popen[bytes]) -> int:
        """SIGKILL, which nothing can prepare for; the exit code, negative for a signal."""
        os.killpg(child.pid, signal.SIGKILL)
        return child.wait()

    def end(self) -> None:
        """End all that still run: asked first, killed when they take too long."""
        living = [child for _, child in self._started if child.poll() is None]
        for child in living:
            os.killpg(child.pid, signal.SIGTERM)
        deadline = time.monotonic() + LEAVE_SECONDS
        while time.monotonic() < deadline and any(child.poll() is None for child in living):
            time.sleep(LOOK_SECONDS)
        for child in living:
            if child.poll() is None:
                self.kill(child)

    def log_of(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _failure(self, name: str, child: subprocess.Popen[bytes]) -> ChildFailed:
        tail = self.log_of(name).read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return ChildFailed("\n".join([f"{name} ended with code {child.returncode}; the end of its log:", *tail]))


def free_port() -> int:
    """A port of the loopback interface that nothing listens on."""
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ChildFailed(f"no port between {PORTS.start} and {PORTS.stop} is free")
