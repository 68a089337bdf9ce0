"""What is refused is told in the log, but whoever sends it does not decide how long the log gets."""

import logging
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog

log = structlog.get_logger("payhook.webhooks")

#: Of each event and reason, one line in this time: enough to see an attack begin, last and end.
TELL_EVERY_SECONDS = 10.0


#: Level, event, reason.
Kind = tuple[int, str, str]


@dataclass
class _Untold:
    count: int = 0
    first: dict[str, Any] = field(default_factory=dict)  # what is known of the first of them


class Refusals:
    """Tells of the first refusal at once, and of those that follow it in one line with their number.

    What is told apart must come from us: with a text that a sender chooses, both memory and log would be theirs. So of
    what is known of each, where it came from say, a line tells what was known of its first.

    Args:
        seconds: between two lines of one event and reason.
    """

    def __init__(self, seconds: float = TELL_EVERY_SECONDS):
        self._seconds = seconds
        self._untold: dict[Kind, _Untold] = {}
        self._lock = threading.Lock()

    def tell(self, event: str, reason: str, level: int = logging.WARNING, **known: Any) -> None:
        """Count a refusal, and log it, with what is known of it, unless a line of its kind was written just now."""
        kind = level, event, reason
        with self._lock:
            if (untold := self._untold.get(kind)) is not None:
                untold.first = untold.first or known
                untold.count += 1
                return
            self._untold[kind] = _Untold()
        self._write(kind, _Untold(1, known))

    def _write(self, kind: Kind, told: _Untold) -> None:
        level, event, reason = kind
        log.log(level, event, reason=reason, count=told.count, **told.first)
        timer = threading.Timer(self._seconds, self._tell_the_rest, [kind])
        timer.daemon = True
        with suppress(RuntimeError):  # no room for a thread: the next refusal must be told then
            timer.start()
            return
        with self._lock:
            self._untold.pop(kind, None)

    def _tell_the_rest(self, kind: Kind) -> None:
        with self._lock:
            untold = self._untold.pop(kind, None) or _Untold()
            if untold.count:
                self._untold[kind] = _Untold()
        if untold.count:
            self._write(kind, untold)
