"""`payhook events`: what was received, what became of it, and the same once more."""

import sys
from collections.abc import Iterator
from dataclasses import replace as with_changes
from typing import Any

import click

from ingress.cli import Commands, Refused, actor, json_option, opened, print_json, settings
from ingress.cli.filters import LARGEST_KEY, filters, print_page
from ingress.cli.rings import ring
from ingress.cli.tables import print_table
from ingress.cli.timelines import events_table, plain, print_row
from ingress.key_stores import KeyStoreUnavailable, open_key_store
from worker import reports
from worker.database import Database, DatabaseUnavailable
from worker.doorbell import PAYMENTS
from worker.replay import BATCH, Admission, Verdict, judge, replay
from worker.reports import EVENT_STATES, WantedEvents
from worker.settings import Settings

#: Rows that are shown of what a replay would do; all of them are counted.
SHOWN = 50

#: More payments than this are left to the sweeps, which ring for them as the workers keep up.
RUNG = 300

STUCK = "quarantined, or waiting for more than two minutes"


@click.group(cls=Commands)
def events() -> None:
    """Webhook events, as they were received."""


@events.command("list")
@filters("Events", EVENT_STATES, since="Received since", stuck=STUCK)
@json_option
def list_(as_json: bool, limit: int, **given: Any) -> None:
    """List events, the newest first."""
    with opened(settings()) as database, database.reading() as connection:
        rows = reports.events(connection, WantedEvents(limit=limit + 1, **given))
    print_page(rows, limit, "event_key", events_table, as_json=as_json)


@events.command()
@click.argument("event_key", metavar="KEY", type=click.IntRange(1, LARGEST_KEY))
@click.option("--body", "wants_body", is_flag=True, help="Print the body as it came, and nothing else: personal data.")
@json_option
def show(event_key: int, wants_body: bool, as_json: bool) -> None:
    """Tell all that is known of the event KEY, and what became of it."""
    with opened(settings()) as database, database.reading() as connection:
        try:
            row = reports.event(connection, event_key)
        except LookupError as error:
            raise Refused(str(error)) from None
        if wants_body:
            _print_body(event_key, reports.body_of_event(connection, event_key))
            return
        timeline = reports.timeline_of_event(connection, row)
    print_json({**row, "timeline": plain(timeline)}) if as_json else print_row(row, timeline)


def _print_body(event_key: int, body: bytes | None) -> None:
    if body is None:
        raise Refused(f"the body of event {event_key} has been erased")
    sys.stdout.flush()
    click.echo(body, nl=False)


@events.command("replay")
@click.argument("event_keys", metavar="[KEY]...", nargs=-1, type=click.IntRange(1, LARGEST_KEY))
@filters("Events", EVENT_STATES, since="Received since", stuck=STUCK, limit=None)
@click.option("--yes", is_flag=True, help="Do it; else it is only said what would be done.")
@json_option
def replay_(event_keys: tuple[int, ...], limit: int | None, yes: bool, as_json: bool, **given: Any) -> None:
    """Work on events once more, whatever became of them: those of the KEYs, or those that the options choose."""
    wanted = WantedEvents(**given)
    if bool(event_keys) == wanted.narrows:
        raise click.UsageError("give keys, or options that choose events, and not both; --since 36500d is all of them")
    chosen = settings()
    with opened(chosen) as database:
        admission = _admission(chosen, database)
        tally = Tally(is_done=yes)
        try:
            for batch in _batches(database, event_keys, wanted, limit):
                if yes:
                    gap = chosen.gap_seconds
                    done = replay(database, batch, admission, gap_seconds=gap, why="replayed", actor=actor())
                    tally.add(batch, done.verdicts, done.payment_keys)
                else:
                    with database.reading() as connection:
                        tally.add(batch, judge(connection, batch, admission))
        except DatabaseUnavailable as error:
            so_far = f"{tally.due} events were due by then; the same command again does no harm"
            raise Refused(f"{error}; {so_far}" if yes else str(error)) from None
    if yes and len(tally.payment_keys) <= RUNG:
        ring(chosen, PAYMENTS, tally.payment_keys)
    tally.print(as_json=as_json)


def _admission(chosen: Settings, database: Database) -> Admission:
    try:
        keys = open_key_store(chosen, database).load()
    except KeyStoreUnavailable as error:
        raise Refused(f"whose keys signed the events cannot be told: {error}") from None
    ours = frozenset(chosen.merchants) if chosen.names_merchants else None
    return Admission(ours, {key_id: key.merchant_id for key_id, key in keys.items()})


def _batches(
    database: Database, event_keys: tuple[int, ...], wanted: WantedEvents, limit: int | None
) -> Iterator[list[int]]:
    """The keys of the events that were chosen, some at a time, each once."""
    if event_keys:
        keys = sorted(set(event_keys))
        yield from (keys[at : at + BATCH] for at in range(0, len(keys), BATCH))
        return
    left = limit
    while left is None or left > 0:
        with database.reading() as connection:
            batch = reports.event_keys(connection, with_changes(wanted, limit=min(BATCH, left or BATCH)))
        if not batch:
            return
        yield batch
        wanted = with_changes(wanted, before=batch[-1])
        left = None if left is None else left - len(batch)


class Tally:
    """What a replay comes to, batch by batch.

    Args:
        is_done: whether it is done, not only told.
    """

    def __init__(self, *, is_done: bool):
        self.due = 0
        self.payment_keys: list[int] = []
        self._is_done = is_done
        self._refused: list[tuple[int, str]] = []
        self._shown: list[Verdict] = []

    def add(self, batch: list[int], verdicts: tuple[Verdict, ...], payment_keys: tuple[int, ...] = ()) -> None:
        """Count a batch: the keys that were asked for, and what became of those that are there."""
        self.due += sum(one.refused is None for one in verdicts)
        self._refused += [(one.event_key, one.refused) for one in verdicts if one.refused is not None]
        missing = sorted(set(batch) - {one.event_key for one in verdicts})
        self._refused += [(key, "there is no such event") for key in missing]
        self._shown += verdicts[: SHOWN - len(self._shown)]
        if len(self.payment_keys) <= RUNG:
            self.payment_keys += payment_keys

    def print(self, *, as_json: bool) -> None:
        """Say what was done, or what would be; exit code 1 when something cannot be."""
        if as_json:
            refused = [{"event_key": key, "why": why} for key, why in self._refused]
            print_json({"done": self._is_done, "due": self.due, "refused": refused})
        else:
            self._print()
        if self._refused:
            raise Refused(f"{len(self._refused)} cannot be replayed")

    def _print(self) -> None:
        if self._shown and not self._is_done:
            columns = ("key", "payment_id", "type", "state", "problem")
            print_table(
                columns, [(v.event_key, v.hint.payment_id, v.hint.type, v.former, v.problem) for v in self._shown]
            )
        for event_key, why in self._refused[:SHOWN]:
            click.echo(f"event {event_key} cannot be replayed: {why}")
        if len(self._refused) > SHOWN:
            click.echo(f"… and {len(self._refused) - SHOWN} more; --json has them all")
        if self._is_done:
            click.echo(f"{self.due} events are due. What comes of each: `payhook events show KEY`.")
        else:
            click.echo(f"{self.due} events would be due. Nothing was done: the same command with --yes does it.")
