"""`payhook serve`: the ingress on gunicorn, whose processes die and are replaced without a pause."""

import time
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication

from ingress import assemble
from ingress.desk import ANSWERING_THREADS, open_desk
from worker import metrics, tracing
from worker.settings import Settings

#: A leaving process waits so long for its last rings to leave; what does not is left to the sweep.
LAST_RINGS_SECONDS = 1.0

#: A new process waits so long for its keys; then it serves without them, and says 503 until they come.
KEYS_SECONDS = 1.5

#: SQLite is served by one process: its writers would wait for each other by polling.
PROCESSES = {"postgresql": 2, "sqlite": 1}


class Gunicorn(BaseApplication):  # type: ignore[misc]  # untyped
    """gunicorn with our application, configured here and nowhere else.

    Args:
        settings: what to build the application from.
        host: where to listen.
        port: where to listen.
    """

    def __init__(self, settings: Settings, host: str, port: int):
        self._settings = settings
        self._address = f"{host}:{port}"
        self._desk = open_desk(settings)
        super().__init__()

    def load_config(self) -> None:
        memory = Path("/dev/shm")  # noqa: S108 - heartbeats of its processes: a slow disk must not look like a hang
        for name, value in {
            "bind": [self._address],
            "worker_class": "gthread",
            "workers": PROCESSES[self._settings.database_kind],
            "threads": ANSWERING_THREADS,
            # Imported once and forked: a killed process is replaced in milliseconds, not after two seconds of imports.
            "preload_app": True,
            "graceful_timeout": 20,
            "keepalive": 75,  # longer than a proxy's, so that the proxy is the one to close
            "backlog": 1024,
            "limit_request_field_size": 8190,
            "forwarded_allow_ips": "",  # nobody tells us who the sender is, or under which path we are
            "control_socket_disable": True,
            "post_worker_init": lambda _worker: self._wait_for_keys(),
            "worker_exit": lambda _arbiter, _worker: self._leave(),
            **({"worker_tmp_dir": str(memory)} if memory.is_dir() else {}),
        }.items():
            self.cfg.set(name, value)

    def _wait_for_keys(self) -> None:
        """Have the keys read before a webhook asks: a process that has just been started would answer it 503."""
        give_up_at = time.monotonic() + KEYS_SECONDS
        while self._desk.ring.state().loaded_at is None and time.monotonic() < give_up_at:
            time.sleep(0.01)

    def _leave(self) -> None:
        self._desk.doorbell.flush(LAST_RINGS_SECONDS)
        tracing.flush()

    def load(self) -> Any:
        """Called once, in the parent: what it opens must not outlive the forks."""
        metrics.share()
        app = assemble(self._settings, self._desk)
        self._desk.database.close()
        return app
