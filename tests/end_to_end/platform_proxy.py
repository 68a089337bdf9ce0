"""Stands between payhook and the sandbox, and lets the questions about chosen payments come to grief."""

import http.client
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import ClassVar, Literal, Self
from urllib.parse import urlsplit

from sandbox import callers

Grief = Literal["hangs", "breaks", "answers 500", "kills"]

#: Longer than any call may take.
HANGS_SECONDS = 30.0

PASSED_ON = ("Authorization", "Date", "X-GCS-ServerMetaInfo", "Content-Type")


class PlatformProxy:
    """Passes everything on as it came, but for the payments in ``grief``.

    Args:
        port: where it listens.
        target: the sandbox's URL.
    """

    def __init__(self, port: int, target: str):
        self.grief: dict[str, Grief] = {}
        self.seen: Counter[Grief] = Counter()
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
        grief = next((grief for payment, grief in self.proxy.grief.items() if f"/{payment}" in self.path), None)
        if grief is None:
            self._pass_on()
            return
        self.proxy.seen[grief] += 1
        self.close_connection = True
        if grief == "hangs":
            time.sleep(HANGS_SECONDS)
        elif grief == "answers 500":
            self._answer(500, "text/html", b"<h1>Internal Server Error</h1>")
        elif grief == "kills":
            callers.kill(self.client_address)

    def _pass_on(self) -> None:
        line = self._line()
        line.request("GET", self.path, headers={name: self.headers[name] for name in PASSED_ON if name in self.headers})
        answer = line.getresponse()
        self._answer(answer.status, answer.headers["Content-Type"] or "", answer.read())

    def _line(self) -> http.client.HTTPConnection:
        # One for each of payhook's own connections, and kept as long as that.
        if not hasattr(self, "_kept"):
            self._kept = http.client.HTTPConnection(self.target, timeout=HANGS_SECONDS)
        return self._kept

    def _answer(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
