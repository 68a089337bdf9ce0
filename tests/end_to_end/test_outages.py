"""Servers that are gone, and worse: servers that are there and say nothing."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from ingress.desk import ANSWERING_THREADS
from tests.end_to_end import load
from tests.end_to_end.conftest import Start
from tests.end_to_end.house import KEY_ID, PRODUCTION, SECRET, House, rounds
from tests.end_to_end.processes import Process
from tests.proof import checks
from tests.proof.fixtures import Proof
from tests.servers.postgres_server import PostgresServer
from tests.servers.process_tree import wait_for
from tests.servers.rabbitmq_server import RabbitmqServer
from tests.servers.server import Server

#: What a process of the ingress begins when it must: every thread that answers, one that watches the database and one
#: that tries it.
THREADS_BEGUN = ANSWERING_THREADS + 2

RATE = 100


@pytest.mark.timeout(240)
@pytest.mark.proof("G9")
@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_a_broker_that_is_away_slows_no_answer(
    start: Start,
    postgres_url: str,
    rabbitmq_url: str,
    rabbitmq_server: RabbitmqServer,
    tmp_path: Path,
    how: str,
    proof: Proof,
) -> None:
    """RabbitMQ away for 20 s at 100 events/s: each answer is 204, p99 under 250 ms, all is done later.

    On a machine that is busy with other things 250 ms is missed with the broker there, too: then the answers with it
    away must not be slower than those before. Made small it is away for 10 s, of which one hiccup of the machine is the
    hundredth part: there the bound is for p90.
    """
    away, share = proof.size((10, 90), (20, 99))
    house = House(start, postgres_url, rabbitmq_url)
    house.serve()
    house.work()
    bodies = list(rounds(house.sandbox.create_payments(500, webhooks=False), RATE * (away + 6)))

    history = str(proof.history.path)
    order = load.Plan(house.webhook_url, RATE, away + 6, KEY_ID, SECRET, history=history)
    sender = load.Child(tmp_path, order, bodies)
    time.sleep(4)
    away_at = time.time()
    if how == "stopped":
        rabbitmq_server.stop()
    else:
        rabbitmq_server.freeze()
    time.sleep(away)
    report = sender.report()
    rabbitmq_server.revive()
    settled = house.settled(60)

    before, during = (
        replace(report, answers=[answer for answer in report.answers if (answer.at > away_at) is gone])
        for gone in (False, True)
    )
    proof.injected(f"events that came with RabbitMQ {how}", len(during.answers), RATE * away)
    proof.figure(f"answers with RabbitMQ {how}", report, "204 only")
    usual, slow = (checks.quantile([answer.seconds for answer in one.answers], share) for one in (before, during))
    milliseconds = f"{usual * 1000:.0f} / {slow * 1000:.0f}"
    said = "< 250, or no slower than before"
    proof.figure(f"p{share} of an answer before / with RabbitMQ {how}, ms", milliseconds, said)
    assert report.by_status == {"204": len(bodies)}
    assert slow < max(0.25, usual)
    assert settled
    assert checks.lost(proof.history.lines(), house.digests(outcome="reconciled")) == []
    assert house.differences() == []


@pytest.mark.timeout(180)
@pytest.mark.proof("G9")
def test_a_frozen_database_is_a_503_in_time(
    start: Start, postgres_url: str, rabbitmq_url: str, postgres_server: PostgresServer, tmp_path: Path, proof: Proof
) -> None:
    """PostgreSQL frozen for 10 s: 503 within 3 s, threads stay bounded, and 204 again without a restart."""
    house = House(start, postgres_url, rabbitmq_url)
    ingress = house.serve()
    house.work()
    bodies = list(rounds(house.sandbox.create_payments(200, webhooks=False), RATE * 16))

    sender = load.Child(
        tmp_path, load.Plan(house.webhook_url, RATE, 16, KEY_ID, SECRET, history=str(proof.history.path)), bodies
    )
    time.sleep(2)
    threads_before = threads_of(ingress.pids())
    postgres_server.freeze()
    frozen_at = time.time()
    time.sleep(10)
    threads_frozen = threads_of(ingress.pids())
    postgres_server.thaw()
    thawed_at = time.time()
    report = sender.report()
    settled = house.settled(60)

    refused = [answer for answer in report.answers if answer.status == 503]
    late = [answer for answer in report.answers if answer.at > thawed_at + 3]
    slowest = max(answer.seconds for answer in refused)
    proof.injected("503s with PostgreSQL frozen", len(refused), 500)
    proof.figure("slowest 503, seconds", f"{slowest:.2f}", "< 3")
    proof.figure("threads of the ingress before / with PostgreSQL frozen", f"{threads_before} / {threads_frozen}")
    assert set(report.by_status) == {"204", "503"}
    assert slowest < 3
    assert threads_frozen <= threads_before + 2 * THREADS_BEGUN
    assert {answer.status for answer in late} == {204}
    assert min(answer.at for answer in refused) > frozen_at
    assert settled
    assert checks.lost(proof.history.lines(), house.digests(outcome="reconciled")) == []


def threads_of(pids: list[int]) -> int:
    """How many threads these processes have."""
    return sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in pids)


@pytest.mark.timeout(300)
@pytest.mark.proof("G6", small=False)  # faults that are shorter than our own time-outs show nothing
def test_when_everything_is_back_the_record_is_in_line_within_a_minute(
    start: Start,
    postgres_url: str,
    rabbitmq_url: str,
    postgres_server: PostgresServer,
    rabbitmq_server: RabbitmqServer,
    tmp_path: Path,
    proof: Proof,
) -> None:
    """Platform, broker and database frozen in turn, twice over; a minute after the last is back, with the settings of
    production, every record equals the platform's."""
    house = House(start, postgres_url, rabbitmq_url, more=PRODUCTION)
    house.serve()
    house.work()
    payment_ids = house.sandbox.create_payments(200, webhooks=False)
    house.sandbox.settings(webhooks={"urls": [house.webhook_url]}, retry_seconds=[1, 2, 4, 8, 16])
    frozen: list[Process | Server] = [house.processes["sandbox"], rabbitmq_server, postgres_server]
    away, rounds_of_faults = 15, 2
    seconds = rounds_of_faults * len(frozen) * away + 10

    history = str(proof.history.path)
    order = load.Plan(house.webhook_url, 20, seconds, KEY_ID, SECRET, retry=True, history=history)
    sender = load.Child(tmp_path, order, rounds(payment_ids, 20 * seconds))
    clicked = iter(payment_ids)
    for victim in frozen * rounds_of_faults:
        for _ in range(10):
            house.sandbox.capture(next(clicked))
        victim.freeze()
        time.sleep(away)
        victim.thaw()
    over = time.monotonic()
    in_line = wait_for(lambda: house.differences() == [] and house.settled(0), 60)
    took = time.monotonic() - over
    report = sender.report()
    settled = house.settled(30)

    proof.injected(f"platform, broker or database frozen for {away} s", rounds_of_faults * len(frozen), 6)
    proof.injected("answers other than 204", len(report.answers) - len(report.acknowledged), 1)
    proof.figure("seconds until every record equals the platform's", f"{took:.1f}", "≤ 60")
    assert in_line
    assert settled
    assert len(report.acknowledged) == 20 * seconds
    assert checks.lost(proof.history.lines(), house.digests(outcome="reconciled")) == []
    assert house.differences() == []
