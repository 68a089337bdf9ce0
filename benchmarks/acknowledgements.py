"""Durable acknowledgements: what an event costs until its 2xx, and how fast that comes at a given rate of arrivals."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

from benchmarks.processor_time import Meter
from benchmarks.stage import Stage
from tests.end_to_end.house import KEY_ID, SECRET, event
from tests.end_to_end.load import Child, Plan, Report
from tests.end_to_end.processes import Process

#: So many connections send, as many as there are threads to answer.
SENDERS = 32

#: All that arrives at once waits its turn: the senders are then a closed loop.
AT_ONCE = 1e9

#: An arrival not acknowledged so long after the last one was due was not kept up with.
GRACE_SECONDS = 1.0

OURS, NAIVE, HELLO = "payhook", "naive", "hello world"


@dataclass(frozen=True)
class Size:
    """How much is sent."""

    warm_up: int = 300
    closed_loop: int = 4000
    rounds: int = 3
    rates: tuple[int, ...] = (150, 600, 1500)
    seconds: float = 6.0


QUICK = Size(warm_up=20, closed_loop=60, rounds=1, rates=(50,), seconds=1.0)


@dataclass(frozen=True)
class Closed:
    """What came of a closed loop."""

    who: str
    per_second: float
    server_us: float  # processor time of the ingress alone
    postgres_us: float
    rabbitmq_us: float


@dataclass(frozen=True)
class Open:
    """What came of arrivals at a rate."""

    who: str
    rate: int
    kept_up: float  # the share acknowledged by the end of the schedule
    p50_ms: float
    p99_ms: float
    server_us: float


@dataclass(frozen=True)
class Result:
    """All of it."""

    closed: list[Closed]
    open: list[Open]

    def best(self, who: str) -> Closed:
        """Of the rounds the one that cost the ingress least: what else ran on the machine can only have added."""
        return min((row for row in self.closed if row.who == who), key=lambda row: row.server_us)


@dataclass(frozen=True)
class _Contender:
    who: str
    url: str
    server: Process


def measure(stage: Stage, size: Size, tell: Callable[[str], None]) -> Result:
    """Measure all three, one at a time, in turns.

    Args:
        stage: where.
        size: how much.
        tell: told each figure as it comes.
    """
    house = stage.payhook()
    house.serve()
    contenders = [_Contender(OURS, house.webhook_url, house.processes["serve"])]
    for who, app in ((NAIVE, "ingress"), (HELLO, "hello")):
        rival = stage.naive(house.sandbox.url)
        contenders.append(_Contender(who, rival.webhook_url, rival.serve(app)))
    for contender in contenders:
        _send(stage, contender, AT_ONCE, size.warm_up)
    closed, opened = [], []
    for _ in range(size.rounds):
        for contender in contenders:
            closed.append(_closed(stage, contender, size))
            tell(str(asdict(closed[-1])))
    for rate in size.rates:
        for contender in contenders:
            opened.append(_open(stage, contender, rate, size))
            tell(str(asdict(opened[-1])))
    return Result(closed, opened)


def _closed(stage: Stage, contender: _Contender, size: Size) -> Closed:
    report, meter = _send(stage, contender, AT_ONCE, size.closed_loop)
    count = len(report.acknowledged)
    took = max(answer.seconds for answer in report.answers)
    return Closed(
        contender.who,
        count / took,
        meter.microseconds_each("server", count),
        meter.microseconds_each("PostgreSQL", count),
        meter.microseconds_each("RabbitMQ", count),
    )


def _open(stage: Stage, contender: _Contender, rate: int, size: Size) -> Open:
    report, meter = _send(stage, contender, rate, int(rate * size.seconds))
    end = size.seconds + GRACE_SECONDS
    in_time = [answer for answer in report.answers if answer.index / rate + answer.seconds <= end]
    return Open(
        contender.who,
        rate,
        len(in_time) / report.arrivals,
        report.p50 * 1000,
        report.p99 * 1000,
        meter.microseconds_each("server", len(report.acknowledged)),
    )


def _send(stage: Stage, contender: _Contender, rate: float, count: int) -> tuple[Report, Meter]:
    """Send so many distinct events from a process of its own; every one must be acknowledged in the end."""
    bodies = [event(f"{number:012d}_0") for number in range(count)]
    plan = Plan(contender.url, rate, count / rate, KEY_ID, SECRET, SENDERS)
    with Meter({"server": contender.server.pids, **stage.servers()}) as meter:
        report = Child(stage.folder, plan, bodies).report()
    if not report.acknowledged or (set(report.by_status) - {"204"} and rate == AT_ONCE):
        raise RuntimeError(f"{contender.who}: {report}; the end of its log:\n{contender.server.tail()}")
    return report, meter
