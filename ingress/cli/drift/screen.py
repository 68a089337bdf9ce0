"""What `payhook drift` shows: a line for each difference and, on a terminal, a bar below them."""

import sys
from collections import Counter
from types import TracebackType
from typing import Any, Self

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from ingress.cli.tables import printable
from worker.drift import Compared, Difference, Verdict, counted
from worker.journal import payment_name


class Screen:
    """Tells what comes, and keeps it for the end.

    Args:
        payments: how many are to be compared.
        as_json: say nothing until the end.
    """

    def __init__(self, payments: int, *, as_json: bool):
        self.verdicts: Counter[str] = Counter()
        self.different: list[Compared] = []
        self.failures: list[dict[str, Any]] = []
        self.fixed: int | None = None  # of those that differed; None: nobody asked for it
        self._silent = as_json
        self._bar = _bar() if sys.stdout.isatty() and not as_json else None
        self._task = self._bar.add_task("compared", total=payments) if self._bar is not None else None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, one: Compared) -> None:
        """A payment was compared."""
        self.verdicts[one.verdict] += 1
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task)
        if one.verdict is Verdict.DIFFERENT:
            self.different.append(one)
            for difference in one.differences:
                self.say(f"{name_of(one)}: {told(difference)}")
        elif one.verdict is Verdict.FAILED:
            payment = one.payment
            self.failures.append({"merchant_id": payment.merchant_id, "payment_id": payment.payment_id, "why": one.why})
            self.say(f"{name_of(one)}: could not be compared: {one.why}")

    def shut(self, merchant_id: str, why: str) -> None:
        """A merchant's platform is not to be asked."""
        self.failures.append({"merchant_id": merchant_id, "payment_id": None, "why": why})
        self.say(f"{merchant_id}: the platform is not asked for now, so no more was compared: {why}")

    def say(self, line: str) -> None:
        """A line; what came from outside cannot command the terminal."""
        if self._silent:
            return
        if self._bar is None:
            click.echo(printable(line))
        else:
            self._bar.console.print(Text(printable(line)), soft_wrap=True)

    @property
    def asked(self) -> int:
        """How many payments the platform was asked for."""
        return self.verdicts.total() - self.verdicts[Verdict.NOT_ASKED]

    @property
    def is_well(self) -> bool:
        """Whether nothing differs any more, and everything that was to be compared was."""
        counts = counted(self.verdicts)
        return not counts["failed"] and counts["different"] == (self.fixed or 0)

    def summary(self) -> str:
        """The last line."""
        counts = counted(self.verdicts)
        parts = [f"{counts['different']} different", f"{counts['in_motion']} in motion", f"{counts['failed']} failed"]
        if self.fixed is not None:
            parts.insert(1, f"{self.fixed} of them in line now")
        return f"{counts['compared']} compared: {', '.join(parts)}"

    def plain(self) -> dict[str, Any]:
        """The same for ``--json``."""
        return {
            **counted(self.verdicts),
            **({} if self.fixed is None else {"fixed": self.fixed}),
            "differences": [
                {
                    "merchant_id": one.payment.merchant_id,
                    "payment_id": one.payment.payment_id,
                    "what": difference.what,
                    "ours": difference.ours,
                    "theirs": difference.theirs,
                }
                for one in self.different
                for difference in one.differences
            ],
            "failures": self.failures,
        }


def name_of(one: Compared) -> str:
    """A payment as the journal names it too."""
    return payment_name(one.payment.merchant_id, one.payment.payment_id)


def told(difference: Difference) -> str:
    """A difference on a line: what, ours, the platform's."""
    ours, theirs = ("nothing" if side is None else side for side in (difference.ours, difference.theirs))
    return f"{difference.what}: {ours} here, {theirs} at the platform"


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), transient=True
    )
