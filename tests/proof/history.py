"""What every client asked and what came of it, as JSON lines that are judged when all is over.

In Jepsen's words: `invoke` before a call, then `ok`, `fail` (it certainly was not done) or `info` (nobody knows).
"""

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Type = Literal["invoke", "ok", "fail", "info"]


@dataclass(frozen=True, slots=True)
class Line:
    """One thing a client did, or learnt."""

    at: float  # wall clock, seconds since 1970
    client: str
    type: Type
    call: str
    what: Any  # what the call was about; the same in all lines of one call
    told: Any = None  # what came of it


class History:
    """A file that any number of threads and processes add lines to."""

    def __init__(self, path: Path):
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._lock = threading.Lock()

    def note(self, client: str, type: Type, call: str, what: Any, told: Any = None) -> None:
        """Add a line, whole: one write at the file's end, whoever else is writing."""
        line = json.dumps(asdict(Line(time.time(), client, type, call, what, told)), separators=(",", ":"))
        with self._lock:
            os.write(self._file, line.encode() + b"\n")

    @contextlib.contextmanager
    def call(self, client: str, call: str, what: Any) -> Iterator[None]:
        """Note a call before it is made, and that it was done, or that nobody knows."""
        self.note(client, "invoke", call, what)
        try:
            yield
        except BaseException as error:
            self.note(client, "info", call, what, type(error).__name__)
            raise
        self.note(client, "ok", call, what)

    def lines(self) -> list[Line]:
        """All of it, in the order of time."""
        with self.path.open() as file:
            return sorted((Line(**json.loads(line)) for line in file), key=lambda line: line.at)
