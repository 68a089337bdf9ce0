"""`payhook up`: one process, one file; killed and started again it goes on where it was."""

import time
from pathlib import Path

import pytest

from tests.end_to_end import load
from tests.end_to_end.conftest import Start
from tests.end_to_end.house import KEY_ID, PRODUCTION, SECRET, House, event, rounds
from tests.end_to_end.processes import Process
from tests.proof.fixtures import Proof
from tests.servers.process_tree import wait_for


def up(house: House) -> Process:
    process = house.run("up", "payhook", "up", "--port", str(house.port))
    process.wait_until(f"{house.url}/health/live")
    return process


@pytest.mark.timeout(300)
@pytest.mark.proof("G7")
def test_up_resumes_within_ten_seconds_of_its_restart(start: Start, tmp_path: Path, proof: Proof) -> None:
    """Killed while every look is under way, `up` has all of them done ten seconds after it is started again.

    With the lease of production: they are resumed because `up` freed them, not because a short lease ran out.
    """
    house = House(start, f"sqlite:///{tmp_path}/payhook.db", "memory://", more=PRODUCTION)
    process = up(house)
    times = proof.size(1, 10)
    took = [orphaned_and_resumed(house, process) for _ in range(times)]

    proof.injected("SIGKILL of `up` with looks under way", len(took), times)
    proof.figure("SQLite: seconds from the restart until all is done, longest", f"{max(took):.1f}", "≤ 10")
    assert max(took) <= 10
    assert house.differences() == []
    assert len(house.records()) == 30 * times


def orphaned_and_resumed(house: House, process: Process) -> float:
    """Kill it while it looks at thirty payments; the seconds it then took from its restart to the last of them."""
    payment_ids = house.sandbox.create_payments(30, webhooks=False)
    house.sandbox.settings(latency_seconds=2)
    report = load.run(house.webhook_url, rounds(payment_ids, 30), 60, 0.5, KEY_ID, SECRET)
    claimed = wait_for(lambda: house.scalar("SELECT count(*) FROM payments WHERE claim_token IS NOT NULL") > 10, 5)
    process.kill()
    open_when_killed = house.open_events()
    house.sandbox.settings(latency_seconds=0.05)
    began = time.monotonic()
    process.restart()
    wait_for(lambda: house.open_events() == 0, 30)
    took = time.monotonic() - began

    assert report.by_status == {"204": 30}
    assert claimed
    assert open_when_killed == 30
    return took


@pytest.mark.timeout(120)
def test_sigterm_finishes_what_is_in_hand(start: Start, tmp_path: Path) -> None:
    """On SIGTERM looks under way are written, and the process ends by itself with code 0."""
    house = House(start, f"sqlite:///{tmp_path}/payhook.db", "memory://", more=PRODUCTION)
    process = up(house)
    (payment_id,) = house.sandbox.create_payments(1, webhooks=False)
    house.sandbox.settings(latency_seconds=1)

    load.run(house.webhook_url, [event(payment_id)], 10, 0.1, KEY_ID, SECRET)
    wait_for(lambda: house.scalar("SELECT count(*) FROM payments WHERE claim_token IS NOT NULL") == 1, 5)
    began = time.monotonic()
    code = process.terminate(20)

    assert code == 0
    assert time.monotonic() - began < 10
    assert house.open_events() == 0
    assert house.scalar("SELECT count(*) FROM payments WHERE claim_token IS NOT NULL") == 0


@pytest.mark.timeout(120)
def test_the_same_event_sixty_four_times_at_once_is_one_row(start: Start, tmp_path: Path) -> None:
    """64 deliveries of one event at the same moment: 64 times 204, one row, all counted."""
    house = House(start, f"sqlite:///{tmp_path}/payhook.db", "memory://")
    up(house)
    (payment_id,) = house.sandbox.create_payments(1, webhooks=False)

    report = load.run(house.webhook_url, [event(payment_id)] * 64, 6400, 0.01, KEY_ID, SECRET)
    settled = house.settled(10)

    assert report.by_status == {"204": 64}
    assert settled
    assert house.scalar("SELECT count(*) FROM webhook_events") == 1
    assert house.scalar("SELECT deliveries FROM webhook_events") == 64
    assert house.sandbox.calls()["by_call"]["get_payment"] <= 2
