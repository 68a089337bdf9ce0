"""Rows on a terminal: as wide as it is, or as wide as they are where nobody looks."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

#: Where the output goes to another program nothing is cut off.
UNCUT = 10_000


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows under their columns' names."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, overflow="ellipsis", no_wrap=True)
    for row in rows:
        table.add_row(*(_shown(value) for value in row))
    console().print(table)


def print_fields(row: dict[str, Any]) -> None:
    """Print one row, a line a column."""
    width = max(map(len, row))
    for name, value in row.items():
        console().print(Text(f"{name.ljust(width)}  ", style="bold"), _shown(value), sep="", soft_wrap=True)


def console() -> Console:
    """Where commands print."""
    return Console(width=None if sys.stdout.isatty() else UNCUT, highlight=False, markup=False)


def _shown(value: Any) -> Text:
    """A value as a person reads it. What came from outside is text, never markup."""
    if value is None:
        return Text("-")
    isoformat = getattr(value, "isoformat", None)
    return Text(str(isoformat(timespec="seconds")) if isoformat else str(value))
