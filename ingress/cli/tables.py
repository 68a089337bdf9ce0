"""Rows on a terminal: as wide as it is, or as wide as they are where nobody looks."""

import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

#: Where the output goes to another program nothing is cut off.
UNCUT = 10_000


@dataclass(frozen=True)
class Rows:
    """What a table shows: rows under their columns' names."""

    columns: Sequence[str]
    rows: Iterable[Sequence[Any]]
    wrapped: bool = False  # whether what the terminal has no room for in the last column goes on below; else it is cut


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, wrapped: bool = False) -> None:
    """Print rows under their columns' names.

    Args:
        columns: their names.
        rows: their values, in that order.
        wrapped: whether what the terminal has no room for in the last column goes on below; else it is cut off.
    """
    _print(_table(Rows(columns, rows, wrapped)))


def print_rows(rows: Rows, *, last: str | None = None) -> None:
    """Print a list, through the pager where a terminal has no room for it.

    Args:
        rows: the list.
        last: the line below.
    """
    lines = [*_lines(_table(rows)), *([] if last is None else [last])]
    if len(lines) >= _height():
        click.echo_via_pager("\n".join(lines))
        return
    for line in lines:
        click.echo(line)


def _table(given: Rows) -> Table:
    rows = list(given.rows)
    shown = [[_shown(value) for value in row] for row in rows]
    numbers = [all(isinstance(row[at], int | None) for row in rows) for at in range(len(given.columns))]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for at, name in enumerate(given.columns):
        is_last = at == len(given.columns) - 1
        justify: Any = "right" if rows and numbers[at] else "left"
        overflow: Any = "fold" if given.wrapped else "ellipsis"
        table.add_column(name, justify=justify, overflow=overflow, no_wrap=not is_last)
    for row in shown:
        row[-1].no_wrap = not given.wrapped
        table.add_row(*row)
    return table


def print_fields(row: dict[str, Any]) -> None:
    """Print one row, a line a column; what the terminal has no room for goes on below."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in row.items():
        table.add_row(name, _shown(value))
    _print(table)


def _print(table: Table) -> None:
    for line in _lines(table):
        click.echo(line)


def _lines(table: Table) -> list[str]:
    console = Console(width=None if sys.stdout.isatty() else UNCUT, highlight=False, markup=False)
    with console.capture() as drawn:
        console.print(table)
    return [line.rstrip() for line in drawn.get().splitlines()]  # the last column is padded too


def _height() -> float:
    """How many lines there is room for: without end where nobody could turn pages."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return float("inf")
    return shutil.get_terminal_size().lines


def printable(text: str) -> str:
    """What came from outside is text, neither markup nor a terminal's commands."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def _shown(value: Any) -> Text:
    """A value as a person reads it."""
    if value is None:
        return Text("-")
    isoformat = getattr(value, "isoformat", None)
    text = str(isoformat(timespec="seconds")) if isoformat else str(value)
    return Text(printable(text))
