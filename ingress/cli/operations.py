"""`payhook operations`: captures, refunds and cancellations: asked for, looked up, decided by a person."""

import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import click
import structlog
from sqlalchemy import Connection

from ingress.cli import Commands, Refused, actor, json_option, opened, print_json, settings
from ingress.cli.filters import LARGEST_KEY, filters, print_page
from ingress.cli.rings import ring
from ingress.cli.stories import operations_table, print_operation, print_story
from worker import operations as asked
from worker import reports
from worker.database import Database, DatabaseUnavailable
from worker.doorbell import OPERATIONS
from worker.gateways import open_gateways
from worker.lifecycle import MovementKind, OperationState
from worker.operations import fingerprint, people

log = structlog.get_logger("payhook.operations")

#: Between two looks of a command that waits for the end.
LOOK_SECONDS = 0.25

#: Where nothing more happens by itself.
ENDS = ("succeeded", "refused", "withdrawn", "review")

LONGEST_REASON = 500


def _check_reason(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not value.strip() or not value.isprintable() or len(value) > LONGEST_REASON:
        raise click.BadParameter(f"one line of text, of {LONGEST_REASON} characters at most")
    return value


key_argument = click.argument("operation_key", metavar="KEY", type=click.IntRange(1, LARGEST_KEY))


@click.group(cls=Commands)
def operations() -> None:
    """Captures, refunds and cancellations."""


def asking(kind: MovementKind, *more: Callable[[Any], Any]) -> Callable[[Callable[..., None]], click.Command]:
    """A command that asks for one kind of operation."""
    options = (
        click.argument("payment_id"),
        click.option("--amount", metavar="N", type=click.IntRange(1), help="In minor units; else all that is left."),
        click.option("--currency", metavar="C", help="The payment's currency, to make sure of it."),
        click.option("--final", "is_final", is_flag=True, help="What this leaves is not to be moved any more."),
        click.option("--request-id", metavar="R", help="Asked for again under the same id, it is one operation."),
        click.option("--source", metavar="S", default="cli", show_default=True, help="Who asks."),
        click.option("--merchant", "merchant_id", metavar="M", help="Whose payment; needed if there are several."),
        click.option("--reference", metavar="X", help="Your own name for it; the platform shows it."),
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
    """Capture the authorised payment PAYMENT_ID, or a part of it."""
    _ask(MovementKind.CAPTURE, **given)


@asking(MovementKind.REFUND, click.option("--reason", metavar="T", help="Why; the platform is told."))
def refund(**given: Any) -> None:
    """Refund what was captured of PAYMENT_ID, or a part of it."""
    _ask(MovementKind.REFUND, **given)


@asking(
    MovementKind.CANCEL,
    click.option("--on-captured", type=click.Choice(["refuse", "refund"]), help="What if it was captured already."),
)
def cancel(**given: Any) -> None:
    """Cancel the authorisation of PAYMENT_ID, or a part of it."""
    _ask(MovementKind.CANCEL, **given)


def _ask(kind: MovementKind, *, wait: bool, as_json: bool, **given: Any) -> None:
    chosen = settings()
    request_id = given.pop("request_id") or str(uuid.uuid4())
    wanted = {name: value for name, value in given.items() if value is not None and value is not False}
    wanted["request_id"] = request_id
    merchant_ids = frozenset(chosen.merchants)
    with opened(chosen) as database:
        try:
            row = asked.request(database, kind, wanted, merchant_ids, unnamed=request_id, actor=actor())
        except asked.CannotAccept as error:
            raise Refused(str(error)) from None
        except DatabaseUnavailable as error:
            # With an id of its own, the same command again could be the same money again.
            again = f"It may be stored all the same: ask again with --request-id {request_id}, and it is one operation."
            raise Refused(f"{error}. {again}") from None
        ring(chosen, OPERATIONS, [row.operation_key])
        shown = _ended(database, row.operation_key) if wait else _read(database, row.operation_key)
    print_json(shown) if as_json else print_operation(shown)
    if shown["state"] in ("refused", "withdrawn", "review"):
        raise Refused(f"operation {row.operation_key} is {shown['state']}: {shown['reason']}")


@operations.command("list")
@filters("Operations", OperationState, since="Asked for since", stuck="unknown, in review, or open for unusually long")
@click.option("--source", metavar="S", help="Asked for by one source.")
@click.option("--request-id", metavar="R", help="Asked for under this id.")
@click.option("--anomalies", is_flag=True, help="Those whose end the platform contradicts.")
@json_option
def list_(as_json: bool, limit: int, **given: Any) -> None:
    """List operations, the newest first."""
    with opened(settings()) as database, database.reading() as connection:
        rows = reports.operations(connection, reports.Wanted(limit=limit + 1, **given))
    print_page(
        rows,
        limit,
        "operation_key",
        lambda page: operations_table(page, anomalies=given["anomalies"]),
        as_json=as_json,
    )


@operations.command()
@key_argument
@json_option
def show(operation_key: int, as_json: bool) -> None:
    """Tell all that was done about the operation KEY."""
    with opened(settings()) as database, database.reading() as connection:
        try:
            told = reports.story(connection, operation_key)
        except LookupError as error:
            raise Refused(str(error)) from None
    print_json(told) if as_json else print_story(told)


@operations.command()
@key_argument
@click.option("--reason", metavar="T", required=True, callback=_check_reason, help="Why; kept in the journal.")
@json_option
def withdraw(operation_key: int, reason: str, as_json: bool) -> None:
    """Take back the operation KEY, if it was never sent."""
    _decide(
        operation_key,
        lambda connection: people.withdraw(connection, operation_key, actor=actor(), why=reason),
        "operation.withdrawn",
        as_json=as_json,
        why=reason,
    )


@operations.command()
@key_argument
@click.option(
    "--as",
    "verdict",
    required=True,
    type=click.Choice(["succeeded", "refused", "resend"]),
    help="Whether it was made; resend: it was not, and shall be, under a new key.",
)
@click.option("--reason", metavar="T", required=True, callback=_check_reason, help="How you know; kept in the journal.")
@json_option
def resolve(operation_key: int, verdict: people.Verdict, reason: str, as_json: bool) -> None:
    """Settle the operation KEY, which is in review.

    To resend what was made after all moves the money twice: the platform takes it for something new.
    """
    _decide(
        operation_key,
        lambda connection: people.resolve(connection, operation_key, verdict, actor=actor(), why=reason),
        "operation.resolved",
        as_json=as_json,
        verdict=verdict,
        why=reason,
    )


@operations.command()
@key_argument
@click.option("--reason", metavar="T", required=True, callback=_check_reason, help="What was done; for the journal.")
@json_option
def acknowledge(operation_key: int, reason: str, as_json: bool) -> None:
    """Note that the anomaly of the operation KEY was seen to."""
    _decide(
        operation_key,
        lambda connection: people.acknowledge(connection, operation_key, actor=actor(), why=reason),
        "operation.acknowledged",
        as_json=as_json,
        why=reason,
    )


@operations.command()
@click.option("--reason", metavar="T", required=True, callback=_check_reason, help="Why; kept in the journal.")
def adopt(reason: str) -> None:
    """Let this database belong to these settings.

    A database moves money for the merchants and the platform of the first process only, so that a copy of it, started
    elsewhere, moves none.
    """
    chosen = settings()
    hosts = {merchant_id: gateway.host for merchant_id, gateway in open_gateways(chosen).items()}
    with opened(chosen) as database, database.transaction() as connection:
        fingerprint.adopt(connection, hosts, why=reason, actor=actor())
    click.echo(f"This database belongs to {fingerprint.told(hosts)} now.")


def _decide(
    operation_key: int, decision: Callable[[Connection], Iterable[int]], event: str, *, as_json: bool, **said: str
) -> None:
    chosen = settings()
    with opened(chosen) as database:
        try:
            with database.transaction() as connection:
                woken = decision(connection)
        except people.CannotDecide as error:
            raise Refused(str(error)) from None
        log.warning(event, security=True, operation_key=operation_key, actor=actor(), **said)
        ring(chosen, OPERATIONS, woken)
        shown = _read(database, operation_key)
    print_json(shown) if as_json else print_operation(shown)


def _ended(database: Database, operation_key: int) -> dict[str, Any]:
    """The operation once it has ended; each of its states is told as it comes."""
    state = None
    while True:
        try:
            shown = _read(database, operation_key)
        except DatabaseUnavailable as error:  # what was asked for is stored
            click.echo(f"{error}; waiting for it", err=True)
        else:
            if shown["state"] != state:
                state = shown["state"]
                click.echo(f"operation {operation_key} is {state}", err=True)
            if state in ENDS:
                return shown
        time.sleep(LOOK_SECONDS)


def _read(database: Database, operation_key: int) -> dict[str, Any]:
    with database.reading() as connection:
        return reports.operation(connection, operation_key)
