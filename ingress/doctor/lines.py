"""What a line of the doctor is, and how many of them are told side by side, each within its own time."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

Answer = TypeVar("Answer")

#: No line takes longer; what it asks has shorter time-outs of its own.
LINE_SECONDS = 3.0

#: For a line that needs what two others ask for: its own part is no longer.
SECOND_SECONDS = 2 * LINE_SECONDS

#: Lines at a time. With hundreds of merchants the platform is not asked for all of them at once.
MOST_AT_ONCE = 32


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"  # works, and will not for long, or needs a person
    FAILED = "failed"
    UNKNOWN = "unknown"  # could not be found out


@dataclass(frozen=True)
class Finding:
    """What was found: the state, why it is that, and one command or setting that mends it."""

    state: State
    why: str
    what_to_do: str | None = None


@dataclass(frozen=True)
class Check:
    """A line as it is shown."""

    line: str
    of: str | None  # the merchant it is about
    finding: Finding

    @property
    def name(self) -> str:
        return self.line if self.of is None else f"{self.line} {self.of}"

    @property
    def ok(self) -> bool:
        return self.finding.state is State.OK


@dataclass(frozen=True)
class Line:
    """A line to be told.

    Args:
        name: as `GROUPS` has it.
        ask: finds out. What it raises makes the line unknown, and no other.
        of: the merchant it is about.
        seconds: the longest it is waited for.
        late: what it says when that was not enough; unknown when not given.
    """

    name: str
    ask: Callable[[], Finding]
    of: str | None = None
    seconds: float = LINE_SECONDS
    late: Finding | None = None


class NotAsked(Exception):
    """A line that cannot be told as long as others are not well."""

    def __init__(self, why: str, *others: str):
        super().__init__(why)
        self.others = others


class Once(Generic[Answer]):
    """What several lines need: asked by the first of them, while the others wait; each gets its answer or its error."""

    def __init__(self, ask: Callable[[], Answer]):
        self._ask = ask
        self._lock = threading.Lock()
        self._answer: list[Answer] = []
        self._error: Exception | None = None

    def __call__(self) -> Answer:
        with self._lock:
            if self._error is not None:
                raise self._error
            if not self._answer:
                try:
                    self._answer.append(self._ask())
                except Exception as error:
                    self._error = error
                    raise
            return self._answer[0]


def ok(why: str) -> Finding:
    return Finding(State.OK, why)


def warning(why: str, what_to_do: str) -> Finding:
    return Finding(State.WARNING, why, what_to_do)


def failed(why: str, what_to_do: str) -> Finding:
    return Finding(State.FAILED, why, what_to_do)


def unknown(why: str, what_to_do: str) -> Finding:
    return Finding(State.UNKNOWN, why, what_to_do)


def tell(lines: Sequence[Line]) -> list[Check]:
    """Tell the lines side by side. It ends in time whatever hangs: nobody waits for a thread that does.

    Args:
        lines: what is to be told; the checks come in the same order.
    """
    waiting: SimpleQueue[tuple[int, Line]] = SimpleQueue()
    told: SimpleQueue[tuple[int, Finding]] = SimpleQueue()
    for number, line in enumerate(lines):
        waiting.put((number, line))

    def work() -> None:
        with suppress(Empty):
            while True:
                number, line = waiting.get_nowait()
                told.put((number, _asked(line)))

    began = time.monotonic()
    for _ in range(min(len(lines), MOST_AT_ONCE)):
        threading.Thread(target=work, name="doctor", daemon=True).start()
    findings = _collected(told, [began + line.seconds for line in lines])
    return [
        Check(line.name, line.of, findings.get(number) or line.late or _late(line)) for number, line in enumerate(lines)
    ]


def _collected(told: "SimpleQueue[tuple[int, Finding]]", deadlines: list[float]) -> dict[int, Finding]:
    """What comes while any line that has not been told still has time."""
    findings: dict[int, Finding] = {}
    while left := [at for number, at in enumerate(deadlines) if number not in findings]:
        try:
            number, finding = told.get(timeout=max(0.0, max(left) - time.monotonic()))
        except Empty:
            break
        findings[number] = finding
    return findings


def _asked(line: Line) -> Finding:
    try:
        return line.ask()
    except NotAsked as reason:
        others = " and ".join(f'"{other}"' for other in reason.others)
        return unknown(str(reason), f"mend what {others} says")
    except Exception as error:  # its text may hold anything
        return unknown(f"the doctor could not find out ({type(error).__name__})", "run `payhook doctor` again")


def _late(line: Line) -> Finding:
    return unknown(f"no answer within {line.seconds:g} s", "run `payhook doctor` again")
