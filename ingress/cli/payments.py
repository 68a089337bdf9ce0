"""`payhook payments`: what we know of payments, and a look at one for whoever wants it now."""

import time
from typing import Any

import click

from ingress.cli import Commands, Refused, json_option, opened, print_json, settings
from ingress.cli.filters import check_payment, filters, print_page
from ingress.cli.rings import ring
from ingress.cli.tables import print_fields
from ingress.cli.timelines import payments_table, plain, print_row
from worker import reconciliation, reports
from worker.database import Database, DatabaseUnavailable
from worker.doorbell import PAYMENTS
from worker.lifecycle import PaymentState
from worker.operations import CannotAccept

#: Between two looks of a command that waits.
LOOK_SECONDS = 0.25

payment_argument = click.argument("payment_id", callback=check_payment)
merchant_option = click.option("--merchant", "merchant_id", metavar="M", help="Whose; needed if several have this id.")


@click.group(cls=Commands)
def payments() -> None:
    """Payments, as we last knew them."""


@payments.command("list")
@filters("Payments", PaymentState, since="Changed since", stuck="with a problem, or due and not looked at")
@json_option
def list_(as_json: bool, limit: int, **given: Any) -> None:
    """List payments, those first that were first heard of last."""
    with opened(settings()) as database, database.reading() as connection:
        rows = reports.payments(connection, reports.WantedPayments(limit=limit + 1, **given))
    print_page(rows, limit, "payment_key", payments_table, as_json=as_json)


@payments.command()
@payment_argument
@merchant_option
@json_option
def show(payment_id: str, merchant_id: str | None, as_json: bool) -> None:
    """Tell all that is known of PAYMENT_ID, and everything that touched it."""
    with opened(settings()) as database, database.reading() as connection:
        try:
            row = reports.payment(connection, payment_id, merchant_id)
        except LookupError as error:
            raise Refused(str(error)) from None
        timeline = reports.timeline_of_payment(connection, row)
    row.pop("claim_token")
    print_json({**row, "timeline": plain(timeline)}) if as_json else print_row(row, timeline)


@payments.command()
@payment_argument
@click.option("--merchant", "merchant_id", metavar="M", help="Whose payment; needed if there are several.")
@click.option("--wait", is_flag=True, help="Wait until the platform has been asked.")
@json_option
def reconcile(payment_id: str, merchant_id: str | None, wait: bool, as_json: bool) -> None:
    """Have PAYMENT_ID looked at now, and watched from now on; back-offs and parks are forgotten."""
    chosen = settings()
    with opened(chosen) as database:
        try:
            payment_key = reconciliation.request(
                database,
                frozenset(chosen.merchants),
                gap_seconds=chosen.gap_seconds,
                payment_id=payment_id,
                merchant_id=merchant_id,
            )
        except CannotAccept as error:
            raise Refused(str(error)) from None
        hints = _read(database, payment_key)["wanted"]
        ring(chosen, PAYMENTS, [payment_key])
        row = _looked_at(database, payment_key, hints) if wait else _read(database, payment_key)
    shown = {name: value for name, value in row.items() if name not in ("snapshot", "claim_token")}
    print_json(shown) if as_json else print_fields({n: v for n, v in shown.items() if v not in (None, False)})
    if wait and row["applied"] < hints:
        raise Refused(f"payment {row['payment_id']}: {row['problem']}")


def _looked_at(database: Database, payment_key: int, hints: int) -> dict[str, Any]:
    """The payment once a look has answered so many hints, or has failed."""
    while True:
        try:
            row = _read(database, payment_key)
        except DatabaseUnavailable as error:  # the request is stored
            click.echo(f"{error}; waiting for it", err=True)
        else:
            parked = row["due_at"] is None and row["claim_token"] is None
            if row["applied"] >= hints or row["failures"] or parked:
                return row
        time.sleep(LOOK_SECONDS)


def _read(database: Database, payment_key: int) -> dict[str, Any]:
    with database.reading() as connection:
        return reports.payment_by_key(connection, payment_key)
