"""What the demo shows: a line for each thing that happens and, on a terminal, a live table below them."""

import time
from types import TracebackType
from typing import Self

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ingress.cli.demo.verdict import Claim, Look

#: Without a terminal, the numbers are told this often and only when they have changed.
TELL_SECONDS = 2.0

MOST_AGAINST = 10


class Screen:
    """Lines for everyone, a live table for those who can see it; time is told since it was made.

    Args:
        orders: how many payments there will be.
    """

    def __init__(self, orders: int):
        self._console = Console(highlight=False)
        self._began = time.monotonic()
        self._orders = orders
        self._told = ("", self._began)
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(console=self._console, refresh_per_second=8, transient=True)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Take the live table away; lines can still be told."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def head(self, text: str) -> None:
        """A line without a time."""
        self._print(Text(text))

    def say(self, what: str, why: str = "") -> None:
        """A line: what happens, and why that matters."""
        line = Text.assemble((what, "bold"), f" {why}" if why else "")
        at = f"{self.seconds:4.1f} s"
        if self._console.is_terminal:
            grid = Table.grid(padding=(0, 2))
            grid.add_row(Text(at, style="dim"), line)
            self._console.print(grid)
        else:
            self._print(Text(f"{at}  ") + line)

    def show(self, look: Look, made: int, doing: str) -> None:
        """How far things are: the live table, or now and then a line."""
        numbers = {
            "payments made": f"{made} of {self._orders}",
            "webhooks acknowledged": str(len(look.acknowledged)),
            "stored": str(len(look.stored)),
            "reconciled": str(len(look.reconciled)),
            "payments as the platform has them": f"{look.equal} of {len(look.ledger)}",
        }
        if self._live is not None:
            grid = Table.grid(padding=(0, 2))
            grid.add_column(justify="right", style="dim")
            for name, number in (*numbers.items(), ("now", doing)):
                grid.add_row(name, Text(number, style="bold", overflow="ellipsis", no_wrap=True))
            self._live.update(grid)
        elif not self._console.is_terminal:
            self._tell(", ".join(f"{name} {number}" for name, number in numbers.items()))

    def table(self, claims: list[Claim]) -> None:
        """Everything claimed, what was found, and whether it is so; what speaks against a claim below it."""
        table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        for title in ("", "Promised", "Found"):
            table.add_column(title)
        for claim in claims:
            mark = Text("true", "green") if claim.holds else Text("FALSE", "bold red")
            table.add_row(mark, claim.said, claim.found)
        self._console.print(table)
        for claim in claims:
            if not claim.holds:
                self._print(Text(f"FALSE: {claim.said}: {claim.found}", style="bold red"))
                for one in claim.against[:MOST_AGAINST]:
                    self._print(Text(f"  {one}"))
                if len(claim.against) > MOST_AGAINST:
                    self._print(Text(f"  and {len(claim.against) - MOST_AGAINST} more"))

    def _tell(self, numbers: str) -> None:
        told, at = self._told
        if numbers != told and time.monotonic() - at >= TELL_SECONDS:
            self._told = (numbers, time.monotonic())
            self._print(Text(f"{self.seconds:4.1f} s  ... {numbers}"))

    def _print(self, text: Text) -> None:
        # Where it is not a terminal that reads, a fact is a line, however long.
        self._console.print(text, soft_wrap=not self._console.is_terminal)
