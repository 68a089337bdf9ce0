"""Lines on their way to standard error: a thread writes them, so that whoever reads too slowly stops no work."""

import logging
import os
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from io import UnsupportedOperation
from typing import TextIO

import structlog

log = structlog.get_logger("payhook.logs")

#: Lines that wait while standard error takes none: some seconds of a busy process, and a few MiB. More are dropped.
MOST_WAITING = 10_000

#: An error may be the last that a process says before it is killed: so long it waits for its line to be written.
ERROR_SECONDS = 0.1

#: A process that ends waits so long for its last lines.
LAST_LINES_SECONDS = 1.0


class Sink:
    """A bounded queue of lines and the thread that writes them; both made anew in a forked child.

    A pipe that nobody reads blocks whoever writes to it, and it may be shared with others, so that it cannot be made
    to answer at once instead: the one thread that may be blocked is one that does nothing else.
    """

    def __init__(self) -> None:
        self._stuck = False
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def put(self, line: str, stream: TextIO) -> None:
        """Have a line written; never waits. What finds no room is dropped and counted."""
        with self._change:
            if len(self._waiting) >= MOST_WAITING:
                self._dropped += 1
                return
            self._waiting.append((line, stream))
            self._wake()

    def flush(self, seconds: float) -> bool:
        """Wait until every line is written, for so long at most; whether all are."""
        deadline = time.monotonic() + seconds
        with self._change:
            while self._waiting or self._writing:
                left = deadline - time.monotonic()
                if left <= 0:
                    self._stuck = True
                    return False
                self._change.wait(left)
        return True

    def is_stuck(self) -> bool:
        """Whether somebody has waited in vain, and nothing was written since."""
        return self._stuck

    def _reset(self) -> None:
        # In a forked child too: the parent writes what waited in it, and its thread is not there.
        self._change = threading.Condition()
        self._waiting: deque[tuple[str, TextIO]] = deque()
        self._writing: bool = False
        self._stuck = False
        self._dropped = 0
        self._thread: threading.Thread | None = None

    def _wake(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            thread = threading.Thread(target=self._run, name="logs", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no room for a thread, or the interpreter ends: whoever logs writes, as ever
                while self._waiting:
                    _write(*self._waiting.popleft())
                return
            self._thread = thread
        self._change.notify_all()

    def _run(self) -> None:
        while True:
            with self._change:
                while not self._waiting:
                    self._change.wait()
                # One at a time: what this thread holds, blocked, would be room for as many again.
                (line, stream), self._writing = self._waiting.popleft(), True
            _write(line, stream)
            with self._change:
                self._writing = self._stuck = False
                dropped = 0
                if len(self._waiting) < MOST_WAITING // 2:  # sooner, the line that tells of it could find no room
                    dropped, self._dropped = self._dropped, 0
                if not self._waiting:
                    self._change.notify_all()
            if dropped:
                log.warning("lines.dropped", count=dropped)


#: One a process, however often its logs are set up.
SINK = Sink()


class Handler(logging.Handler):
    """Renders a record where it is said, which knows what it is about, and leaves the line to the sink."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            SINK.put(self.format(record), sys.stderr)
        except Exception:
            self.handleError(record)
            return
        if record.levelno >= logging.ERROR and not SINK.is_stuck():
            SINK.flush(ERROR_SECONDS)

    def flush(self) -> None:
        """At the interpreter's end, which calls it: what was said last is written."""
        if not SINK.is_stuck():
            SINK.flush(LAST_LINES_SECONDS)


def _write(line: str, stream: TextIO) -> None:
    # Past Python's own buffer: a thread that is blocked inside it holds its lock, and everybody who prints, and the
    # interpreter's end, would wait for that.
    with suppress(OSError, ValueError):  # closed, or gone: there is nobody to tell
        data = f"{line}\n".encode(errors="backslashreplace")
        try:
            number = stream.fileno()
        except (UnsupportedOperation, AttributeError):  # of a test
            stream.write(f"{line}\n")
            return
        while data:
            data = data[os.write(number, data) :]
