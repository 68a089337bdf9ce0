"""An operation as a person reads it: on a line, in full, and with all that was done about it."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import click

from ingress.cli.tables import Rows, print_fields, print_table
from ingress.cli.times import age

Row = Mapping[str, Any]

#: What tells a person something; the rest is in the JSON. Amounts are in the currency's minor unit.
FIELDS = (
    "operation_key",
    "state",
    "reason",
    "anomaly",
    "kind",
    "amount",
    "currency",
    "is_final",
    "merchant_id",
    "payment_id",
    "source",
    "request_id",
    "terms",
    "created_at",
    "planned_at",
    "first_sent_at",
    "last_sent_at",
    "last_looked_at",
    "due_at",
    "idempotence_key",
    "operation_uuid",
    "platform_operation_id",
)

#: The same, with the name that says more to whoever looks into the merchant's portal.
_NAMES = {"operation_uuid": "reference"}


def operations_table(rows: Iterable[Row], *, anomalies: bool) -> Rows:
    """A line each."""
    last = "anomaly" if anomalies else "reason"
    return Rows(
        ("key", "payment_id", "kind", "amount", "", "state", "age", "source", last),
        [
            (
                row["operation_key"],
                row["payment_id"],
                row["kind"],
                row["amount"],
                row["currency"] or "",
                row["state"],
                age(row["created_at"]),
                row["source"],
                row[last],
            )
            for row in rows
        ],
        wrapped=anomalies,
    )


def print_operation(row: Row) -> None:
    """All that it is, without what is empty; and what to do about it, where a person must."""
    shown = {_NAMES.get(name, name): row[name] for name in FIELDS if row[name] not in (None, False)}
    if row["terms"]:
        shown["terms"] = ", ".join(f"{name}: {value}" for name, value in row["terms"].items())
    print_fields(shown)
    if row["state"] == "review":
        click.echo(
            "\nLook for the reference in the merchant's portal, then answer with\n"
            f"payhook operations resolve {row['operation_key']} --as succeeded|refused|resend --reason '...'"
        )


def print_story(told: Row) -> None:
    """The operation; what was sent and answered; what moved on its payment; and who changed it, when and why."""
    print_operation(told)
    print_part(
        "attempts (UTC)",
        ("sent", "key", "answer", "http_status", "ms", "error_id"),
        [
            (
                _time(one["started_at"]),
                one["generation"],
                one["outcome"] or "none seen",
                one["http_status"],
                one["duration_ms"],
                one["error_id"],
            )
            for one in told["attempts"]
        ],
    )
    print_part(
        "movements of the payment (UTC)",
        ("first seen", "platform's id", "kind", "amount", "", "state", "code", "whose"),
        [
            (
                _time(one["first_seen_at"]),
                one["platform_operation_id"],
                one["kind"],
                one["amount"],
                one["currency"],
                one["state"],
                one["status_code"],
                _whose(one, told["operation_key"]),
            )
            for one in told["movements"]
        ],
    )
    print_part(
        "journal (UTC)",
        ("at", "state", "who", "why"),
        [(_time(one["at"]), one["to_state"], one["actor"], one["why"]) for one in told["journal"]],
    )


def print_part(name: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    """A table under its name, or that there is nothing to show in it."""
    click.echo(f"\n{name}" if rows else f"\nno {name.removesuffix(' (UTC)')}")
    if rows:
        print_table(columns, rows, wrapped=True)


def _whose(movement: Row, operation_key: int) -> str:
    """Whose movement it is: this operation's, another one's, or nobody's that we know."""
    if movement["operation_key"] is None:
        return "foreign"
    return "this one" if movement["operation_key"] == operation_key else f"operation {movement['operation_key']}"


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"
