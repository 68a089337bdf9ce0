"""Lines are told side by side, each in its own time, and none hides another."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ingress.doctor import GROUPS, State
from ingress.doctor.lines import Finding, Line, NotAsked, Once, failed, ok, tell

OPERATING = (Path(__file__).parents[2] / "docs/operating.md").read_text(encoding="utf-8")


def hang() -> Finding:
    time.sleep(5)
    return ok("too late")


def break_down() -> Finding:
    raise ZeroDivisionError("with words that may hold anything")


def depend() -> Finding:
    raise NotAsked("the database cannot be read", "database", "revision")


ILL: dict[str, tuple[Callable[[], Finding], Finding | None, State, str]] = {
    "it hangs": (hang, None, State.UNKNOWN, "no answer within 0.2 s"),
    "it hangs, which tells enough": (hang, failed("frozen", "thaw it"), State.FAILED, "frozen"),
    "it breaks": (break_down, None, State.UNKNOWN, "the doctor could not find out (ZeroDivisionError)"),
    "another is not well": (depend, None, State.UNKNOWN, "the database cannot be read"),
}


@pytest.mark.parametrize("what", ILL)
def test_a_line_that_cannot_be_told_hides_no_other(what: str) -> None:
    """It says so in its place, with what to do; the others are told."""
    ask, late, state, why = ILL[what]
    well = [Line(name, lambda: ok("well")) for name in ("first", "last")]

    first, ill, last = tell([well[0], Line("ill", ask, seconds=0.2, late=late), well[1]])

    assert [first.finding.why, last.finding.why] == ["well", "well"]
    assert (ill.finding.state, ill.finding.why) == (state, why)
    assert ill.finding.what_to_do


def test_lines_are_told_side_by_side() -> None:
    """A line more costs no time more: all of these wait for each other."""
    everybody = threading.Barrier(20)

    def meet() -> Finding:
        everybody.wait(5)
        return ok("met")

    told = tell([Line("line", meet, of=str(number)) for number in range(20)])

    assert [check.name for check in told] == [f"line {number}" for number in range(20)]
    assert {check.finding.why for check in told} == {"met"}


def test_what_several_lines_need_is_asked_once() -> None:
    """Each gets its answer, or its error."""
    asked = []

    def ask() -> int:
        asked.append(1)
        raise NotAsked("nobody there", "database")

    once = Once(ask)

    told = tell([Line("line", lambda: ok(str(once())), of=str(number)) for number in range(5)])

    assert len(asked) == 1
    assert {check.finding.why for check in told} == {"nobody there"}


def test_every_line_has_its_row_in_the_documentation() -> None:
    """In its group and in the order it is shown in; and no other has."""
    section = OPERATING.partition("## What the doctor says and what to do\n")[2].partition("\n## ")[0]

    rows = [row.split(" | ")[0].strip("| `") for row in section.splitlines() if row.startswith("| `")]

    assert rows == [line for group in GROUPS.values() for line in group]
