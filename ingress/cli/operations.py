"""`payhook operations`: captures, refunds and cancellations: asked for, looked up, decided by a person."""

import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click

from ingress.cli import Commands, Refused, actor, json_option, opened, print_json, settings
from ingress.cli.tables import console, print_fields, print_table
from worker import operations as asked
from worker import reports
from worker.celery_app import make_app
from worker.database import Database
from worker.doorbell import OPERATIONS, Doorbell
from worker.gateways import open_gateways
from worker.lifecycle import MovementKind, OperationState, canonical_payment_id
from worker.operations import fingerprint, people
from worker.settings import Settings

#: Between two looks of a command that waits for the end.
LOOK_SECONDS = 0.25

#: Where nothing more happens by itself.
ENDS = ("succeeded", "refused", "withdrawn", "review")

COLUMNS = ("operation_key", "payment_id", "kind", "amount", "currency", "state", "source", "request_id", "reason")


@click.group(cls=Commands)
def operations() -> None:
    """Captures, refunds and cancellations."""


def asking(kind: MovementKind, *more: Callable[[Any], Any]) -> Callable[[Callable[..., None]], click.Command]:
    """A command that asks for one kind of operation."""
    options = (
        click.argument("payment_id"),
        click.option("--amount", type=click.IntRange(1), help="In minor units.  [default: all that is left]"),
        click.option("--currency", help="The payment's currency, to make sure of it."),
        click.option("--final", "is_final", is_flag=True, help="What this leaves is not to be moved any more."),
        click.option("--request-id", help="Asked for twice under one id, it is one operation.  [default: a new one]"),
        click.option("--source", default="cli", show_default=True, help="Who asks."),
        click.option("--merchant", "merchant_id", help="Whose payment; needed when there are several merchants."),
        click.option("--reference", help="Your own name for it, at most 40 characters; the platform shows it."),
        *more,
        click.option("--wait", is_flag=True, help="Wait until it has ended, or needs a person."),
        json_option,
    )

    def command(function: Callable[..., None]) -> click.Command:
        for option in reversed(options):
            function = option(function)
        return operations.command(kind.value)(function)

    return command


@asking(MovementKind.CAPTURE)
def capture(**given: Any) -> None:
    """Capture (a part of) the authorised payment PAYMENT_ID."""
    _ask(MovementKind.CAPTURE, **given)


@asking(MovementKind.REFUND, click.option("--reason", help="Shown in the platform's portal, not to the customer."))
def refund(**given: Any) -> None:
    """Refund (a part of) what was captured of PAYMENT_ID."""
    _ask(MovementKind.REFUND, **given)


@asking(
    MovementKind.CANCEL,
    click.option("--on-captured", type=click.Choice(["refuse", "refund"]), help="If it was captured already."),
)
def cancel(**given: Any) -> None:
    """Cancel (a part of) the authorisation of PAYMENT_ID."""
    _ask(MovementKind.CANCEL, **given)


def _ask(kind: MovementKind, *, wait: bool, as_json: bool, **given: Any) -> None:
    chosen = settings()
    request_id = given.pop("request_id") or str(uuid.uuid4())
    wanted = {name: value for name, value in given.items() if value is not None and value is not False}
    with opened(chosen) as database:
        try:
            row = asked.request(
                database, kind, {**wanted, "request_id": request_id}, frozenset(chosen.merchants), unnamed=request_id
            )
        except asked.CannotAccept as error:
            raise Refused(str(error)) from None
        _ring(chosen, row.operation_key)
        shown = _ended(database, row.operation_key) if wait else _read(database, row.operation_key)
    print_json(shown) if as_json else print_fields(shown)
    if shown["state"] in ("refused", "withdrawn", "review"):
        raise Refused(f"operation {row.operation_key} is {shown['state']}: {shown['reason']}")


@operations.command("list")
@click.option("--state", "states", multiple=True, type=click.Choice([state.value for state in OperationState]))
@click.option("--payment", "payment_id", help="Of one payment; its id in any format.")
@click.option("--merchant", "merchant_id", help="Of one merchant.")
@click.option("--source", help="Asked for by one source.")
@click.option("--request-id", help="Asked for under this id.")
@click.option("--since", help="Asked for since, as 2030-01-31T12:00:00Z.")
@click.option("--anomalies", is_flag=True, help="Those whose final state the platform contradicts.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="The newest so many.")
@json_option
def list_(as_json: bool, payment_id: str | None, since: str | None, **given: Any) -> None:
    """List operations, the newest first."""
    wanted = reports.Wanted(payment_id=_canonical(payment_id), since=_moment(since), **given)
    with opened(settings()) as database, database.reading() as connection:
        rows = reports.operations(connection, wanted)
    if as_json:
        print_json(rows)
        return
    columns = (*COLUMNS, "anomaly") if given["anomalies"] else COLUMNS
    print_table(columns, [[row[name] for name in columns] for row in rows])


@operations.command()
@click.argument("operation_key", metavar="KEY", type=int)
@json_option
def show(operation_key: int, as_json: bool) -> None:
    """Tell the whole story of the operation KEY: request, attempts, answers, movement, journal."""
    with opened(settings()) as database, database.reading() as connection:
        try:
            told = reports.story(connection, operation_key)
        except LookupError as error:
            raise Refused(str(error)) from None
    if as_json:
        print_json(told)
        return
    beside = {name: told.pop(name) for name in ("attempts", "movements", "journal")}
    print_fields({name: value for name, value in told.items() if value is not None})
    for name, rows in beside.items():
        console().print(f"\n{name}" if rows else f"\nno {name}")
        if rows:
            columns = [column for column in rows[0] if any(row[column] is not None for row in rows)]
            print_table(columns, [[row[column] for column in columns] for row in rows])


@operations.command()
@click.argument("operation_key", metavar="KEY", type=int)
@click.option("--reason", required=True, help="Why; kept in the journal.")
def withdraw(operation_key: int, reason: str) -> None:
    """Take back the operation KEY, if it was never sent."""
    _decide(operation_key, lambda connection: people.withdraw(connection, operation_key, actor=actor(), why=reason))


@operations.command()
@click.argument("operation_key", metavar="KEY", type=int)
@click.option("--as", "verdict", required=True, type=click.Choice(["succeeded", "refused", "resend"]))
@click.option("--reason", required=True, help="How you know; kept in the journal.")
def resolve(operation_key: int, verdict: people.Verdict, reason: str) -> None:
    """Settle the operation KEY, which is in review, by what you have found out."""
    _decide(
        operation_key,
        lambda connection: people.resolve(connection, operation_key, verdict, actor=actor(), why=reason),
    )


@operations.command()
@click.option("--reason", required=True, help="Why; kept in the journal.")
def adopt(reason: str) -> None:
    """Let this database belong to the merchants and the platform of these settings.

    A database moves money for those of the first process only, so that a copy of it, started elsewhere, moves none.
    """
    chosen = settings()
    hosts = {merchant_id: gateway.host for merchant_id, gateway in open_gateways(chosen).items()}
    with opened(chosen) as database, database.transaction() as connection:
        fingerprint.adopt(connection, hosts, why=reason, actor=actor())
    click.echo(f"This database belongs to {fingerprint.told(hosts)} now.")


def _decide(operation_key: int, decision: Callable[[Any], None]) -> None:
    chosen = settings()
    with opened(chosen) as database:
        try:
            with database.transaction() as connection:
                decision(connection)
        except people.CannotDecide as error:
            raise Refused(str(error)) from None
        _ring(chosen, operation_key)
        print_fields({name: value for name, value in _read(database, operation_key).items() if value is not None})


def _ended(database: Database, operation_key: int) -> dict[str, Any]:
    while (shown := _read(database, operation_key))["state"] not in ENDS:
        time.sleep(LOOK_SECONDS)
    return shown


def _read(database: Database, operation_key: int) -> dict[str, Any]:
    with database.reading() as connection:
        return reports.operation(connection, operation_key)


def _ring(chosen: Settings, operation_key: int) -> None:
    """Ring for the row; without, it is due, and the sweep finds it within seconds."""
    if chosen.embedded_broker:
        return
    doorbell = Doorbell(make_app(chosen))
    doorbell.ring(OPERATIONS, [operation_key])
    doorbell.flush(2.0)


def _canonical(payment_id: str | None) -> str | None:
    if payment_id is None:
        return None
    canonical = canonical_payment_id(payment_id)
    if canonical is None:
        raise click.BadParameter("not a payment's id (digits, perhaps with _ and a number after them)")
    return canonical


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter("not a time; for example 2030-01-31T12:00:00Z") from None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
