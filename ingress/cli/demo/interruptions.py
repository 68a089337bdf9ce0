"""Ctrl-C, a service manager's SIGTERM, a closed terminal and a clock that has run out: all of them end the demo."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)


class Ended(BaseException):
    """The demo is to end now. No Exception: the SDK takes any of those for a call that failed."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def out_of_time(self) -> bool:
        return self.number == signal.SIGALRM


class Interruptions:
    """Raises `Ended` in the main thread, wherever it is; never while held, never after ``stop``.

    Args:
        seconds: until the clock has run out.
    """

    def __init__(self, seconds: float):
        self._seconds = seconds
        self._before: dict[int, Any] = {}
        self._timer_before = (0.0, 0.0)
        self._held = self._stopped = False
        self._came: int | None = None

    def __enter__(self) -> Self:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a shell's background job: leave it so
                self._before[number] = signal.signal(number, self._come)
        self._timer_before = signal.setitimer(signal.ITIMER_REAL, self._seconds)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, *self._timer_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """What comes meanwhile is raised afterwards."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._came is not None:
            raise Ended(self._came)

    def stop(self) -> None:
        """From now on nothing disturbs: tidying up is short, and must be finished."""
        self._stopped = True

    def _come(self, number: int, _frame: FrameType | None) -> None:
        if self._stopped:
            return
        if self._held:
            self._came = number
            return
        raise Ended(number)
