"""The socket: reads requests, has them decided, writes the answers."""

import contextlib
import logging
import socket
import socketserver
import threading
import time
from collections.abc import Callable

from sandbox import transport
from sandbox.wire import Answer, Malformed, Request, read_request

log = logging.getLogger(__name__)

CLOSE_SECONDS = 0.02  # between two looks whether to stop accepting

Decide = Callable[[Request], Answer]


class Connection(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    server: "Server"

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # the client went away: nobody is left to tell
            while self._one_exchange():
                pass

    def _one_exchange(self) -> bool:
        """Read, decide, send. False when the connection is to be closed."""
        try:
            request = read_request(self.rfile, self.client_address)
        except Malformed as problem:
            return self._send(Answer.json(400, {"error": str(problem)}), closes=True)
        if request is None:
            return False
        self.server.open[self.connection] = request.path
        answer = self._decide(request)
        if answer.after_seconds:
            time.sleep(answer.after_seconds)
        if answer.transport == "refuse":
            self.server.refuse(answer.seconds)
        return self._send(answer, closes=request.closes)

    def _decide(self, request: Request) -> Answer:
        try:
            return self.server.decide(request)
        except Exception:  # a mistake of ours must not look like a connection that broke
            log.exception("%s %s could not be answered", request.method, request.target)
            return Answer.json(500, {"error": "the sandbox itself failed; its log says why"})

    def _send(self, answer: Answer, *, closes: bool) -> bool:
        return transport.send(self.connection, answer, closes=closes, leaving=self.server.leaving)


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """A thread per connection; all of them daemons, so that the process can always leave."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 512  # a burst of new connections is queued, not refused

    def __init__(self, host: str, port: int, decide: Decide):
        super().__init__((host, port), Connection)
        self.decide = decide
        self.leaving = threading.Event()
        self.open: dict[socket.socket, str] = {}  # connections, with the path each was last asked for
        self._door = threading.Lock()  # who holds it opens and closes the listening socket

    @property
    def url(self) -> str:
        host, port = self.server_address[0], self.server_address[1]
        return f"http://{host!s}:{port}"

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, args=(CLOSE_SECONDS,), name="sandbox-accept", daemon=True).start()

    def close(self) -> None:
        self.leaving.set()
        with self._door:
            self.shutdown()
            self.server_close()
            self._cut("/")

    def refuse(self, seconds: float) -> None:
        """Refuse every new connection for so long, and cut those of the platform's API; does not wait for it."""
        threading.Thread(target=self._refuse, args=(seconds,), name="sandbox-refusal", daemon=True).start()

    def _refuse(self, seconds: float) -> None:
        with self._door:
            if self.leaving.is_set():
                return
            self.shutdown()
            self.server_close()
            self._cut("/v2/")
            self.leaving.wait(seconds)
            self.socket = socket.socket(self.address_family, self.socket_type)
            self.server_bind()  # to the address it had
            self.server_activate()
            self.start()

    def _cut(self, path: str) -> None:
        """End the connections that were last asked for such a path: kept alive, they would go on being answered."""
        for connection, asked in list(self.open.items()):
            if asked.startswith(path):
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def process_request_thread(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        self.open[request] = "/"
        try:
            super().process_request_thread(request, client_address)
        finally:
            del self.open[request]
