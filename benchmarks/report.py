"""Writes what was measured into docs/performance.md, each table between its two marks."""

import os
import platform
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.acknowledgements import NAIVE, OURS, Closed, Open, Result
from benchmarks.drain import Drained
from benchmarks.growth import Step
from benchmarks.operating import PROMISED_MS, Answered

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
PACKAGES = ("flask", "gunicorn", "sqlalchemy", "psycopg", "celery", "kombu", "onlinepayments-sdk-python3")

#: Below this share of the arrivals acknowledged in time, the backlog grows for as long as the arrivals go on.
KEPT_UP = 0.99

Tables = dict[str, str]


def acknowledgement_tables(result: Result) -> Tables:
    """The closed loop and the open one."""
    return {
        "closed loop": _table(
            ("", "acknowledged/s", "ingress µs", "PostgreSQL µs", "RabbitMQ µs", "ingress, naive = 1"),
            (_closed_row(result, result.best(who)) for who in dict.fromkeys(row.who for row in result.closed)),
        ),
        "open loop": _table(
            ("arrivals/s", "", "acknowledged in time", "p50 ms", "p99 ms", "ingress µs"), map(_open_row, result.open)
        ),
    }


def drain_tables(drained: list[Drained]) -> Tables:
    """The backlog, payhook's and each rival's."""
    rows = (
        (
            row.who,
            row.events,
            f"{row.per_second:.0f}",
            f"{row.calls_each:.1f}",
            f"{row.worker_us:.0f}",
            f"{row.postgres_us:.0f}",
            f"{row.rabbitmq_us:.0f}",
        )
        for row in drained
    )
    head = ("", "events", "events/s", "platform calls each", "worker µs", "PostgreSQL µs", "RabbitMQ µs")
    return {"drain": _table(head, rows)}


def growth_tables(steps: list[Step]) -> Tables:
    """Each step at the fewest and at the most rows, and how many times as much it costs then."""
    fewest, most = min(step.rows for step in steps), max(step.rows for step in steps)
    rows = []
    for small in (step for step in steps if step.rows == fewest):
        (large,) = (step for step in steps if step.rows == most and step.name == small.name)
        rows.append(
            (
                small.name,
                f"{small.median_ms:.2f}",
                f"{large.median_ms:.2f}",
                f"{large.median_ms / small.median_ms:.2f}",
                f"{small.postgres_us:.0f}",
                f"{large.postgres_us:.0f}",
            )
        )
    head = ("", f"ms, {fewest:,} rows", f"ms, {most:,} rows", "ratio", f"PostgreSQL µs, {fewest:,}", f"{most:,}")
    return {"growth": _table(head, rows)}


def operating_tables(answered: list[Answered]) -> Tables:
    """Every question, the quickest and the slowest of its answers."""
    rows = (
        (f"{one.name}", f"{min(one.ms):.1f}", f"{max(one.ms):.1f}", "yes" if max(one.ms) < PROMISED_MS else "no")
        for one in answered
    )
    return {"operating": _table(("", "best ms", "worst ms", f"under {PROMISED_MS:.0f} ms"), rows)}


def conditions() -> Tables:
    """When and where, which every table stands under."""
    installed = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    text = (
        f"Measured on {datetime.now(UTC):%Y-%m-%d} by `make bench`: {os.cpu_count()} processors ({_processor()}), "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}, {installed}."
    )
    return {"conditions": text}


def write(tables: Tables, page: Path = PAGE) -> None:
    """Put each table between its marks.

    Raises:
        ValueError: the page has no marks of that name.
    """
    text = page.read_text(encoding="utf-8")
    for name, table in tables.items():
        marks = re.compile(rf"(?<=<!-- begin: {re.escape(name)} -->\n).*?(?=<!-- end -->)", re.DOTALL)
        if not marks.search(text):
            raise ValueError(f"{page.name} has no place for the table {name!r}: <!-- begin: {name} --> … <!-- end -->")
        text = marks.sub(f"\n{table}\n\n".replace("\\", r"\\"), text, count=1)
    page.write_text(text, encoding="utf-8")


def _closed_row(result: Result, row: Closed) -> Sequence[object]:
    times = result.best(NAIVE).server_us / row.server_us
    cheaper = f"1/{times:.1f}" if row.who != NAIVE else "1"
    costs = (f"{cost:.0f}" for cost in (row.server_us, row.postgres_us, row.rabbitmq_us))
    return (_bold(row.who), f"{row.per_second:.0f}", *costs, cheaper)


def _open_row(row: Open) -> Sequence[object]:
    keeps_up = row.kept_up >= KEPT_UP
    share = f"{row.kept_up:.1%}" if keeps_up else f"{row.kept_up:.0%}, falls behind"
    latencies = (f"{row.p50_ms:.1f}", f"{row.p99_ms:.1f}") if keeps_up else ("grows without bound",) * 2
    return (row.rate, _bold(row.who), share, *latencies, f"{row.server_us:.0f}")


def _bold(who: str) -> str:
    return f"**{who}**" if who == OURS else who


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells in lines)


def _processor() -> str:
    models = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return models[0] if models else platform.machine()
