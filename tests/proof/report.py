"""docs/proof.md: what a run of `make prove` has measured, for people."""

import json
import os
import platform
import re
import subprocess
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.proof.mutants import ROOT, Mutant

LIBRARIES = ("celery", "kombu", "sqlalchemy", "psycopg", "flask", "gunicorn", "waitress", "onlinepayments-sdk-python3")

HEAD = """\
# Proof

What payhook promises ([design.md](design.md#7-what-we-promise)), measured. This page is written by `make prove`, which
takes about an hour and needs no account: real PostgreSQL, RabbitMQ and Redis processes, the sandbox as the
platform, and faults drawn from a seed. It ends with an error when a promise is broken, when fewer faults were injected
than are required here, or when a mutant lives. `make test` runs a smaller version of the proofs.

Wherever servers or processes are killed, frozen or overloaded, every call of every client is noted, before it is made
and when its end is known, in a history that is judged when all is over: *ok*, *fail* (it certainly was not done) or
*info* (nobody knows: a 503, an answer that was lost).

What the platform did is judged by the sandbox's own ledger, joined to our operations by the reference they were sent
with; a process that asks for money is killed by the sandbox itself, for only there is the moment of an effect known.

"""


@dataclass(frozen=True)
class Fate:
    """What became of a mutant."""

    mutant: Mutant
    failed: list[str]
    problem: str | None
    seconds: float

    @property
    def killed(self) -> bool:
        return bool(self.failed)

    @property
    def told(self) -> str:
        return "killed" if self.killed else "unusable" if self.problem else "alive"


@dataclass(frozen=True)
class Run:
    """One run of `make prove`."""

    began: float
    seed: int
    held: bool
    figures: Path
    fates: list[Fate]


def write(page: Path, run: Run) -> None:
    """Write the page anew."""
    lines = run.figures.read_text().splitlines()
    page.write_text(HEAD + _about(run) + _figures([json.loads(line) for line in lines]) + _fates(run.fates))


def write_part(page: Path, run: Run) -> None:
    """Write the figures and the fates of one part in place of those that the page has of them."""
    before, _, rest = page.read_text().partition("\n## Figures\n")
    about = before.partition("## The run\n")[2]
    head = f"{HEAD}## The run\n{about}"
    figures, _, mutants = rest.partition("\n## Mutants\n")
    lines = [json.loads(line) for line in run.figures.read_text().splitlines()]
    measured = _sections(lines)
    told = f"Measured {_when(run)}, {_outcome(run)}, at revision {_revision()}.\n"
    kept = [section for section in figures.split("\n### ") if section.splitlines()[0] not in measured]
    parts = [*kept, *(f"{title}\n\n{told}{table}" for title, table in measured.items())]
    rows = {line.split("`")[1]: line for line in mutants.splitlines() if line.startswith("| `")}
    rows |= {fate.mutant.name: _row(fate) for fate in run.fates}
    page.write_text(f"{head}\n## Figures\n" + "\n### ".join(parts) + _table_of_fates(list(rows.values())))


def _about(run: Run) -> str:
    facts = {
        "when": _when(run),
        "outcome": _outcome(run),
        "revision": _revision(),
        "seed": f"{run.seed} (`make prove SEED=…` takes another)",
        "machine": f"{os.cpu_count()} cores, {_memory()} GiB, {platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "servers": ", ".join(_servers()),
        "libraries": ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
    }
    return "## The run\n\n| | |\n| --- | --- |\n" + "".join(f"| {name} | {fact} |\n" for name, fact in facts.items())


def _when(run: Run) -> str:
    minutes = (time.time() - run.began) / 60
    return f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime(run.began))} UTC, in {minutes:.0f} minutes"


def _outcome(run: Run) -> str:
    return "every proof held" if run.held else "**a proof failed**"


def _figures(figures: list[dict[str, Any]]) -> str:
    text = "\n## Figures\n\n*injected* is how often a fault was there, and how often it has to be.\n"
    return text + "".join(f"\n### {title}\n{table}" for title, table in _sections(figures).items())


def _sections(figures: list[dict[str, Any]]) -> dict[str, str]:
    """A table for each proof, by its title. Two processes may have written at a time."""
    sections: dict[str, str] = {}
    for line in figures:
        title = f"{', '.join(line['promises'])}: {_sentence(line['proof'])}"
        table = sections.get(title, "\n| | measured | promised or required |\n| --- | --- | --- |\n")
        sections[title] = table + f"| {line['what']} | {line['measured']} | {line['promised'] or ''} |\n"
    return sections


def _fates(fates: list[Fate]) -> str:
    return _table_of_fates([_row(fate) for fate in fates])


def _row(fate: Fate) -> str:
    test = fate.mutant.proof.partition("::")[2]
    return f"| `{fate.mutant.name}` | {fate.mutant.fault} | `{test}` | {fate.told} |"


def _table_of_fates(rows: list[str]) -> str:
    killed = sum(row.endswith("| killed |") for row in rows)
    return f"""
## Mutants

Faults that were put into a copy of payhook one at a time (`tests/proof/mutants/`), and the test that had to fail for
each; all of these tests pass without a mutant. {killed} of {len(rows)} were killed.

| mutant | what it does | the test that must fail | |
| --- | --- | --- | --- |
""" + "".join(f"{row}\n" for row in rows)


def _sentence(test: str) -> str:
    name, _, case = test.removeprefix("test_").partition("[")
    return name.replace("_", " ") + (f" ({case.rstrip(']')})" if case else "")


def _revision() -> str:
    revision = _told("git", "rev-parse", "--short", "HEAD") or "none"
    changed = _told("git", "status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/proof.md")
    return f"`{revision}`" + (" with changes" if changed else "")


def _memory() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)


def _servers() -> list[str]:
    postgres = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[4]))[-1]
    rabbitmq = next((path.name for path in Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*")), "")
    return [
        "PostgreSQL " + _number(_told(str(postgres), "--version")),
        "RabbitMQ " + _number(rabbitmq),
        "Redis " + _number(_told("redis-server", "--version")),
    ]


def _number(text: str) -> str:
    found = re.search(r"\d+(\.\d+)+", text)
    return found[0] if found else "(unknown)"


def _told(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()
