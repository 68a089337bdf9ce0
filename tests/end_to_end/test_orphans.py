"""A worker dies with payments in its hands; another takes them up when their lease has ended."""

import time

import pytest

from tests.end_to_end import load
from tests.end_to_end.conftest import Start
from tests.end_to_end.house import KEY_ID, PRODUCTION, SECRET, House, rounds
from tests.proof.fixtures import Proof
from tests.servers.postgres_server import PostgresServer
from tests.servers.process_tree import wait_for

SHORTER = {"PAYHOOK_LEASE_SECONDS": "3", "PAYHOOK_CLAIM_SECONDS": "2", "PAYHOOK_CALL_SECONDS": "2"}
PAYMENTS = 40
#: As many as one of the worker's two processes looks at together; how rings are shared between them is chance.
HELD = 15


@pytest.mark.timeout(600)
@pytest.mark.proof("G7")
def test_what_a_dead_worker_held_is_resumed(
    start: Start, postgres_server: PostgresServer, proof: Proof, request: pytest.FixtureRequest
) -> None:
    """Killed while it looks at payments, with another worker beside it: all are done within the lease and a few
    seconds, which is 90 s with the lease of production."""
    settings = proof.size(SHORTER, PRODUCTION)
    promised = float(settings["PAYHOOK_LEASE_SECONDS"]) + 30
    killed = 0
    for broker in proof.size(["rabbitmq_url"], ["rabbitmq_url", "redis_url"]):
        postgres_server.revive()
        house = House(start, postgres_server.new_database(), request.getfixturevalue(broker), more=settings)
        held, took = held_by_a_dead_worker_and_resumed(house)
        killed += 1
        differences = house.differences()
        for process in house.processes.values():
            process.kill()
        name = broker.removesuffix("_url")
        proof.injected(f"payments held by the worker that was killed ({name})", held, HELD)
        proof.figure(f"seconds from the SIGKILL until all is done ({name})", f"{took:.1f}", f"≤ {promised:.0f}")
        assert took <= promised
        assert differences == []
    proof.injected("SIGKILL of a worker with looks under way", killed, proof.size(1, 2))


def held_by_a_dead_worker_and_resumed(house: House) -> tuple[int, float]:
    """How many payments the worker held when it was killed, and in how many seconds all were done."""
    house.serve()
    victim = house.work("work-1")
    house.sandbox.settings(latency_seconds=10)
    payment_ids = house.sandbox.create_payments(PAYMENTS, webhooks=False)
    held = "SELECT count(*) FROM payments WHERE claim_token IS NOT NULL"

    report = load.run(house.webhook_url, rounds(payment_ids, PAYMENTS), 100, PAYMENTS / 100, KEY_ID, SECRET)
    wait_for(lambda: int(house.scalar(held)) >= HELD, 5)
    victim.kill()
    killed_at, count = time.monotonic(), int(house.scalar(held))
    house.sandbox.settings(latency_seconds=0.05)
    house.work("work-2")
    wait_for(lambda: house.open_events() == 0, 150)

    assert report.by_status == {"204": PAYMENTS}
    return count, time.monotonic() - killed_at
