"""`python -m tests.worker.settlement_report [--full]`: run every model and write the tables of docs/settlement.md."""

import sys
import time
from pathlib import Path

from tests.worker.settlement_model import HOUR, MINUTE, OK, Crash, Found, Model, Step, explore
from tests.worker.settlement_promise import ASSUMPTIONS, PROMISED
from tests.worker.settlement_rules import RULES

PAGE = Path(__file__).parents[2] / "docs" / "settlement.md"

#: What follows on the page is written by this script.
HEADING = "## What the models show\n"


def main() -> int:
    text = PAGE.read_text(encoding="utf-8").partition(HEADING)[0]
    promised, wrong = schedules(full="--full" in sys.argv)
    PAGE.write_text(f"{text}{HEADING}\n{promised}\n{assumptions()}\n{rules()}", encoding="utf-8")
    print(f"written: {PAGE.name}; {wrong} schedules went wrong")
    return 1 if wrong else 0


def schedules(*, full: bool) -> tuple[str, int]:
    """The models in which nothing may go wrong, and how many schedules did."""
    lines, total, worlds, spent, wrong = [], 0, 0, 0.0, 0
    for promised in PROMISED:
        model, began = promised.sized(full=full), time.process_time()
        found = explore(model)
        took = time.process_time() - began
        total, worlds, spent, wrong = total + found.schedules, worlds + found.worlds, spent + took, wrong + found.wrong
        size = f"{len(model.faults)} faults, {len(model.crashes)} crash points, {len(model.gaps)} gaps"
        lines.append(
            f"| {promised.name} | {size} | {model.depth} | {found.schedules:,} | {found.worlds:,} | {found.doubles} | "
            f"{found.untrue} | {found.endless} | {took:.0f} |\n"
        )
        print(lines[-1], end="", flush=True)
    return (
        "### Where nothing may go wrong\n\n"
        f"{total:,} schedules, which come to {worlds:,} different ends, in {spent:.0f} s of one core.\n"
        "`make prove` runs all of them to depth 3 and 4; what `make test` runs is less deep in some.\n\n"
        "| model | each request | depth | schedules | ends | double | untrue | never end | s |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n" + "".join(lines)
    ), wrong


def assumptions() -> str:
    """What the platform must be like, with what happens where it is not."""
    text = (
        "### What the promise rests on\n\n"
        "Each row is a model in which the platform is not so, with a schedule that goes wrong, request by request.\n\n"
        "| assumption | schedules | double | untrue | for example |\n| --- | --- | --- | --- | --- |\n"
    )
    for assumption in ASSUMPTIONS:
        found = assumption.found
        example = min(found.examples, key=_peculiarities)
        text += f"| {assumption.sentence} | {_counted(found)} | {'; '.join(map(_told, example))} |\n"
    return text


def rules() -> str:
    """The smallest model in which each rule is missed."""
    text = (
        "### What each rule is for\n\n"
        "With the rule, no schedule of its model goes wrong. Each is the smallest that a search has found: one request "
        "before\ntwo, a plain platform before one with a peculiarity, one before two.\n\n"
        "| without the rule | the smallest model in which that fails | schedules | double | untrue | never end |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
    )
    for rule in RULES:
        if rule.smallest is None:
            text += f"| {rule.name} | none; it rests on reasoning: {rule.reason} | | | | |\n"
        else:
            found = explore(rule.smallest, rule.taken_out())
            text += f"| {rule.name} | {_described(rule.smallest)} | {_counted(found)} | {found.endless} |\n"
    return text


def _peculiarities(path: tuple[Step, ...]) -> int:
    """How much there is to tell of a schedule."""
    return sum(
        (step.fault is not OK) + (step.crash is not Crash.NONE) + bool(step.gap) + bool(step.portal) for step in path
    )


def _counted(found: Found) -> str:
    return f"{found.schedules:,} | {found.doubles:,} | {found.untrue:,}"


def _told(step: Step) -> str:
    """One request of a schedule."""
    crash = f"we die {step.crash}" if step.crash is not Crash.RESTORED else str(step.crash)
    parts = [
        step.fault.name if step.crash not in (Crash.BEFORE_ATTEMPT, Crash.BEFORE_POST) else "",
        crash if step.crash is not Crash.NONE else "",
        f"then nothing for {step.gap / HOUR:g} h" if step.gap else "",
        f"a capture in the portal {step.portal} it" if step.portal else "",
    ]
    return ", ".join(filter(None, parts))


def _described(model: Model) -> str:
    """A small model in words."""
    crash, gap = model.crashes[-1], max(model.gaps)
    parts = [
        "one request" if model.depth == 1 else f"{model.depth} requests",
        ", then ".join(fault.name for fault in model.faults),
        "" if crash is Crash.NONE else f"we die {crash}" if crash is not Crash.RESTORED else str(crash),
        f"then nothing for {gap / HOUR:g} h" if gap else "",
        "room for one" if model.room == 1 else "",
        "references are not echoed" if not model.echoes else "",
        f"lists lag {model.lag / MINUTE:g} min" if model.lag else "",
        'a running request is "not allowed"' if model.busy else "",
    ]
    return "; ".join(filter(None, parts))


if __name__ == "__main__":
    sys.exit(main())
