"""`payhook doctor`: what is not well, why, and what mends it."""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.text import Text

from ingress.cli import json_option, print_json
from ingress.cli.tables import UNCUT, print_table, printable
from worker.settings.inventory import Inventory, take_inventory

if TYPE_CHECKING:
    from ingress.doctor import Check

STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red", "unknown": "magenta"}


@click.command()
@click.option("--settings", "only_settings", is_flag=True, help="Only list the settings in force, and their origins.")
@json_option
def doctor(only_settings: bool, as_json: bool) -> None:
    """Examine the installation: each line says what is not well, why, and what mends it.

    Give it the settings of the workers. It changes nothing.
    """
    from ingress.doctor import GROUPS, examine  # noqa: PLC0415 - Celery and the SDK are not for every command

    inventory = take_inventory()
    if only_settings:
        well = not inventory.problems
        _print_settings(inventory, as_json)
    else:
        checks = examine(inventory)
        well = all(check.ok for check in checks)
        if as_json:
            print_json({"ok": well, "checks": [_plain(check) for check in checks]})
        else:
            _print_checks(checks, GROUPS)
    sys.exit(0 if well else 1)


def _print_settings(inventory: Inventory, as_json: bool) -> None:
    columns = ("name", "value", "origin", "problem")
    rows = [{column: getattr(entry, column) for column in columns} for entry in inventory.entries]
    if as_json:
        print_json(rows)
        return
    print_table(columns, [list(row.values()) for row in rows], wrapped=True)
    for problem in inventory.problems:
        click.echo(problem, err=True)


def _plain(check: "Check") -> dict[str, str | None]:
    finding = check.finding
    return {"name": check.name, "state": finding.state, "why": finding.why, "what_to_do": finding.what_to_do}


def _print_checks(checks: Sequence["Check"], groups: Mapping[str, Sequence[str]]) -> None:
    """Every line in its group, and those that are not well once more at the end, where the eye comes to rest."""
    console = Console(width=None if sys.stdout.isatty() else UNCUT, highlight=False, markup=False)
    width = max(len(check.name) for check in checks)
    with console.capture() as drawn:
        for group, names in groups.items():
            console.print(Text(group, "bold"))
            for check in sorted((one for one in checks if one.line in names), key=lambda one: names.index(one.line)):
                print_check(console, check, width)
        console.print()
        for sentence in _summary(checks):
            console.print(Text(sentence))
    for line in drawn.get().splitlines():
        click.echo(line.rstrip())


def _summary(checks: Sequence["Check"]) -> list[str]:
    unknown = [check.name for check in checks if check.finding.state == "unknown"]
    ill = [check.name for check in checks if not check.ok and check.name not in unknown]
    told = {"not well": ill, "not known": unknown}
    return [f"{what}: {', '.join(names)}" for what, names in told.items() if names] or ["all is well"]


def print_check(console: Console, check: "Check", width: int) -> None:
    """Draw one line, as many of the terminal's as it takes.

    Args:
        console: where, and how wide it is.
        check: the line.
        width: of the longest name.
    """
    finding = check.finding
    before = 2 + 8 + width + 2
    told = [finding.why] + ([f"→ {finding.what_to_do}"] if finding.what_to_do else [])
    for number, sentence in enumerate(told):
        start = Text(" " * before)
        if number == 0:
            start = Text("  ").append(f"{finding.state:<8}", STYLES[finding.state]).append(f"{check.name:<{width}}  ")
        room = max(console.width - before, 20)
        for row in Text(printable(sentence)).wrap(console, room):
            console.print(start + row)
            start = Text(" " * before)
