"""Operating: how long an operator's questions take with a million events behind them.

What is asked of the database stands in `questions.py`: a question added there is measured, and its plans are looked at
in the tests.
"""

import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.installation import Filled, fill
from benchmarks.questions import QUESTIONS, Question, Sample
from benchmarks.stage import Stage
from worker.database import Database, open_database
from worker.settings import Settings

#: What every answer must keep to.
PROMISED_MS = 300.0


@dataclass(frozen=True)
class Size:
    """How many rows, and how often each question is asked."""

    filled: Filled = field(default_factory=Filled)
    turns: int = 7


QUICK = Size(Filled(events=3000, payments=1000, operations=1000), turns=2)


#: What is asked of an ingress; one that it does not have is left out.
PATHS = ("/health/ready", "/metrics")


@dataclass
class Answered:
    """One question, and how long its answers took."""

    name: str
    ms: list[float] = field(default_factory=list)


def measure(stage: Stage, size: Size, tell: Callable[[str], None]) -> list[Answered]:
    """Ask every question, each some times.

    Args:
        stage: where.
        size: how many rows, and how often.
        tell: told each figure as it comes.
    """
    house = stage.payhook()
    database = open_database(Settings(_env_file=None, database_url=house.database_url), threads=1, seconds=300)
    with database.session() as connection:
        fill(connection.execution_options(isolation_level="AUTOCOMMIT"), size.filled)
    tell(f"filled: {size.filled}")
    house.serve()
    found = [_answered(name, size.turns, _asked(database, question)) for name, question in QUESTIONS.items()]
    found += [
        _answered(f"GET {path}", size.turns, lambda path=path: _got(house.url + path))  # type: ignore[misc]
        for path in PATHS
        if _got(house.url + path) != 404
    ]
    for one in found:
        tell(f"{one.name}: {min(one.ms):.1f} to {max(one.ms):.1f} ms")
    database.close()
    return found


def _asked(database: Database, question: Question) -> Callable[[], object]:
    with database.reading() as connection:
        sample = Sample.of(connection)

    def ask() -> object:
        with database.reading() as connection:
            return question(connection, sample)

    return ask


def _answered(name: str, turns: int, ask: Callable[[], object]) -> Answered:
    answered = Answered(name)
    for _ in range(turns):
        began = time.perf_counter()
        ask()
        answered.ms.append((time.perf_counter() - began) * 1000)
    return answered


def _got(url: str) -> int:
    """The status of an answer, all of it read."""
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.read()
        return error.code
