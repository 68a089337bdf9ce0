"""Events, payments and what touched them, as a person reads it."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

import click

from ingress.cli.stories import print_part
from ingress.cli.tables import Rows, print_fields
from ingress.cli.times import age, wait
from worker.reports import UNHEARD_RINGS, Line, Timeline

Row = Mapping[str, Any]

#: What only our own processes go by.
_OURS = ("body_sha256", "snapshot", "claim_token")


def events_table(rows: Iterable[Row]) -> Rows:
    """A line each."""
    return Rows(
        ("key", "payment_id", "type", "state", "age", "sent", "problem"),
        [
            (
                row["event_key"],
                row["payment_id"],
                row["type"],
                row["outcome"] or "waiting",
                age(row["received_at"]),
                row["deliveries"],
                row["problem"],
            )
            for row in rows
        ],
    )


def payments_table(rows: Iterable[Row]) -> Rows:
    """A line each, with why it is stuck and when it is looked at next."""
    rows = list(rows)
    several = len({row["merchant_id"] for row in rows}) > 1
    names = ("key", *(["merchant"] if several else []), "payment_id", "reference", "state")
    amounts = ("authorised", "captured", "refunded")
    return Rows(
        (*names, *amounts, "", "changed", "next look", "problem"),
        [
            (
                row["payment_key"],
                *([row["merchant_id"]] if several else []),
                row["payment_id"],
                row["merchant_reference"],
                row["state"],
                *(row[f"amount_{name}"] for name in amounts),
                row["currency"] or "",
                age(row["changed_at"]),
                wait(row["due_at"]),
                trouble(row),
            )
            for row in rows
        ],
    )


def trouble(payment: Row) -> str | None:
    """Why a payment needs somebody."""
    if payment["problem"] is None and payment["rings"] >= UNHEARD_RINGS:
        return f"rung for {payment['rings']} times and not looked at: are workers running?"
    problem: str | None = payment["problem"]
    return problem


def print_row(row: Row, timeline: Timeline) -> None:
    """All that it is, without what is empty, and what touched it."""
    print_fields({name: value for name, value in row.items() if value not in (None, False) and name not in _OURS})
    if timeline.is_cut:
        click.echo("\nThere is more, earlier: `payhook events list --payment` and `payhook operations list --payment`.")
    print_part(
        "timeline (UTC)",
        ("time", "what", "key", "state", "detail"),
        [(_time(line.at), line.what, line.key, line.state, line.detail) for line in timeline.lines],
    )


def plain(timeline: Timeline) -> list[dict[str, Any]]:
    """The timeline as JSON has it."""
    return [asdict(line) for line in timeline.lines]


def told(line: Line) -> str:
    """A line of `payhook tail`: time, state, what, payment, detail, and the row that tells more."""
    payment = "" if line.payment_id is None else f" {line.payment_id}"
    key = "" if line.subject == "payment" else f" -> {line.subject} {line.key}"
    return f"{_time(line.at)} [{line.state or '-'}] {line.what}{payment} {line.detail}{key}"


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d}"
