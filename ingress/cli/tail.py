"""`payhook tail`: what happens now, a line each."""

import json
import os
import select
import signal
import sys
import threading
from dataclasses import asdict
from datetime import datetime

import click

from ingress.cli import json_option, opened, settings
from ingress.cli.filters import check_payment, check_since
from ingress.cli.tables import printable
from ingress.cli.timelines import told
from worker.database import Database, DatabaseUnavailable
from worker.reports import Happening, Line

#: Between two looks when nothing more is to be read at once.
LOOK_SECONDS = 0.5


@click.command()
@click.option(
    "--since", metavar="T", callback=check_since, help="From then on: 2030-01-31T12:00:00Z, or 10m, 2h. Else from now."
)
@click.option("--payment", "payment_id", metavar="P", callback=check_payment, help="Of one payment; its id.")
@click.option(
    "--type", "type_", metavar="T", help="Of one type of event (payment.captured), or kind of operation (refund)."
)
@click.option("--merchant", "merchant_id", metavar="M", help="Of one merchant.")
@click.option("--state", metavar="S", help="What is in this state since: quarantined, captured, review, ….")
@json_option
def tail(since: datetime | None, as_json: bool, **wished: str | None) -> None:
    """Tell what happens, a line each, until it is interrupted: events, payments, operations and their attempts."""
    leaving = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: leaving.set())
    with opened(settings()) as database:
        _follow(database, Happening(since), wished, leaving, as_json=as_json)


def _follow(
    database: Database, happening: Happening, wished: dict[str, str | None], leaving: threading.Event, *, as_json: bool
) -> None:
    is_away = False
    while not leaving.is_set() and not _nobody_reads():
        lines: list[Line] = []
        more = False
        try:
            with database.reading() as connection:
                lines, more = happening.read(connection)
            is_away = False
        except DatabaseUnavailable as error:
            if not is_away:
                click.echo(f"{error}; waiting for it", err=True)
            is_away = True
        if not _print([line for line in lines if _is_wished(line, **wished)], as_json=as_json):
            return
        if not more:
            leaving.wait(LOOK_SECONDS)


def _is_wished(
    line: Line, payment_id: str | None, type_: str | None, merchant_id: str | None, state: str | None
) -> bool:
    wishes = ((payment_id, line.payment_id), (type_, line.type), (merchant_id, line.merchant_id), (state, line.state))
    return all(wish is None or wish == said for wish, said in wishes)


def _print(lines: list[Line], *, as_json: bool) -> bool:
    """Whether somebody still reads."""
    try:
        for line in lines:
            text = json.dumps(asdict(line), default=str) if as_json else printable(told(line))
            sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left in the buffer would be tried again at the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def _nobody_reads() -> bool:
    """Whether the other end of a pipe is closed, which a quiet hour would not tell."""
    try:
        watch = select.poll()
        watch.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):  # no file at all
        return False
    return any(what & select.POLLERR for _, what in watch.poll(0))
