"""`payhook drift`: our records compared with the platform's, payment by payment, and brought in line if asked to."""

import contextlib
import sys
from collections.abc import Collection, Iterator
from datetime import datetime
from itertools import takewhile

import click

from ingress.cli import Refused, json_option, opened, print_json, settings
from ingress.cli.drift.fixing import bring_in_line
from ingress.cli.drift.screen import Screen
from ingress.cli.filters import check_payment, check_since
from worker.database import Database
from worker.drift import Chosen, Comparer, Verdict, Wanted, choose
from worker.gateways import open_gateways
from worker.settings import Settings
from worker.traffic import Traffic
from worker.traffic.budget import SHARES, Lane

#: Looks at a time, unless told otherwise: those of the workers wait behind no more than these.
THREADS = 4


@click.command()
@click.option("--since", metavar="T", callback=check_since, help="Changed since: 2030-01-31T12:00:00Z, or 90m, 2d.")
@click.option("--sample", metavar="N", type=click.IntRange(1), help="So many of them, drawn by lot.")
@click.option("--merchant", "merchant_id", metavar="M", help="Of one merchant.")
@click.option("--payment", "payment_id", metavar="P", callback=check_payment, help="One payment; its id.")
@click.option(
    "--threads", metavar="N", type=click.IntRange(1, 256), default=THREADS, show_default=True, help="Looks at a time."
)
@click.option("--fix", is_flag=True, help="Bring in line what differs; the journal says who.")
@json_option
def drift(
    since: datetime | None,
    sample: int | None,
    merchant_id: str | None,
    payment_id: str | None,
    threads: int,
    fix: bool,
    as_json: bool,
) -> None:
    """Compare our records of payments with the platform's; of all payments, if none are chosen.

    Exit code 1 if one differs, or could not be compared.
    """
    chosen = settings()
    wanted = Wanted(_merchants(chosen, merchant_id), payment_id, since, sample)
    with _opened(chosen, wanted.merchant_ids, min(threads, chosen.platform_threads)) as (database, comparer):
        with database.reading() as connection:
            which = choose(connection, wanted)
        if payment_id is not None and not which.payment_keys:
            raise Refused(f"there is no payment {payment_id} here; the task payhook.reconcile makes one known")
        with Screen(len(which.payment_keys), as_json=as_json) as screen:
            screen.say(_beginning(which, chosen, everything=wanted == Wanted(wanted.merchant_ids)))
            _compare(comparer, which, screen)
            if fix:
                screen.fixed = bring_in_line(chosen, database, comparer, screen)
    print_json(screen.plain()) if as_json else click.echo(screen.summary())
    if not screen.is_well:
        sys.exit(1)


def _merchants(chosen: Settings, merchant_id: str | None) -> Collection[str]:
    if merchant_id is None:
        return chosen.merchants.keys()
    if merchant_id not in chosen.merchants:
        raise Refused(f"{merchant_id} is not one of our merchants: {', '.join(sorted(chosen.merchants))}")
    return [merchant_id]


@contextlib.contextmanager
def _opened(chosen: Settings, merchant_ids: Collection[str], threads: int) -> Iterator[tuple[Database, Comparer]]:
    every = open_gateways(chosen)
    try:
        with opened(chosen, threads=threads + 1) as database:
            gateways = {merchant_id: every[merchant_id] for merchant_id in merchant_ids}
            yield database, Comparer(database, gateways, chosen, Traffic(database, chosen), threads=threads)
    finally:
        for gateway in every.values():
            gateway.close()


def _compare(comparer: Comparer, which: Chosen, screen: Screen) -> None:
    keys = takewhile(lambda _: not comparer.is_over, which.payment_keys)
    try:
        with contextlib.closing(comparer.compare(keys)) as found:
            for one in found:
                screen.show(one)
    except KeyboardInterrupt:
        screen.say("ended early; what follows is what was found so far")
    for merchant_id, why in comparer.shut.items():
        screen.shut(merchant_id, why)
    if comparer.is_over:
        screen.verdicts[Verdict.NOT_ASKED] = len(which.payment_keys) - screen.asked


def _beginning(which: Chosen, chosen: Settings, *, everything: bool) -> str:
    """What is going to be done, and for how long at least: a person may want less of it."""
    count = len(which.payment_keys)
    if not count:
        return "there is no such payment"
    slowest = max(which.calls.values()) / (chosen.budget_per_second * SHARES[Lane.LOOKS])
    payments = "1 payment" if count == 1 else f"{'all ' if everything else ''}{count:,} payments"
    order = ", the one whose last look is longest ago first" if count > 1 else ""
    return (
        f"comparing {payments}{order}: {sum(which.calls.values()):,} requests, "
        f"within the budget in {_length(slowest)} at least"
    )


def _length(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
