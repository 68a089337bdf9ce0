"""The installation of docker-compose.yml as processes on this machine: its commands, its settings, its nginx."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet
from sqlalchemy import create_engine

from sandbox import SandboxClient
from tests.deployment import compose
from tests.end_to_end.house import KEY_ID, SECRET, House
from tests.end_to_end.processes import Process, free_port
from tests.ingress.conftest import program
from tests.servers.nginx_server import NginxServer

INGRESSES = ("ingress-a", "ingress-b")
WORKERS = ("worker-1", "worker-2")


@dataclass
class Installation(House):
    """Each service of ours is a process; PostgreSQL, RabbitMQ and Redis are the tests' own, and real.

    Nothing is configured here but what differs from place to place: addresses, secrets and the merchant.
    """

    result_backend: str = ""
    folder: Path = field(default_factory=Path)

    def __post_init__(self) -> None:
        self.ports = {name: free_port() for name in INGRESSES}
        self.nginx = NginxServer(*self.ports.values())
        self.cwd, self.secrets = self.folder / "cwd", self.folder / "secrets"
        self.cwd.mkdir()
        self._write_secrets()
        self.engine = create_engine(self.database_url, pool_pre_ping=True)
        sandbox_url = f"http://127.0.0.1:{self.sandbox_port}"
        merchant = {"PAYHOOK_MERCHANT_ID": "sandbox", "PAYHOOK_API_KEY_ID": "sandbox-key"}
        self.services = compose.load({**merchant, "PAYHOOK_API_ENDPOINT": sandbox_url})["services"]
        platform = [program("payhook"), "sandbox", "--port", str(self.sandbox_port)]
        self.processes["sandbox"] = self.start("sandbox", *platform)
        self.sandbox = SandboxClient(sandbox_url)

    @property
    def url(self) -> str:
        return self.nginx.url

    @contextmanager
    def running(self) -> Iterator[None]:
        """Set up in the order of docs/deployment.md: the schema, a webhook key, everything else."""
        assert self.service("migrate").wait_until_ended() == 0
        self.add_webhook_key()
        for name in (*INGRESSES, *WORKERS):
            self.service(name)
        for name in (*INGRESSES, *WORKERS):
            self.wait_until_ready(name)
        self.processes["sandbox"].wait_until("sandbox at ")
        with self.nginx:
            yield

    def service(self, name: str, env: Mapping[str, str] | None = None) -> Process:
        """Start what a service runs."""
        command, cwd = self.command(name), self.cwd
        process = self.start(name, *command, env={**self.env_of(name), **(env or {})}, cwd=cwd)
        self.processes[name] = process
        return process

    def replace(self, name: str, env: Mapping[str, str]) -> None:
        """Stop a service as `docker compose up` does, and start its next version."""
        self.processes[name].terminate()
        self.service(name, env)
        self.wait_until_ready(name)

    def wait_until_ready(self, name: str) -> None:
        port = self.ports.get(name)
        ready = f"http://127.0.0.1:{port}/health/ready" if port else r"payhook-\d+@.* ready"
        self.processes[name].wait_until(ready)

    def add_webhook_key(self) -> None:
        """From a file, in the environment of an ingress."""
        secret = self.secrets / "webhook"
        secret.write_text(SECRET)
        command: list[str | Path] = [program(compose.entrypoint()), "keys", "add", KEY_ID, "--secret-file", secret]
        assert self.start("keys", *command, env=self.env_of("ingress-a"), cwd=self.cwd).wait_until_ended() == 0

    def is_healthy(self, name: str) -> bool:
        """What the service's own health check says, run beside the process it is about."""
        kind, *words = self._described(name)["healthcheck"]["test"]
        here = {"127.0.0.1:8443": f"127.0.0.1:{self.nginx.port}", "8080": str(self.ports.get(name))}
        if name in WORKERS:
            here["payhook-1@"] = f"payhook-{self.processes[name].pid}@"
        for shipped, ours in here.items():
            words = [word.replace(shipped, ours) for word in words]
        path = f"{program('python').parent}{os.pathsep}{os.environ['PATH']}"
        command = words if kind == "CMD" else ["/bin/sh", "-c", *words]
        env = {**self.env_of(name), "PATH": path}
        return subprocess.run(command, env=env, cwd=self.cwd, capture_output=True, timeout=30).returncode == 0

    def command(self, name: str) -> list[str | Path]:
        """The image's program with the service's arguments, listening on a port of the test's."""
        words = [str(word) for word in self._described(name)["command"]]
        here = {"0.0.0.0": "127.0.0.1", "8080": str(self.ports.get(name))}
        return [program(compose.entrypoint()), *(here.get(word, word) for word in words)]

    def env_of(self, name: str) -> dict[str, str]:
        return compose.environment(self._described(name), self.secrets)

    def _described(self, name: str) -> dict[str, Any]:
        described: dict[str, Any] = self.services[name if name in self.services else name.split("-")[0]]
        return described

    def _write_secrets(self) -> None:
        self.secrets.mkdir()
        for name, content in {
            "database_url": self.database_url,
            "broker_url": self.broker_url,
            "result_backend": self.result_backend,
            "encryption_keys": Fernet.generate_key().decode(),
            "api_secret": "sandbox-secret",
        }.items():
            (self.secrets / name).write_text(f"{content}\n")
