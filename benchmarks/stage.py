"""Where the benchmarks are played: real servers, and both houses, ours and the naive one, built the same way."""

import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processor_time import Pids
from ingress.desk import ANSWERING_THREADS
from ingress.production import PROCESSES
from tests.end_to_end.house import KEY_ID, SECRET, House
from tests.end_to_end.processes import Process, free_port
from tests.servers.postgres_server import PostgresServer
from tests.servers.rabbitmq_server import RabbitmqServer

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent

#: The tests' house has short leases and sweeps; what is measured here has payhook's own defaults.
DEFAULTS = {
    "PAYHOOK_LEASE_SECONDS": "60",
    "PAYHOOK_CLAIM_SECONDS": "40",
    "PAYHOOK_CALL_SECONDS": "15",
    "PAYHOOK_SWEEP_SECONDS": "5",
}


@dataclass
class Stage:
    """Servers of our own, and the processes started on them."""

    postgres: PostgresServer
    rabbitmq: RabbitmqServer
    folder: Path
    processes: list[Process] = field(default_factory=list)

    def start(
        self, name: str, *command: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Process:
        """Start a command under a name, waiting for nothing."""
        process = Process(name, command, folder=self.folder / str(len(self.processes)), env=env, cwd=cwd)
        self.processes.append(process)
        process.start()
        return process

    def payhook(self) -> House:
        """payhook on a database and a broker of its own, its sandbox running and nothing else."""
        return House(self.start, self.postgres.new_database(), self.rabbitmq.new_vhost(), more=DEFAULTS)

    def naive(self, sandbox_url: str, calls: int = 1) -> "Naive":
        """The rival, likewise; the sandbox may be payhook's."""
        return Naive(self, self.postgres.new_database(), self.rabbitmq.new_vhost(), sandbox_url, calls)

    def servers(self) -> dict[str, Pids]:
        """The servers' processes, for a meter."""
        return {"PostgreSQL": self.postgres.pids, "RabbitMQ": self.rabbitmq.pids}


@dataclass
class Naive:
    """The rival: same servers, same gunicorn, same number of processes and threads."""

    stage: Stage
    database_url: str
    broker_url: str
    sandbox_url: str
    calls: int = 1  # of the platform, for each event: 1, or 3 as payhook needs for an authorised payment
    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self._run("tables", "python", "-m", "benchmarks.naive.models").wait_until_ended()

    @property
    def webhook_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/webhooks"

    def serve(self, app: str = "ingress") -> Process:
        """Start a view of `benchmarks/naive/` on gunicorn as payhook is, and wait until it answers."""
        server = self._run(
            app,
            "gunicorn",
            *("--worker-class", "gthread", "--workers", str(PROCESSES["postgresql"])),
            *("--threads", str(ANSWERING_THREADS), "--keep-alive", "75", "--backlog", "1024"),
            *("--bind", f"127.0.0.1:{self.port}", "--worker-tmp-dir", "/dev/shm", "--no-control-socket"),
            f"benchmarks.naive.{app}:app",
        )
        server.wait_until(f"http://127.0.0.1:{self.port}/health/live")
        return server

    def work(self, pool: str, concurrency: int) -> Process:
        """Start a worker, and wait until it consumes."""
        worker = self._run(
            "work",
            *("celery", "-A", "benchmarks.naive.tasks", "worker", "--without-gossip", "--without-mingle"),
            *("--loglevel", "INFO", "--pool", pool, "--concurrency", str(concurrency)),
        )
        worker.wait_until(r"celery@.* ready")
        return worker

    def _run(self, name: str, program: str, *arguments: str) -> Process:
        env = {
            "NAIVE_DATABASE_URL": self.database_url,
            "NAIVE_BROKER_URL": self.broker_url,
            "NAIVE_API_ENDPOINT": self.sandbox_url,
            "NAIVE_KEY_ID": KEY_ID,
            "NAIVE_SECRET": SECRET,
            "NAIVE_CALLS": str(self.calls),
        }
        return self.stage.start(name, BIN / program, *arguments, env=env, cwd=ROOT)


@contextmanager
def open_stage() -> Iterator[Stage]:
    """PostgreSQL and RabbitMQ of our own, gone at the end with whatever was started."""
    with PostgresServer() as postgres, RabbitmqServer() as rabbitmq, tempfile.TemporaryDirectory() as folder:
        stage = Stage(postgres, rabbitmq, Path(folder))
        try:
            yield stage
        finally:
            for process in reversed(stage.processes):
                process.kill()
