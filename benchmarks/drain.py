"""The drain of a backlog: events of as many payments, each fetched from a platform that takes its time."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from sqlalchemy import create_engine, text

from benchmarks.acknowledgements import AT_ONCE, SENDERS
from benchmarks.processor_time import Meter
from benchmarks.stage import DEFAULTS, Naive, Stage
from sandbox import SandboxClient
from tests.end_to_end.house import KEY_ID, SECRET, House, event
from tests.end_to_end.load import Child, Plan
from tests.end_to_end.processes import Process
from tests.servers.process_tree import wait_for

#: One process per processor of the machine that the figures are from, for both.
PROCESSES = 2

PLATFORM_SECONDS = 0.05
PATIENCE_SECONDS = 240.0


@dataclass(frozen=True)
class Rival:
    """The naive worker as somebody runs it."""

    who: str
    pool: str
    concurrency: int
    share: int  # of the events, one in so many: two at a time would take minutes
    calls: int = 1  # of the platform, for each event


@dataclass(frozen=True)
class Ours:
    """payhook's worker, 2 processes of 16 threads, with one setting or another."""

    who: str
    share: int
    settings: Mapping[str, str]


#: What a worker can do shows without the budget that spares the platform.
OURS = (
    Ours("**payhook**, 2 processes of 16 threads", 1, {"PAYHOOK_BUDGET_PER_SECOND": "1000000"}),
    Ours("the same, within its budget of 300 requests a second", 5, {}),
)

RIVALS = (
    Rival("naive, 2 processes (Celery's default here)", "prefork", 2, 10),
    Rival("naive, 32 threads", "threads", 32, 1),
    Rival("naive, 32 threads, asking for captures too", "threads", 32, 2, calls=3),
    Rival("naive, 32 processes", "prefork", 32, 1),
)


@dataclass(frozen=True)
class Size:
    """How much is drained, and against whom."""

    events: int = 5000
    rivals: tuple[Rival, ...] = RIVALS


QUICK = Size(events=40, rivals=(Rival("naive, 4 threads", "threads", 4, 1),))


@dataclass(frozen=True)
class Drained:
    """What came of one backlog."""

    who: str
    events: int
    per_second: float
    calls_each: float  # of the platform, whose time they take
    worker_us: float  # processor time of the worker's processes alone
    postgres_us: float
    rabbitmq_us: float


def measure(stage: Stage, size: Size, tell: Callable[[str], None]) -> list[Drained]:
    """Drain the same backlog with payhook, then with each rival.

    Args:
        stage: where.
        size: how much.
        tell: told each figure as it comes.
    """
    house = stage.payhook()
    payments = house.sandbox.create_payments(size.events, webhooks=False)
    house.sandbox.settings(latency_seconds=PLATFORM_SECONDS)
    drained = []
    for ours in OURS:
        house.more = {**DEFAULTS, **ours.settings}
        drained.append(_ours(stage, house, ours.who, payments[:: ours.share]))
        tell(str(asdict(drained[-1])))
    for rival in size.rivals:
        drained.append(_theirs(stage, house, rival, payments[:: rival.share]))
        tell(str(asdict(drained[-1])))
    return drained


def _ours(stage: Stage, house: House, who: str, payments: list[str]) -> Drained:
    ingress = house.serve()
    _send(stage, house.webhook_url, payments)
    ingress.terminate()
    return _drain(
        stage,
        house.sandbox,
        who,
        len(payments),
        lambda: house.work(concurrency=PROCESSES),
        lambda: house.open_events() == 0,
    )


def _theirs(stage: Stage, house: House, rival: Rival, payments: list[str]) -> Drained:
    naive: Naive = stage.naive(house.sandbox.url, rival.calls)
    ingress = naive.serve()
    _send(stage, naive.webhook_url, payments)
    ingress.terminate()
    engine = create_engine(naive.database_url)

    def is_drained() -> bool:
        with engine.connect() as connection:
            left = connection.execute(text("SELECT count(*) FROM events WHERE processed_at IS NULL")).scalar_one()
        return bool(left == 0)

    return _drain(
        stage, house.sandbox, rival.who, len(payments), lambda: naive.work(rival.pool, rival.concurrency), is_drained
    )


def _send(stage: Stage, url: str, payments: list[str]) -> None:
    plan = Plan(url, AT_ONCE, len(payments) / AT_ONCE, KEY_ID, SECRET, SENDERS)
    report = Child(stage.folder, plan, [event(payment) for payment in payments]).report()
    if len(report.acknowledged) != len(payments):
        raise RuntimeError(f"the backlog was not taken: {report}")


def _drain(
    stage: Stage,
    sandbox: SandboxClient,
    who: str,
    events: int,
    work: Callable[[], Process],
    is_drained: Callable[[], bool],
) -> Drained:
    """From the moment the worker is ready, so that nobody's imports count, to the last event done."""
    sandbox.forget_calls()
    worker = work()
    with Meter({"worker": worker.pids, **stage.servers()}) as meter:
        if not wait_for(lambda: _look(is_drained), PATIENCE_SECONDS):
            raise RuntimeError(f"{who}: not drained; the end of its log:\n{worker.tail()}")
    worker.kill()
    return Drained(
        who,
        events,
        events / meter.seconds,
        _calls(sandbox) / events,
        meter.microseconds_each("worker", events),
        meter.microseconds_each("PostgreSQL", events),
        meter.microseconds_each("RabbitMQ", events),
    )


def _look(is_drained: Callable[[], bool]) -> bool:
    time.sleep(0.2)  # each look costs PostgreSQL a scan
    return is_drained()


def _calls(sandbox: SandboxClient) -> int:
    return int(sandbox.calls()["total"])
