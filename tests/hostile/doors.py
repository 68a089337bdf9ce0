"""The doors that strangers reach: `payhook up`, and nginx before `payhook serve`; and what came out of them."""

import contextlib
import json
import re
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import create_engine, func, select

from tests.end_to_end.processes import Process
from tests.hostile.bodies import CANARY, CARD_NUMBERS
from tests.ingress.conftest import event_body, program, signature_of
from tests.servers.nginx_server import NginxServer, trusting
from tests.servers.ports import free_port
from worker.database import migrate
from worker.models import WebhookEvent

KEY_ID, SECRET = "hostile-key", "secret-of-the-hostile-corpus-7d41"
API_SECRET = "api-secret-of-the-hostile-corpus-5a3b"

#: Nowhere in what is said or answered.
SECRETS = (SECRET, API_SECRET, CANARY, *CARD_NUMBERS)

#: How a fault shows itself to strangers.
TRACES = (b"Traceback", b'File "', b".py", b"site-packages", b"Werkzeug", b"waitress/", b"gunicorn/", b"nginx/")

_TLS = trusting()
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
_CONSOLE_RECORD = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")

#: A server that waits for more is left after this; what it had to say, it has said.
WAIT_SECONDS = 1.0


@dataclass
class Door:
    """One of them, and everything that may be asked of it.

    Args:
        name: `up`, `serve`, or `nginx`, which stands before a `serve`.
        folder: for its database and its log.
    """

    name: str
    folder: Path
    process: Process = field(init=False)
    nginx: NginxServer | None = None

    def __post_init__(self) -> None:
        url, port = f"sqlite:///{self.folder / 'payhook.db'}", free_port()
        migrate(url)
        command = "up" if self.name == "up" else "serve"
        settings = {
            "DATABASE_URL": url,
            "KEY_STORE": "memory:",
            "WEBHOOK_KEYS": f"{KEY_ID}={SECRET}",
            "MERCHANT_ID": "acme",
            "API_KEY_ID": "key",
            "API_SECRET": API_SECRET,
            "API_ENDPOINT": f"http://127.0.0.1:{free_port()}",
            # Each format of the log has its own ways of being fooled.
            "LOG_FORMAT": "console" if self.name == "up" else "json",
        }
        if command == "serve":
            settings["BROKER_URL"] = f"amqp://127.0.0.1:{free_port()}//"
        self.engine = create_engine(url)
        self.port = port
        self.process = Process(
            self.name,
            [program("payhook"), command, "--port", str(port)],
            folder=self.folder,
            env={f"PAYHOOK_{name}": value for name, value in settings.items()},
            cwd=self.folder,
        )

    @contextlib.contextmanager
    def opened(self) -> Iterator["Door"]:
        """Runs, until it is left."""
        self.process.start()
        try:
            self.process.wait_until(f"http://127.0.0.1:{self.port}/health/live")
            if self.name == "nginx":
                self.nginx = NginxServer(self.port, self.port)
                self.nginx.start()
                self.port = self.nginx.port
            yield self
        finally:
            self.process.kill()
            if self.nginx:
                self.nginx.close()
            self.engine.dispose()

    def connect(self) -> socket.socket:
        line = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        return _TLS.wrap_socket(line) if self.nginx else line

    def send(self, data: bytes, seconds: float = WAIT_SECONDS) -> bytes:
        """Everything that is answered to what is sent as it stands, until the server hangs up or has no more to say."""
        answer = b""
        with contextlib.suppress(OSError, ssl.SSLError), self.connect() as line:
            line.settimeout(10)
            # A server that refuses early resets the connection: its answer may be lost then, and that is its right.
            with contextlib.suppress(ConnectionResetError, BrokenPipeError, ssl.SSLError):
                line.sendall(data)
            line.settimeout(seconds)
            while more := line.recv(65536):
                answer += more
        return answer

    def stored(self, body: bytes) -> int:
        """How many rows there are of a body."""
        with self.engine.connect() as connection:
            count = select(func.count()).select_from(WebhookEvent).where(WebhookEvent.body == body)
            return connection.execute(count).scalar_one()

    def said(self) -> str:
        """What its processes have written so far."""
        log = self.nginx.log.read_text(errors="replace") if self.nginx else ""
        return self.process.output() + log


def statuses(answer: bytes) -> list[int]:
    """The status of every answer there was; an invitation to go on is none."""
    return [int(status) for status in _STATUS.findall(answer) if not status.startswith(b"1")]


def request(body: bytes, *lines: bytes, close: bool = False) -> bytes:
    """A POST with its length, and these headers."""
    closing = [b"Connection: close"] if close else []
    begin = [b"POST /webhooks HTTP/1.1", b"Host: x", *closing, b"Content-Length: %d" % len(body)]
    return b"\r\n".join([*begin, *lines, b"", body])


def genuine(body: bytes, *lines: bytes, close: bool = False) -> bytes:
    """The same, and what makes it genuine."""
    signature = signature_of(body, SECRET).encode()
    return request(body, b"X-GCS-KeyId: " + KEY_ID.encode(), b"X-GCS-Signature: " + signature, *lines, close=close)


def takes_events(door: Door) -> bool:
    """Whether a genuine event is stored and answered."""
    body = event_body()
    return statuses(door.send(genuine(body, close=True), 10)) == [204] and door.stored(body) == 1


def forged_lines(door: Door) -> list[str]:
    """Lines of its log that none of our records begins, or that a terminal would obey."""
    lines = door.process.output().split("\n")
    if door.name == "up":
        own = [line for line in lines if line and not line.startswith("    ") and not _CONSOLE_RECORD.match(line)]
        return own + [line for line in lines if not line.isprintable()]
    return [line for line in lines if line and not (_is_json(line) and line.isascii() and line.isprintable())]


def _is_json(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def given_away(text: bytes) -> list[str]:
    """What of our secrets, and of what only strangers should know, is in it."""
    return [secret for secret in SECRETS if secret.encode() in text]


def wait_a_moment() -> None:
    """For what is written after an answer."""
    time.sleep(0.3)
