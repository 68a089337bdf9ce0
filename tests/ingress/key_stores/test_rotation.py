"""Keys and encryption are changed under traffic: nothing genuine is refused, and nothing else accepted."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path

import psutil
import psycopg
import pytest
from cryptography.fernet import Fernet

from ingress.key_stores import InMemoryKeyStore, KeyRing
from ingress.key_stores.conformance import key
from ingress.signatures import Forged, Genuine, Signatures
from tests.end_to_end.processes import Process
from tests.ingress.conftest import Start, event_body, program, signature_of, signed
from tests.servers.ports import free_port
from worker.database import migrate

SECRETS = {"old": "the old secret, of some length", "new": "the new secret, of some length"}

#: When the platform sends a webhook again, in minutes after the first time.
RETRIES = (0, 10, 70, 190, 670, 2110)

#: What DESIGN promises, and what a busy machine may add to a second.
REMOVED_WITHIN, NEW_WITHIN = 5.0, 1.0 + 0.5


@pytest.mark.parametrize("minutes", RETRIES)
def test_what_was_signed_with_a_retired_key_verifies_at_every_retry(
    minutes: int, key_ring_over: Callable[..., KeyRing], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sent for the first time in the last second before the retirement: 36 hours cover it, a minute more does not."""
    retired = datetime(2030, 1, 31, 12, tzinfo=UTC)
    at = [retired]
    monkeypatch.setattr(time, "time", lambda: at[0].timestamp())
    keys = {"old": key(SECRETS["old"], not_after=retired + timedelta(hours=36)), "new": key(SECRETS["new"])}
    signatures, body = Signatures(key_ring_over(InMemoryKeyStore(keys))), event_body()

    def verify(key_id: str) -> Genuine:
        return signatures.verify(body, [key_id], [signature_of(body, SECRETS[key_id])])

    at[0] = retired + timedelta(minutes=minutes, seconds=-1)
    assert [verify(key_id).key_id for key_id in ("old", "new")] == ["old", "new"]
    at[0] = retired + timedelta(hours=36)
    assert verify("new").key_id == "new"
    with pytest.raises(Forged, match="expired-key"):
        verify("old")


def process_behind(server: Process, connection: HTTPConnection) -> int | None:
    """Which of a server's processes holds the other end of a connection."""
    here = connection.sock.getsockname()[1]
    for pid in server.children():
        ends = psutil.Process(pid).net_connections("tcp4")
        if any(end.raddr and end.raddr.port == here for end in ends):
            return pid
    return None


def send(connection: HTTPConnection, key_id: str, body: bytes | None = None) -> int:
    body = body or event_body()
    connection.request("POST", "/webhooks", body, signed(body, key_id=key_id, secret=SECRETS[key_id]))
    answer = connection.getresponse()
    answer.read()
    return answer.status


@dataclass
class Serving:
    """`payhook serve` on PostgreSQL, and one connection to each of its processes."""

    server: Process
    port: int
    connections: dict[int, HTTPConnection] = field(default_factory=dict)

    def connect(self) -> dict[int, HTTPConnection]:
        """A kept connection to each of its two processes."""
        found: dict[int, HTTPConnection] = {}
        for _ in range(200):
            connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
            connection.request("GET", "/health/live")
            connection.getresponse().read()
            pid = process_behind(self.server, connection)
            if pid is not None and pid not in found:
                found[pid] = connection
            else:
                connection.close()
            if len(found) == 2:
                return found
        raise AssertionError(f"one process only answers: {list(found)}")

    def seconds_until(self, status: int, key_id: str) -> float:
        """How long each process takes until it answers so, the slowest of them; it must stay so for a while."""
        began, body, took = time.monotonic(), event_body(), 0.0
        for connection in self.connections.values():
            while send(connection, key_id, body) != status:
                assert time.monotonic() - began < 3 * REMOVED_WITHIN
                time.sleep(0.05)
            took = max(took, time.monotonic() - began)
        assert [send(one, key_id, body) for _ in range(10) for one in self.connections.values()] == [status] * 20
        return took


class Traffic:
    """Genuine webhooks, 50 a second to each process, signed with the keys the portal has at the time."""

    def __init__(self, serving: Serving):
        self.key_ids = ["old"]
        self.answers: list[tuple[str, int]] = []
        self._done = threading.Event()
        connections = serving.connect().values()
        self._threads = [threading.Thread(target=self._send, args=(one,)) for one in connections]
        for thread in self._threads:
            thread.start()

    def _send(self, connection: HTTPConnection) -> None:
        while not self._done.wait(0.02):
            for key_id in self.key_ids[:]:
                self.answers.append((key_id, send(connection, key_id)))

    def signed_with(self, *key_ids: str) -> None:
        """From now on; what was under way is answered first."""
        self.key_ids[:] = key_ids
        time.sleep(0.3)

    def end(self) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def encryption() -> tuple[str, str]:
    """An old encryption key and a new one."""
    return Fernet.generate_key().decode(), Fernet.generate_key().decode()


@pytest.fixture
def keys(postgres_url: str, tmp_path: Path, encryption: tuple[str, str]) -> Callable[..., str]:
    """Runs `payhook keys`, and gives what it says."""
    migrate(postgres_url)
    old, new = encryption
    settings = {"PAYHOOK_DATABASE_URL": postgres_url, "PAYHOOK_ENCRYPTION_KEYS": f"{new},{old}"}

    def run(*words: str, stdin: str = "", **changes: str) -> str:
        command: list[str | Path] = [program("payhook"), "keys", *words]
        environment = {**settings, **changes}
        ended = subprocess.run(command, input=stdin, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        return str(ended.stdout)

    return run


@pytest.fixture
def serving(
    start: Start, keys: Callable[..., str], postgres_url: str, encryption: tuple[str, str]
) -> Iterator[Serving]:
    """Two processes that know the old webhook key, and both encryption keys; the old one encrypts what is there."""
    old, new = encryption
    keys("add", "old", stdin=SECRETS["old"], PAYHOOK_ENCRYPTION_KEYS=old)
    port = free_port()
    server = start(
        *(program("payhook"), "serve", "--port", str(port)),
        DATABASE_URL=postgres_url,
        BROKER_URL=f"amqp://127.0.0.1:{free_port()}//",
        ENCRYPTION_KEYS=f"{new},{old}",
    )
    server.wait_until(f"http://127.0.0.1:{port}/health/live")
    serving = Serving(server, port)
    serving.connections = serving.connect()
    yield serving
    for connection in serving.connections.values():
        connection.close()


@pytest.mark.alone
def test_keys_and_encryption_change_under_traffic(
    serving: Serving, keys: Callable[..., str], postgres_url: str, encryption: tuple[str, str]
) -> None:
    """Added, encrypted anew, retired, removed: each process follows in time, and no genuine webhook is refused."""
    traffic = Traffic(serving)
    try:
        assert serving.seconds_until(401, "new") < 1
        keys("add", "new", stdin=SECRETS["new"], PAYHOOK_ENCRYPTION_KEYS=encryption[0])
        new_after = serving.seconds_until(204, "new")
        traffic.signed_with("old", "new")
        rotated = keys("rotate-encryption")
        keys("retire", "old")
        retired_still = serving.seconds_until(204, "old")
        time.sleep(REMOVED_WITHIN)  # every process has read the rows as they are now
        traffic.signed_with("new")
        listed = keys("list")
        keys("remove", "old")
        removed_after = serving.seconds_until(401, "old")
    finally:
        traffic.end()

    assert {status for _, status in traffic.answers} == {204}
    assert len(traffic.answers) > 100
    assert new_after <= NEW_WITHIN
    assert removed_after <= REMOVED_WITHIN
    assert retired_still < 1
    assert rotated == "2 encrypted anew, 0 were already.\n"
    rows = {line.split()[0]: line.split() for line in listed.splitlines()[1:]}
    assert (rows["old"][1], rows["new"][1]) == ("retired", "active")
    assert "-" not in (rows["old"][5], rows["new"][5])  # last used
    assert updates_of_keys(postgres_url) <= 15
    assert [secret for secret in SECRETS.values() if secret in serving.server.output()] == []


def updates_of_keys(url: str) -> int:
    """How often a row of keys was changed, as PostgreSQL counts it."""
    time.sleep(1.5)  # its counts follow by a second
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        row = connection.execute("SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'webhook_keys'").fetchone()
    assert row is not None
    return int(row[0])
