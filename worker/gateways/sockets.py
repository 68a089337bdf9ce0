"""urllib3's connections, made to end on time: every connect, send and read gets what is left of the call.

A time-out of a socket is per read, so a server that sends a byte now and then outlasts any of them. Here the time-out
is set anew before every single read, whoever asks for it: status line, headers, chunk marks and body all come through
`_OnTime`. No thread has to watch, and nothing has to be closed from outside.
"""

import io
import queue
import socket
import threading
import time
from http.client import HTTPResponse
from typing import Any

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from worker.gateways.deadlines import Call, current_call

#: Load balancers forget a silent connection after a minute or so without telling: a request on it would be lost.
MAX_IDLE_SECONDS = 30.0


class _OnTime(io.RawIOBase):
    """The bytes of an answer as they come from the socket, each read within what is left of the call."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket):
        self._raw = raw
        self._sock = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        call = current_call()
        self._sock.settimeout(call.left())
        count = self._raw.readinto(buffer)
        call.take(count or 0)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any):
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_OnTime(self.fp.detach(), sock))


class _Plain(HTTPConnection):
    response_class = _Answer
    used_at = 0.0

    def _new_conn(self) -> socket.socket:
        return _connected(self._dns_host, self.port, self.socket_options)

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        call = current_call()
        self.sock.settimeout(call.left())
        call.sent = True
        self.used_at = time.monotonic()
        super().send(data)


class _Encrypted(_Plain, HTTPSConnection):
    """The same with TLS: what is above comes first, then what ``HTTPSConnection`` adds."""


class _Lending(HTTPConnectionPool):
    """A pool that hands its connections out and takes them back; no more than its size are out at a time."""

    def take(self, seconds: float) -> Any:
        """A connection, open or about to be; waits ``seconds`` for one to come back."""
        connection: Any = self._get_conn(timeout=seconds)
        if connection.sock is not None and time.monotonic() - connection.used_at > MAX_IDLE_SECONDS:
            connection.close()  # it opens itself again when it is used
        return connection

    def give_back(self, connection: Any, *, sound: bool) -> None:
        """Let others have the connection; one that is not sound is closed first, but its place is still needed."""
        if not sound:
            connection.close()
        self._put_conn(connection)


class PlainPool(_Lending):
    ConnectionCls = _Plain


class EncryptedPool(_Lending, HTTPSConnectionPool):
    ConnectionCls = _Encrypted


def _connected(host: str, port: int, options: Any) -> socket.socket:
    """A socket to the first address that answers; no address may use up the time of those after it."""
    call = current_call()
    until = time.monotonic() + min(call.left(), call.connect_seconds)
    found = _addresses(host, port, until - time.monotonic())
    failure: OSError = socket.gaierror(socket.EAI_NONAME, "no address")
    for waiting, (family, kind, protocol, _, address) in zip(range(len(found), 0, -1), found, strict=True):
        share = (until - time.monotonic()) / waiting
        if share <= 0:
            raise TimeoutError
        sock = socket.socket(family, kind, protocol)
        try:
            for option in options or ():
                sock.setsockopt(*option)
            sock.settimeout(share)
            sock.connect(address)
            sock.settimeout(_handshake_seconds(call))
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure


def _handshake_seconds(call: Call) -> float:
    """What is left for TLS, which takes its time-out, for the whole of the handshake, from the socket."""
    return min(call.left(), call.connect_seconds)


def _addresses(host: str, port: int, seconds: float) -> list[Any]:
    """Where a host is, asked on another thread: the resolver knows no time-out and cannot be interrupted."""
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass  # a name, then
    answer: queue.SimpleQueue[list[Any] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put(list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except Exception as error:
            answer.put(error)

    # Daemon: a resolver that hangs must not keep the process from leaving. It gives up by itself after a while.
    threading.Thread(target=ask, name="payhook-resolver", daemon=True).start()
    try:
        found = answer.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(found, Exception):
        raise found
    return found
