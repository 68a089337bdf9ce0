"""Processes and servers are killed at random under load; what was acknowledged is reconciled all the same."""

import time
from pathlib import Path

import pytest

from tests.end_to_end import load
from tests.end_to_end.conftest import Start
from tests.end_to_end.house import CANARIES, KEY_ID, SECRET, SHORT, House, rounds
from tests.end_to_end.nemesis import Nemesis
from tests.end_to_end.observer import Observer
from tests.proof import checks
from tests.proof.fixtures import Proof
from tests.proof.history import Line
from tests.servers.postgres_server import PostgresServer
from tests.servers.process_tree import wait_for
from tests.servers.rabbitmq_server import RabbitmqServer

PAYMENTS, CAPTURES = 1000, 300
LEASE = float(SHORT["PAYHOOK_LEASE_SECONDS"])
PROMISED = 60

#: What PostgreSQL allows as it comes.
MOST_CONNECTIONS = 100


@pytest.mark.timeout(900)
@pytest.mark.proof("G1", "G6")
def test_what_was_acknowledged_is_reconciled_whatever_is_killed(
    start: Start,
    postgres_url: str,
    rabbitmq_url: str,
    postgres_server: PostgresServer,
    rabbitmq_server: RabbitmqServer,
    tmp_path: Path,
    proof: Proof,
) -> None:
    """A hundred events a second while our processes, PostgreSQL and RabbitMQ are killed again and again: none is
    lost, and when it is over the record equals the platform's."""
    rate, seconds = proof.size((100, 40), (125, 330))
    plan = proof.size(
        {"ingress": 7, "worker": 7, "postgres": 2, "rabbitmq": 1},
        {"ingress": 31, "worker": 31, "postgres": 6, "rabbitmq": 5},
    )
    house = House(start, postgres_url, rabbitmq_url)
    house.serve()
    house.work("work-1", concurrency=1)
    house.work("work-2", concurrency=1)
    payment_ids = house.sandbox.create_payments(PAYMENTS, webhooks=False)
    house.sandbox.settings(webhooks={"urls": [house.webhook_url]}, retry_seconds=[0.5, 1, 2, 4, 8, 16, 32])
    servers = {"postgres": postgres_server, "rabbitmq": rabbitmq_server}
    nemesis = Nemesis(house, servers, plan, seconds=seconds - 8, seed=proof.seed, history=proof.history)
    order = load.Plan(house.webhook_url, rate, seconds, KEY_ID, SECRET, retry=True, history=str(proof.history.path))

    sender = load.Child(tmp_path, order, rounds(payment_ids, rate * seconds))
    with Observer(house, proof.history):
        nemesis.start()
        click_in_the_portal(house, proof, payment_ids[:CAPTURES], seconds * 0.75)
        nemesis.join()
        report = sender.report()
        house.sandbox.wait_until_delivered(60)
        over = max(nemesis.last_restart, time.time())
        in_time = wait_for(lambda: house.open_events() == 0, PROMISED)
        settled = house.settled(30) and wait_for(lambda: house.differences() == [], 1)
        took = time.time() - over
    left_running = house.leave()

    assert nemesis.failure is None
    lines = proof.history.lines()
    judge_faults(proof, lines, plan)
    judge_intake(proof, house, lines)
    proof.figure("arrivals", report)
    proof.figure(
        "seconds until the record equals the platform's",
        f"{took:.1f}",
        f"≤ {PROMISED}, with a lease of {LEASE:.0f} s",
    )
    judge_records(proof, house, lines)
    assert in_time
    assert settled
    assert house.differences() == []
    assert left_running == []
    assert checks.leaks([*house.logs(), house.notes()], CANARIES) == []


def click_in_the_portal(house: House, proof: Proof, payment_ids: list[str], seconds: float) -> None:
    """Capture payments in full and in part, evenly over the time."""
    for number, payment_id in enumerate(payment_ids):
        with proof.history.call("merchant", "capture", payment_id):
            house.sandbox.capture(payment_id, 400 if number % 3 else None)
        time.sleep(seconds / len(payment_ids))


def judge_faults(proof: Proof, lines: list[Line], plan: dict[str, int]) -> None:
    """The run did inject what it says."""
    killed = checks.done(lines, checks.KILL)
    for victim, times in plan.items():
        proof.injected(f"SIGKILL of {victim}", killed.get(victim, 0), times)
    proof.injected("captures in the portal", sum(checks.done(lines, "capture").values()), CAPTURES)


def judge_intake(proof: Proof, house: House, lines: list[Line]) -> None:
    """Acknowledged is stored and evaluated; refused is not stored; nothing is stored that nobody sent."""
    ours = "payment.pending_capture"  # what the load sends; the sandbox's own events are none of the history's
    stored = house.digests(type=ours)
    acknowledged = checks.acknowledged(lines)
    lost = checks.lost(lines, house.digests(type=ours, outcome="reconciled"))
    proof.figure("acknowledgements", len(acknowledged), f"≥ {proof.size(4_000, 40_000)}")
    proof.figure("acknowledged and lost", len(lost), 0)
    assert len(acknowledged) >= proof.size(4_000, 40_000)
    assert lost == []
    assert checks.stored_though_refused(lines, stored) == []
    assert checks.invented(lines, stored) == []


def judge_records(proof: Proof, house: House, lines: list[Line]) -> None:
    """No record was ever seen to fall back; how fast it went."""
    latencies = house.seconds_to_done()
    recoveries = checks.recoveries(lines)
    proof.figure("seconds from receipt to reconciled, p50 / p99 / longest", quantiles(latencies))
    proof.figure("seconds from a kill to the next acknowledgement, p50 / p99 / longest", quantiles(recoveries))
    proof.figure("database connections at once", checks.most_connections(lines), f"≤ {MOST_CONNECTIONS}")
    assert checks.went_backwards(lines) == []
    assert 0 < checks.most_connections(lines) <= MOST_CONNECTIONS


def quantiles(seconds: list[float]) -> str:
    return " / ".join(f"{checks.quantile(seconds, share):.2f}" for share in (50, 99, 100))
