"""The benchmarks still run: what they measure is nobody's concern here, that they report every figure is."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks.acknowledgements import HELLO, NAIVE, OURS, Closed, Open, Result
from benchmarks.growth import Step
from benchmarks.processor_time import Meter
from benchmarks.questions import QUESTIONS
from benchmarks.report import PAGE, acknowledgement_tables, growth_tables, write
from tests.servers.process_tree import wait_for

ROOT = Path(__file__).parents[2]

#: Each table, and how many rows it has when it is measured small.
TABLES = {"closed loop": 3, "open loop": 3, "drain": 3, "growth": 4, "operating": len(QUESTIONS) + 2}


def rows_of(page: Path, table: str) -> list[list[str]]:
    """The rows of one table of a page, without its head."""
    found = re.search(rf"<!-- begin: {table} -->\n(.*?)<!-- end -->", page.read_text(), re.DOTALL)
    assert found is not None
    lines = [line for line in found[1].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.servers
@pytest.mark.timeout(300)
def test_the_benchmarks_fill_their_tables(tmp_path: Path) -> None:
    """Run small, on the same servers, they end, and no cell of a table is empty or without a number."""
    page = Path(shutil.copy(PAGE, tmp_path))
    write(dict.fromkeys(TABLES, "| nothing |\n| --- |\n| yet |"), page)

    command = [sys.executable, "-m", "benchmarks", "--quick", "--page", str(page)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=280, stdout=subprocess.DEVNULL)

    for table, count in TABLES.items():
        rows = rows_of(page, table)
        assert len(rows) == count
        assert all(cell for row in rows for cell in row)
        assert all(any(re.search(r"\d", cell) for cell in row) for row in rows)
    assert "`make bench`: " in page.read_text()


def test_the_page_has_a_place_for_every_table(tmp_path: Path) -> None:
    """What is measured finds its place, and what stands around it stays."""
    page = Path(shutil.copy(PAGE, tmp_path))

    write(dict.fromkeys(TABLES, "| new |"), page)

    assert page.read_text().count("| new |") == len(TABLES)
    assert page.read_text().splitlines()[0] == PAGE.read_text().splitlines()[0]


def test_a_table_without_a_place_is_an_error(tmp_path: Path) -> None:
    """Figures must not get lost without a word."""
    page = tmp_path / "page.md"
    page.write_text("<!-- begin: drain -->\n<!-- end -->\n")

    with pytest.raises(ValueError, match="no place for the table 'growth'"):
        write({"growth": "| |"}, page)


def test_who_cannot_keep_up_has_no_latency() -> None:
    """The longer the arrivals went on, the longer it would be: any number would be the length of our run."""
    slow, fast = Open(NAIVE, 1500, 0.4, 900.0, 4000.0, 3000.0), Open(OURS, 1500, 1.0, 5.0, 20.0, 600.0)
    closed = [Closed(who, 1.0, cost, 1.0, 1.0) for who, cost in ((OURS, 500.0), (NAIVE, 3000.0), (HELLO, 250.0))]

    tables = acknowledgement_tables(Result(closed, [slow, fast]))

    assert "| 1500 | naive | 40%, falls behind | grows without bound | grows without bound | 3000 |" in str(tables)
    assert "| 1500 | **payhook** | 100.0% | 5.0 | 20.0 | 600 |" in str(tables)
    assert "| **payhook** | 1 | 500 | 1 | 1 | 1/6.0 |" in str(tables)


def test_growth_is_the_ratio_of_the_medians() -> None:
    """One slow turn among many says nothing."""
    few, many = Step("claim", 10, [0.001, 0.001, 0.1], 90.0), Step("claim", 1000, [0.003, 0.003, 0.003], 95.0)

    assert "| claim | 1.00 | 3.00 | 3.00 | 90 | 95 |" in growth_tables([few, many])["growth"]


def test_processor_time_is_that_of_the_processes_named(tmp_path: Path) -> None:
    """Of a process that computes there is some, of one that sleeps there is none."""
    busy, idle = (
        subprocess.Popen([sys.executable, "-c", f"import time; print(flush=True); {rest}"], stdout=subprocess.PIPE)
        for rest in ("\nwhile True: pass", "time.sleep(60)")
    )
    try:
        for process in (busy, idle):
            assert process.stdout is not None
            process.stdout.readline()
        with Meter({"busy": lambda: [busy.pid], "idle": lambda: [idle.pid]}) as meter:
            assert wait_for(lambda: psutil.Process(busy.pid).cpu_times().user > 0.2, 30)
    finally:
        for process in (busy, idle):
            process.kill()
            process.wait()
            process.stdout.close()  # type: ignore[union-attr]

    assert meter.used["busy"] > 0.05
    assert meter.used["idle"] < meter.used["busy"]
    assert meter.microseconds_each("busy", 1000) == pytest.approx(meter.used["busy"] * 1000)
