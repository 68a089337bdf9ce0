"""What is refused is told in the log, but whoever sends it does not decide how long the log gets."""

import logging
import threading
from contextlib import suppress

import structlog

log = structlog.get_logger("payhook.webhooks")

#: Of each event and reason, one line in this time: enough to see an attack begin, last and end.
TELL_EVERY_SECONDS = 10.0


#: Level, event, reason.
Kind = tuple[int, str, str]


class Refusals:
    """Tells of the first refusal at once, and of those that follow it in one line with their number.

    What is told apart must come from us: with a text that a sender chooses, both memory and log would be theirs.

    Args:
        seconds: between two lines of one event and reason.
    """

    def __init__(self, seconds: float = TELL_EVERY_SECONDS):
        self._seconds = seconds
        self._untold: dict[Kind, int] = {}
        self._lock = threading.Lock()

    def tell(self, event: str, reason: str, level: int = logging.WARNING) -> None:
        """Count a refusal, and log it unless a line of its kind was written just now."""
        kind = level, event, reason
        with self._lock:
            if kind in self._untold:
                self._untold[kind] += 1
                return
            self._untold[kind] = 0
        self._write(kind, 1)

    def _write(self, kind: Kind, count: int) -> None:
        level, event, reason = kind
        log.log(level, event, reason=reason, count=count)
        timer = threading.Timer(self._seconds, self._tell_the_rest, [kind])
        timer.daemon = True
        with suppress(RuntimeError):  # no room for a thread: the next refusal must be told then
            timer.start()
            return
        with self._lock:
            self._untold.pop(kind, None)

    def _tell_the_rest(self, kind: Kind) -> None:
        with self._lock:
            count = self._untold.pop(kind, 0)
            if count:
                self._untold[kind] = 0
        if count:
            self._write(kind, count)
