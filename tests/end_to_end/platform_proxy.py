"""Stands between payhook and the sandbox, notes what is asked when, and lets chosen questions come to grief."""

import http.client
import threading
import time
from collections import Counter
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import ClassVar, Literal, Self
from urllib.parse import urlsplit

from sandbox import callers

Grief = Literal["hangs", "breaks", "answers 500", "kills"]

#: Longer than any call may take.
HANGS_SECONDS = 30.0

PASSED_ON = ("Authorization", "Date", "X-GCS-ServerMetaInfo", "X-GCS-Idempotence-Key", "Content-Type")
ANSWERED = ("Content-Type", "Retry-After", "X-GCS-Idempotence-Request-Timestamp")


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the platform's API."""

    at: float  # wall clock, seconds since 1970
    merchant_id: str
    payment_id: str  # canonical
    moves_money: bool


class PlatformProxy:
    """Passes everything on as it came, but for the payments in ``grief``; nothing at all while ``away``.

    Args:
        port: where it listens.
        target: the sandbox's URL.
    """

    def __init__(self, port: int, target: str):
        self.grief: dict[str, Grief] = {}
        self.away: Grief | None = None
        self.seen: Counter[Grief] = Counter()
        self.calls: list[Call] = []
        handler = type("Handler", (_Handler,), {"proxy": self, "target": urlsplit(target).netloc})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="platform-proxy", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    proxy: ClassVar[PlatformProxy]
    target: ClassVar[str]

    def do_GET(self) -> None:
        self._meet(b"")

    def do_POST(self) -> None:
        self._meet(self.rfile.read(int(self.headers["Content-Length"] or 0)))

    def _meet(self, body: bytes) -> None:
        _, _, merchant_id, _, payment_id, *_ = [*self.path.partition("?")[0].split("/"), "", ""]
        self.proxy.calls.append(Call(time.time(), merchant_id, payment_id.split("_")[0], self.command == "POST"))
        of_payment = next((grief for payment, grief in self.proxy.grief.items() if f"/{payment}" in self.path), None)
        grief = self.proxy.away or of_payment
        if grief is None:
            self._pass_on(body)
            return
        self.proxy.seen[grief] += 1
        self.close_connection = True
        if grief == "hangs":
            time.sleep(HANGS_SECONDS)
        elif grief == "answers 500":
            self._answer(500, {"Content-Type": "text/html"}, b"<h1>Internal Server Error</h1>")
        elif grief == "kills":
            callers.kill(self.client_address)

    def _pass_on(self, body: bytes) -> None:
        line = self._line()
        headers = {name: self.headers[name] for name in PASSED_ON if name in self.headers}
        line.request(self.command, self.path, body=body or None, headers=headers)
        answer = line.getresponse()
        kept = {name: answer.headers[name] for name in ANSWERED if name in answer.headers}
        self._answer(answer.status, kept, answer.read())

    def _line(self) -> http.client.HTTPConnection:
        # One for each of payhook's own connections, and kept as long as that.
        if not hasattr(self, "_kept"):
            self._kept = http.client.HTTPConnection(self.target, timeout=HANGS_SECONDS)
        return self._kept

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
