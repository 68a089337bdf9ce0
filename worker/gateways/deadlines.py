"""One clock for everything a look costs: when the call must end, and whether any of it has left."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class OutOfTime(Exception):
    """The wall-clock time of the call is used up."""


class AnswerTooLarge(Exception):
    """The platform answers with more than anything it has to say."""


class Call:
    """One request and its answer.

    Args:
        ends_at: when it must be over, by the monotonic clock.
        connect_seconds: how much of that may go into reaching the platform.
        byte_limit: how many bytes the answer may have, headers and chunk marks included.
    """

    __slots__ = ("byte_limit", "connect_seconds", "ends_at", "received", "sent")

    def __init__(self, ends_at: float, connect_seconds: float, byte_limit: int):
        self.ends_at = ends_at
        self.connect_seconds = connect_seconds
        self.byte_limit = byte_limit
        self.sent = False  # from the first byte on the request may have been heard
        self.received = 0

    def left(self) -> float:
        """Seconds left, more than none.

        Raises:
            OutOfTime: there are none.
        """
        seconds = self.ends_at - time.monotonic()
        if seconds <= 0:
            raise OutOfTime
        return seconds

    def take(self, count: int) -> None:
        """Count bytes of the answer as they come from the socket, so that no part of it escapes the limit."""
        self.received += count
        if self.received > self.byte_limit:
            raise AnswerTooLarge


_ends_at: ContextVar[float | None] = ContextVar("payhook_platform_deadline", default=None)
_call: ContextVar[Call] = ContextVar("payhook_platform_call")


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Let all calls made inside share this many seconds; inside another deadline the earlier one holds."""
    ends_at = time.monotonic() + seconds
    outer = _ends_at.get()
    token = _ends_at.set(ends_at if outer is None else min(ends_at, outer))
    try:
        yield
    finally:
        _ends_at.reset(token)


@contextmanager
def call(seconds: float, connect_seconds: float, byte_limit: int) -> Iterator[Call]:
    """Begin one call: it ends after ``seconds`` or with the deadline around it, whichever is earlier."""
    ends_at = time.monotonic() + seconds
    outer = _ends_at.get()
    started = Call(ends_at if outer is None else min(ends_at, outer), connect_seconds, byte_limit)
    token = _call.set(started)
    try:
        yield started
    finally:
        _call.reset(token)


def current_call() -> Call:
    """The call this thread is making."""
    return _call.get()
