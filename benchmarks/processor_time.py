"""Processor time that groups of processes have used: what an event costs, whoever else shares the machine."""

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

Pids = Callable[[], list[int]]


class Meter:
    """Measures, between the two ends of a `with`, the processor seconds of each group, and how long it took.

    Args:
        groups: by name, what gives the group's processes at the time.
    """

    def __init__(self, groups: Mapping[str, Pids]):
        self._groups = groups
        self.used: dict[str, float] = {}
        self.seconds = 0.0

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._before = {name: _processor_seconds(pids()) for name, pids in self._groups.items()}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.seconds = time.monotonic() - self._began
        self.used = {name: _processor_seconds(pids()) - self._before[name] for name, pids in self._groups.items()}

    def microseconds_each(self, group: str, count: int) -> float:
        """What one of so many cost."""
        return self.used[group] * 1e6 / max(count, 1)


def _processor_seconds(pids: list[int]) -> float:
    """User and system time, that of children waited for included: a connection's process may end meanwhile."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / TICKS_PER_SECOND
