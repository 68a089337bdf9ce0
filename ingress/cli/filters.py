"""What lists are narrowed down by, and the page that comes of it."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import click

from ingress.cli import print_json
from ingress.cli.tables import Rows, print_rows
from ingress.cli.times import duration, moment
from worker.lifecycle import canonical_payment_id

LARGEST_KEY = 2**63 - 1

#: The most rows of one page: what is printed is held in memory.
MOST_ROWS = 10_000

Option = Callable[[Any], Any]


def check_payment(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """A payment's id in either of the platform's formats, as the canonical one."""
    canonical = None if value is None else canonical_payment_id(value)
    if value is not None and canonical is None:
        raise click.BadParameter("not a payment's id (digits, perhaps with _ and a number after them)")
    return canonical


def check_since(_context: click.Context, _parameter: click.Parameter, value: str | None) -> datetime | None:
    """A moment, given as a time or as how long ago it is."""
    if value is None:
        return None
    return datetime.now(UTC) - duration(value) if value[-1:] in "mhd" else moment(value)


def filters(name: str, states: Iterable[str], *, since: str, stuck: str, limit: int | None = 100) -> Option:
    """The options that every list has.

    Args:
        name: what is listed.
        states: those there are.
        since: what has happened since the moment given.
        stuck: what needs somebody.
        limit: how many are listed, None for as many as there are.
    """
    options = (
        click.option(
            "--state",
            "states",
            multiple=True,
            type=click.Choice([str(state) for state in states]),
            help="In this state; may be given several times.",
        ),
        click.option("--stuck", is_flag=True, help=f"What needs somebody: {stuck}."),
        click.option("--payment", "payment_id", metavar="P", callback=check_payment, help="Of one payment; its id."),
        click.option("--reference", metavar="X", help="Of the payments with this reference of the merchant."),
        click.option("--merchant", "merchant_id", metavar="M", help="Of one merchant."),
        click.option("--since", metavar="T", callback=check_since, help=f"{since}: 2030-01-31T12:00:00Z, or 90m, 2d."),
        click.option(
            "--limit",
            metavar="N",
            type=click.IntRange(1, MOST_ROWS if limit else None),
            default=limit,
            show_default=limit is not None,
            help=f"{name}, so many at most.",
        ),
        click.option(
            "--before", metavar="KEY", type=click.IntRange(1, LARGEST_KEY), help="Go on below this key: the next page."
        ),
    )

    def filtered(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return filtered


def print_page(
    rows: list[dict[str, Any]], limit: int, key: str, table: Callable[[list[dict[str, Any]]], Rows], *, as_json: bool
) -> None:
    """Print a page of a list; where there is more of it, the last line says how to go on.

    Args:
        rows: one more than the page has, if there are so many.
        limit: how many the page has.
        key: the column of the rows' key.
        table: what of them is shown.
        as_json: print them all as JSON instead.
    """
    page = rows[:limit]
    if as_json:
        print_json(page)
        return
    more = f"more: the same command with --before {page[-1][key]}" if len(rows) > limit else None
    print_rows(table(page), last=more)
