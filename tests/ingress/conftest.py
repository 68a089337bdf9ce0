"""An ingress of its own for every test, events signed as the platform signs them, and the real programs."""

import base64
import hashlib
import hmac
import json
import logging
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import structlog
from flask.testing import FlaskClient
from sqlalchemy import Row, select
from werkzeug.test import TestResponse

from ingress import create_app
from ingress.desk import Desk, open_desk
from tests.end_to_end.processes import Process
from worker.database import migrate
from worker.models import WebhookEvent
from worker.settings import Settings

KEY_ID = "dummy-key-id"
SECRET = "hello+world"

numbers = count(1)


def signature_of(body: bytes, secret: str = SECRET) -> str:
    """Base64 of the HMAC over the exact bytes, as the platform's reference has it; no code of ours, nor of the SDK."""
    return base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()


def signed(body: bytes, *, key_id: str = KEY_ID, secret: str = SECRET) -> dict[str, str]:
    """The headers of a genuine webhook."""
    return {
        "Content-Type": "application/json",
        "X-GCS-KeyId": key_id,
        "X-GCS-Signature": signature_of(body, secret),
        "retry-count": "0",
    }


def event_body(**changes: Any) -> bytes:
    """An event like no other."""
    number = next(numbers)
    document = {
        "apiVersion": "v1",
        "id": f"0f09e8b2-0000-4000-8000-{number:012d}",
        "created": "2026-01-23T09:51:27.9529667+01:00",
        "merchantId": "acme",
        "type": "payment.captured",
        "payment": {"id": f"{3254564310 + number}_1"},
        **changes,
    }
    return json.dumps(document, separators=(",", ":")).encode()


@dataclass
class HeardRings:
    """A doorbell that nobody answers, and that remembers who rang."""

    rung: list[int] = field(default_factory=list)
    delivering: bool = True

    def ring(self, task: str, keys: Iterable[int], *, alone: bool = False) -> None:
        assert task == "payhook.events"
        self.rung += keys

    def state(self) -> dict[str, Any]:
        return {"ok": self.delivering, "dropped": 0, "waiting": 0}


@dataclass
class House:
    """An ingress, and what was stored behind it."""

    desk: Desk
    client: FlaskClient
    doorbell: HeardRings

    def post(self, body: bytes, headers: dict[str, str] | None = None, **request: Any) -> TestResponse:
        """A webhook; genuine unless other headers are given."""
        return self.client.post("/webhooks", data=body, headers=signed(body) if headers is None else headers, **request)

    def rows(self) -> list[Row[Any]]:
        with self.desk.database.reading() as connection:
            return list(connection.execute(select(WebhookEvent.__table__).order_by(WebhookEvent.event_key)))


OpenHouse = Callable[..., House]


@pytest.fixture(scope="session")
def migrated_sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the schema in it, to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "payhook.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(migrated_sqlite_file: Path, tmp_path: Path) -> str:
    """A migrated SQLite database."""
    shutil.copy(migrated_sqlite_file, tmp_path / "payhook.db")
    return f"sqlite:///{tmp_path / 'payhook.db'}"


@pytest.fixture
def logs_as_they_were() -> Iterator[None]:
    """An application sets up the logs of its whole process; that is undone."""
    root = logging.getLogger()
    handlers, level, configuration = root.handlers[:], root.level, structlog.get_config()
    yield
    root.handlers[:], root.level = handlers, level
    structlog.configure(**configuration)


@pytest.fixture
def settings_of(sqlite_url: str) -> Callable[..., Settings]:
    """Settings of an ingress on SQLite with one key; ``.env`` is not read."""

    def make(**given: Any) -> Settings:
        usual = {"database_url": sqlite_url, "key_store": "memory:", "webhook_keys": f"{KEY_ID}={SECRET}"}
        return Settings(_env_file=None, **{**usual, **given})

    return make


@pytest.fixture
def open_house(settings_of: Callable[..., Settings], logs_as_they_were: None) -> Iterator[OpenHouse]:
    """Makes an ingress of settings."""
    desks: list[Desk] = []

    def make(**given: Any) -> House:
        settings, doorbell = settings_of(**given), HeardRings()
        desks.append(open_desk(settings, doorbell))  # type: ignore[arg-type]
        return House(desks[-1], create_app(settings, desks[-1]).test_client(), doorbell)

    yield make
    for desk in desks:
        desk.ring.close()
        desk.database.close()


@pytest.fixture
def house(open_house: OpenHouse) -> House:
    """An ingress that knows one key, and no merchant."""
    return open_house()


Start = Callable[..., Process]


def program(name: str) -> Path:
    """A program that is installed beside the interpreter of the tests."""
    return Path(sys.executable).parent / name


def without_proxies(**settings: str) -> dict[str, str]:
    """Settings under their full names; nothing else of ours leaks into a process of a test."""
    return {f"PAYHOOK_{name}": value for name, value in settings.items()}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a program in the test's own folder, with settings given without their prefix; it ends with the test."""
    processes: list[Process] = []

    def start_one(*command: str | Path, **settings: str) -> Process:
        name = f"{Path(command[0]).name}-{len(processes)}"
        process = Process(name, command, folder=tmp_path, env=without_proxies(**settings), cwd=tmp_path)
        processes.append(process)
        process.start()
        return process

    yield start_one
    for process in processes:
        process.kill()
