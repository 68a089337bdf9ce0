"""HTTP/1.1 as bytes: a request read from a stream, an answer made ready to be sent.

By hand rather than with ``http.server``: its header parsing costs more than everything else a GET does here, and the
platform's misbehaviour is played out on the raw socket.
"""

import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from io import BufferedIOBase
from typing import Literal

MAX_LINE = 16 * 1024  # bytes of one header line
MAX_HEADERS = 100
MAX_BODY = 4 * 1024 * 1024  # bytes; a payment's request has a few thousand
MAX_CHUNK_LINE = 1024  # bytes of a chunk's size and extensions
PHRASES = {status.value: status.phrase for status in HTTPStatus}


Transport = Literal["whole", "hang", "reset", "truncate", "drip", "refuse"]  # how an answer's bytes go out


class Malformed(Exception):
    """What arrived is not HTTP that we read; the connection cannot be used further."""


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    target: str  # path and query exactly as received: the signature covers them
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    closes: bool  # the client wants the connection closed after the answer
    caller: tuple[str, int]  # the address of the connection's other end

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


@dataclass(frozen=True, slots=True)
class Answer:
    """What to send, after how long and how: deciding and sending are apart, so a slow answer holds nobody's lock."""

    status: int
    body: bytes
    after_seconds: float = 0.0
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    transport: Transport = "whole"
    seconds: float = 0.0  # to hang, to refuse connections, between two bytes of a drip
    at_byte: int = 0  # where a truncated answer ends
    kills: bool = False  # the caller, when half of it is sent

    @classmethod
    def json(cls, status: int, content: object, after_seconds: float = 0.0) -> "Answer":
        return cls(status, json.dumps(content, separators=(",", ":")).encode(), after_seconds)


def read_request(stream: BufferedIOBase, caller: tuple[str, int]) -> Request | None:
    """The next request of the connection; None when the client has closed it."""
    line = stream.readline(MAX_LINE)
    if not line:
        return None
    parts = line.decode("latin-1").split()
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise Malformed("no HTTP/1 request line")
    method, target, version = parts
    headers = _read_headers(stream)
    connection = headers.get("connection", "").lower()
    closes = connection == "close" or (version == "HTTP/1.0" and connection != "keep-alive")
    return Request(method, target, headers, _read_body(stream, headers), closes, caller)


def _read_headers(stream: BufferedIOBase) -> dict[str, str]:
    headers: dict[str, str] = {}
    for _ in range(MAX_HEADERS):
        line = stream.readline(MAX_LINE)
        if line in (b"\r\n", b"\n"):
            return headers
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon:
            raise Malformed("a header without a colon, or the end in the middle of the headers")
        headers[name.strip().lower()] = value.strip()
    raise Malformed("too many headers")


def _read_body(stream: BufferedIOBase, headers: Mapping[str, str]) -> bytes:
    if "transfer-encoding" in headers:
        body = _read_chunks(stream, headers["transfer-encoding"])
    else:
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > MAX_BODY:
            raise Malformed("Content-Length is no number, or too large")
        body = _read_exactly(stream, int(length))
    if headers.get("content-encoding") != "gzip":
        return body
    try:
        return gzip.decompress(body)
    except (OSError, EOFError, zlib.error) as error:
        raise Malformed("the body is not gzip") from error


def _read_chunks(stream: BufferedIOBase, coding: str) -> bytes:
    if coding.lower() != "chunked":
        raise Malformed("of transfer codings only chunked is read")
    body = b""
    while size := _chunk_size(stream):
        body += _read_exactly(stream, size)
        if len(body) > MAX_BODY or stream.readline(3) != b"\r\n":
            raise Malformed("a chunk does not end where it says, or the body is too large")
    _read_headers(stream)  # trailers
    return body


def _chunk_size(stream: BufferedIOBase) -> int:
    try:
        size = int(stream.readline(MAX_CHUNK_LINE).partition(b";")[0], 16)
    except ValueError:
        size = -1
    if not 0 <= size <= MAX_BODY:
        raise Malformed("a chunk's size is no number, or too large")
    return size


def _read_exactly(stream: BufferedIOBase, length: int) -> bytes:
    content = stream.read(length)
    if len(content) < length:
        raise Malformed("the end in the middle of the body")
    return content


def to_bytes(answer: Answer, *, closes: bool) -> bytes:
    """Head and body in one piece, for one send: two make the second wait for the client's delayed ACK."""
    headers = {"Date": formatdate(usegmt=True), **answer.headers}
    extra = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = (
        f"HTTP/1.1 {answer.status} {PHRASES.get(answer.status, '')}\r\n"
        f"Content-Type: {answer.content_type}\r\nContent-Length: {len(answer.body)}\r\n"
        f"{extra}"
        f"{'Connection: close' if closes else 'Connection: keep-alive'}\r\n\r\n"
    )
    return head.encode("latin-1") + answer.body
