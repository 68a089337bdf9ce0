"""Rows on a terminal: as wide as it is, or as wide as they are where nobody looks."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

#: Where the output goes to another program nothing is cut off.
UNCUT = 10_000


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, wrapped: bool = False) -> None:
    """Print rows under their columns' names.

    Args:
        columns: their names.
        rows: their values, in that order.
        wrapped: whether what the terminal has no room for in the last column goes on below; else it is cut off.
    """
    shown = [[_shown(value) for value in row] for row in rows]
    numbers = [all(isinstance(row[at], int | None) for row in rows) for at in range(len(columns))] if shown else []
    table = Table(box=None, pad_edge=False, header_style="bold")
    for at, name in enumerate(columns):
        is_last = at == len(columns) - 1
        justify: Any = "right" if numbers and numbers[at] else "left"
        table.add_column(name, justify=justify, overflow="fold" if wrapped else "ellipsis", no_wrap=not is_last)
    for row in shown:
        row[-1].no_wrap = not wrapped
        table.add_row(*row)
    _print(table)


def print_fields(row: dict[str, Any]) -> None:
    """Print one row, a line a column; what the terminal has no room for goes on below."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in row.items():
        table.add_row(name, _shown(value))
    _print(table)


def _print(table: Table) -> None:
    console = Console(width=None if sys.stdout.isatty() else UNCUT, highlight=False, markup=False)
    with console.capture() as drawn:
        console.print(table)
    for line in drawn.get().splitlines():
        click.echo(line.rstrip())  # the last column is padded too


def _shown(value: Any) -> Text:
    """A value as a person reads it. What came from outside is text, neither markup nor a terminal's commands."""
    if value is None:
        return Text("-")
    isoformat = getattr(value, "isoformat", None)
    text = str(isoformat(timespec="seconds")) if isoformat else str(value)
    return Text("".join(sign if sign.isprintable() else "?" for sign in text))
