"""`payhook retention`: what is old is erased and deleted now, or counted."""

from collections import Counter

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ingress.cli import json_option, opened, print_json, settings
from ingress.cli.tables import print_table
from worker.upkeep.retention import COUNTED, walk

#: What the rows are, for people.
TOLD = {
    "bodies": "raw bodies of events",
    "webhook_events": "events",
    "payments": "payments",
    "movements": "movements",
    "journal": "journal lines",
}


@click.command()
@click.option("--dry-run", is_flag=True, help="Count what would go now, and change nothing.")
@json_option
def retention(dry_run: bool, as_json: bool) -> None:
    """Erase bodies and delete finished rows that are old enough, as every worker does once a day.

    Interrupted, it has done what it has come to; the next run does the rest.
    """
    chosen = settings()
    counts = Counter(dict.fromkeys(COUNTED, 0))
    console = Console(stderr=True)
    with opened(chosen) as database, _bar(console) as bar:
        task = bar.add_task("looking for what is old", total=1.0)
        for step in walk(database, chosen, dry=dry_run):
            counts.update(step.counts)
            bar.update(task, completed=step.share)
        bar.update(task, completed=1.0)
    if as_json:
        print_json({"dry_run": dry_run, **counts})
    else:
        print_table(("rows", "would go now" if dry_run else "gone"), [(TOLD[name], counts[name]) for name in COUNTED])


def _bar(console: Console) -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
