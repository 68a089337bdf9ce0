"""The SDK's way to the platform, as we want it: no redirects, no proxies, no retries, and over in time."""

import gzip
import ssl
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from functools import cache
from typing import Any
from urllib.parse import ParseResult, urlparse

from onlinepayments.sdk.communication.communication_exception import CommunicationException
from onlinepayments.sdk.communication.multipart_form_data_object import MultipartFormDataObject
from onlinepayments.sdk.communication.pooled_connection import PooledConnection
from onlinepayments.sdk.communication.request_header import RequestHeader
from onlinepayments.sdk.log.body_obfuscator import BodyObfuscator
from onlinepayments.sdk.log.communicator_logger import CommunicatorLogger
from onlinepayments.sdk.log.header_obfuscator import HeaderObfuscator
from requests.certs import where  # type: ignore[attr-defined]
from urllib3.exceptions import HTTPError

from worker.gateways import deadlines
from worker.gateways.call_log import BODY_OBFUSCATOR, HEADER_OBFUSCATOR, CallLog
from worker.gateways.deadlines import AnswerTooLarge, Call
from worker.gateways.sockets import EncryptedPool, PlainPool

#: The longest answer, as it travels and again when it is unpacked. Real ones have a few KiB.
ANSWER_LIMIT = 1024 * 1024
#: Room beside the body for headers and the marks between chunks.
HEADER_LIMIT = 64 * 1024

Response = tuple[int, Mapping[str, str], Iterable[bytes]]


class NeverLeft(Exception):
    """No byte of the request was sent: nothing can have come of it."""

    def __init__(self, told: str):
        super().__init__(told)
        self.told = told


class AnswerLost(Exception):
    """The request may have been heard, but no whole answer came back."""

    def __init__(self, told: str):
        super().__init__(told)
        self.told = told


class PlatformConnection(PooledConnection):  # type: ignore[misc]  # the SDK has no types
    """A pool of connections to one host. Thread-safe; made after fork.

    The SDK's own connection follows redirects (a capture answered 302 comes back as a success), lets the environment's
    proxies and ``~/.netrc`` change where a call goes and as whom, and limits each read instead of the call.

    Args:
        endpoint: scheme and host, the only ones ever called.
        call_seconds: the longest a call may take, by the wall clock; a `deadline` around it can only shorten it.
        connect_seconds: the longest part of that for reaching the platform, TLS included.
        pool_size: connections at a time; further callers wait for one, within their own time.
        tls: whom to trust; the public authorities when not given.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        call_seconds: float,
        connect_seconds: float,
        pool_size: int,
        tls: ssl.SSLContext | None = None,
    ):
        url = urlparse(endpoint)
        self._origin = (url.scheme, url.netloc)
        self._call_seconds = call_seconds
        self._connect_seconds = connect_seconds
        settings: dict[str, Any] = {"maxsize": pool_size, "block": True, "retries": False}
        self._pool: PlainPool | EncryptedPool
        if url.scheme == "https":
            self._pool = EncryptedPool(url.hostname or "", url.port, ssl_context=tls or _public_trust(), **settings)
        else:
            self._pool = PlainPool(url.hostname or "", url.port, **settings)
        self._bodies, self._headers = BODY_OBFUSCATOR, HEADER_OBFUSCATOR
        self._logger: CommunicatorLogger | None = None
        self._log: CallLog | None = None
        #: The ``Date`` of the latest answer and our time at which it came, of which the doctor makes the skew.
        self.time_told: tuple[str | None, float] | None = None

    def get(self, url: ParseResult | str, request_headers: Sequence[RequestHeader]) -> Response:
        return self._request("GET", url, request_headers)

    def delete(self, url: ParseResult | str, request_headers: Sequence[RequestHeader]) -> Response:
        return self._request("DELETE", url, request_headers)

    def post(self, url: ParseResult | str, request_headers: Sequence[RequestHeader], body: Any) -> Response:
        return self._request("POST", url, request_headers, body)

    def put(self, url: ParseResult | str, request_headers: Sequence[RequestHeader], body: Any) -> Response:
        return self._request("PUT", url, request_headers, body)

    def _request(
        self, method: str, url: ParseResult | str, request_headers: Sequence[RequestHeader], body: Any = None
    ) -> Response:
        """Make one call, all of it: the answer's body is read here, where the time is watched.

        Raises:
            CommunicationException: its cause is `NeverLeft` or `AnswerLost`, made of class names only.
        """
        if isinstance(body, MultipartFormDataObject):
            raise NotImplementedError("file uploads are not supported by this connection")
        headers = {header.name: header.value for header in request_headers or ()}
        started = time.monotonic()
        log, request_id = self._log, ""
        if log is not None:
            request_id = log.request(method, urlparse(_text(url)).path, headers, body)
        with deadlines.call(self._call_seconds, self._connect_seconds, ANSWER_LIMIT + HEADER_LIMIT) as call:
            lost: NeverLeft | AnswerLost | None = None
            try:
                status, answered, content = self._exchange(call, method, url, headers, body)
            except Exception as error:
                lost = AnswerLost(_told(error)) if call.sent else NeverLeft(_told(error))
        if lost is not None:
            if log is not None:
                log.failure(request_id, lost.told)
            raise CommunicationException(lost)  # outside the except: what was caught may quote the answer
        self.time_told = answered.get("date"), time.time()
        if log is not None:
            log.response(request_id, status, answered.items(), content, time.monotonic() - started)
        return status, answered, (content,)

    def _exchange(
        self, call: Call, method: str, url: ParseResult | str, headers: dict[str, str], body: Any
    ) -> tuple[int, Mapping[str, str], bytes]:
        parsed = urlparse(_text(url))
        if (parsed.scheme, parsed.netloc) != self._origin:
            raise ValueError  # another host: the endpoint is the only one our key is shown to
        target = parsed.path + (f"?{parsed.query}" if parsed.query else "")
        content = _bytes(body, headers)
        # Answers are small: packing them costs more than their bytes. What comes packed all the same is unpacked.
        headers = {"Accept-Encoding": "identity", "User-Agent": "payhook", **headers}
        line, sound = self._pool.take(call.left()), False
        try:
            # Not by the pool's own urlopen: that one knows of redirects and retries, and returns the connection to
            # the pool as soon as a body is read, before we could say that it is not to be used again.
            line.request(method, target, content, headers, preload_content=False, decode_content=False)
            response = line.getresponse()
            answer = _read(response)
            sound = response.status < 300 or 400 <= response.status < 500
        finally:
            self._pool.give_back(line, sound=sound)
        return response.status, response.headers, answer

    def enable_logging(self, communicator_logger: CommunicatorLogger) -> None:
        """Log every call, masked, to the SDK logger given."""
        self._logger = communicator_logger
        self._log = CallLog(communicator_logger, self._bodies, self._headers)

    def disable_logging(self) -> None:
        """Log nothing, which costs nothing: the state calls begin in."""
        self._logger = self._log = None

    def set_body_obfuscator(self, body_obfuscator: BodyObfuscator) -> None:
        """Mask bodies in another way than `BODY_OBFUSCATOR` does."""
        self._bodies = body_obfuscator
        if self._logger is not None:
            self.enable_logging(self._logger)

    def set_header_obfuscator(self, header_obfuscator: HeaderObfuscator) -> None:
        """Mask headers in another way than `HEADER_OBFUSCATOR` does."""
        self._headers = header_obfuscator
        if self._logger is not None:
            self.enable_logging(self._logger)

    def close_idle_connections(self, idle_time: timedelta) -> None:
        """Nothing to do: a connection that was silent for too long is closed before it is used again."""

    def close_expired_connections(self) -> None:
        """Nothing to do, as above."""

    def close(self) -> None:
        """Close every connection; calls after it never leave."""
        self._pool.close()


@cache
def _public_trust() -> ssl.SSLContext:
    """Certificates and host names verified against the bundle ``requests`` ships, which the SDK's own way uses too."""
    return ssl.create_default_context(cafile=where())


def _text(url: ParseResult | str) -> str:
    return url if isinstance(url, str) else url.geturl()


def _bytes(body: str | bytes | None, headers: Mapping[str, str]) -> bytes | None:
    """The body as it is sent; packed when the SDK has said so in a header, which it leaves to the connection."""
    if body is None:
        return None
    raw = body.encode() if isinstance(body, str) else body
    packed = any(name.lower() == "content-encoding" and "gzip" in value.lower() for name, value in headers.items())
    return gzip.compress(raw) if packed else raw


def _read(response: Any) -> bytes:
    """The whole body, unpacked, within `ANSWER_LIMIT` on the wire and again unpacked.

    Read piece by piece with ``read1``: asked for a length the server only claims, Python would reserve it all at once.
    """
    pieces, size = [], 0
    while piece := response.read1(65536):
        pieces.append(piece)
        size += len(piece)
        if size > ANSWER_LIMIT:
            raise AnswerTooLarge
    content = b"".join(pieces)
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("identity", ""):
        return content
    if encoding not in ("gzip", "x-gzip"):
        raise ValueError  # packed in a way we did not ask for
    unpacking = zlib.decompressobj(wbits=31)
    content = unpacking.decompress(content, ANSWER_LIMIT + 1)
    if len(content) > ANSWER_LIMIT:
        raise AnswerTooLarge
    if not unpacking.eof:
        raise EOFError
    return content


def _told(error: Exception) -> str:
    """The class of an error and of the one inside it; their words may quote what was received."""
    names = [type(error).__name__]
    if isinstance(error, HTTPError):
        names += [type(inner).__name__ for inner in (*error.args, error.__cause__) if isinstance(inner, Exception)][:1]
    return " of ".join(dict.fromkeys(names))
