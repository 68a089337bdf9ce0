"""The main job with real servers: events in any order become true records, and other systems can ask for one."""

import re
import sys
from pathlib import Path

import pytest

from sandbox import SandboxClient
from tests.end_to_end import load
from tests.end_to_end.conftest import Start
from tests.end_to_end.house import KEY_ID, POLLS, SECRET, House, event
from tests.servers.process_tree import wait_for

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("broker", ["rabbitmq_url", "redis_url"])
def test_events_in_any_order_doubled_and_some_missing_give_the_same_records(
    start: Start, postgres_url: str, broker: str, request: pytest.FixtureRequest
) -> None:
    """Whatever the platform does to its deliveries, each payment's record ends equal to the platform's own."""
    house = House(start, postgres_url, request.getfixturevalue(broker), more=POLLS)
    house.serve()
    house.work()
    house.sandbox.settings(
        webhooks={"urls": [house.webhook_url], "copies": 2, "delay_seconds": 1.0, "shuffle": True, "drop_share": 0.3},
        retry_seconds=[0.5, 1, 2],
        seed=7,
    )

    payment_ids = house.sandbox.create_payments(40) + house.sandbox.create_payments(10, sale=True)
    move_money(house.sandbox, payment_ids)
    house.sandbox.wait_until_delivered(30)
    known = wait_for(lambda: len(house.records()) > 45, 10)
    equal = wait_for(lambda: house.differences() == [], 30)

    assert known
    assert equal, house.differences()
    assert {record["state"] for record in house.records().values()} == {
        "authorised",
        "captured",
        "refunded",
        "cancelled",
    }


@pytest.mark.timeout(120)
@pytest.mark.parametrize("broker", ["rabbitmq_url", "redis_url"])
def test_any_celery_client_can_ask_for_a_payment(
    start: Start, postgres_url: str, broker: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The README's client, with nothing of ours installed, asks for a payment and finds its record in line."""
    house = House(start, postgres_url, request.getfixturevalue(broker))
    house.work()
    (payment_id,) = house.sandbox.create_payments(1, sale=True, webhooks=False)
    client = tmp_path / "client.py"
    client.write_text(readme_client())

    asked = house.run("client", sys.executable, "-I", str(client), payment_id, env={"BROKER_URL": house.broker_url})
    code = asked.wait_until_ended(20)
    in_line = wait_for(lambda: [record["state"] for record in house.records().values()] == ["captured"], 10)

    assert code == 0, asked.tail()
    assert in_line
    assert house.differences() == []


@pytest.mark.timeout(120)
def test_celerys_own_command_works_and_shows_the_tasks(start: Start, postgres_url: str, rabbitmq_url: str) -> None:
    """`celery -A worker worker` works, sweeps by itself, and `inspect registered` lists the tasks."""
    house = House(start, postgres_url, rabbitmq_url)
    worker = house.run("celery", "celery", "-A", "worker", "worker", "--loglevel", "INFO", "--concurrency", "1")
    worker.wait_until("celery@.* ready")
    (payment_id,) = house.sandbox.create_payments(1, webhooks=False)

    inspected = house.run("inspect", "celery", "-A", "worker", "inspect", "registered")
    code = inspected.wait_until_ended(30)
    with house.engine.begin() as connection:  # a payment that only the sweep knows of
        connection.exec_driver_sql(
            "INSERT INTO payments (merchant_id, payment_id, state, wanted, applied, claims, failures, rings, due_at,"
            " amount_authorised, amount_captured, amount_capture_pending, amount_refunded, amount_refund_pending,"
            f" amount_cancelled) VALUES ('sandbox', '{payment_id.split('_')[0]}', 'created', 1, 0, 0, 0, 0, now(),"
            " 0, 0, 0, 0, 0, 0)"
        )
    swept = wait_for(lambda: [record["state"] for record in house.records().values()] == ["authorised"], 10)

    assert code == 0
    for task in ("payhook.events", "payhook.payments", "payhook.reconcile"):
        assert task in inspected.output()
    assert swept


@pytest.mark.timeout(120)
def test_a_body_the_sdk_chokes_on_does_not_stop_the_next_one(
    start: Start, postgres_url: str, rabbitmq_url: str
) -> None:
    """Genuine but senseless bodies are acknowledged and quarantined; what comes after them is reconciled."""
    house = House(start, postgres_url, rabbitmq_url)
    house.serve()
    house.work()
    (payment_id,) = house.sandbox.create_payments(1, webhooks=False)
    senseless = [b"", b"{}", b"null", b"\xff\xfe", b"[]", b"[" * 50_000, b'{"apiVersion":"v0"}']
    bodies = [*senseless, event(payment_id, payment=None), event(payment_id)]

    report = load.run(house.webhook_url, bodies, 20, len(bodies) / 20, KEY_ID, SECRET)
    settled = house.settled(10)

    assert report.by_status == {"204": len(bodies)}
    assert settled
    assert house.scalar("SELECT count(*) FROM webhook_events WHERE outcome = 'quarantined'") == len(bodies) - 1
    assert house.differences() == []
    assert len(house.records()) == 1


@pytest.mark.timeout(120)
@pytest.mark.parametrize("broker", ["rabbitmq_url", "redis_url"])
def test_a_worker_told_to_leave_finishes_what_is_in_hand(
    start: Start, postgres_url: str, broker: str, request: pytest.FixtureRequest
) -> None:
    """On SIGTERM a worker writes the looks it has begun, then ends with code 0; nothing waits for a lease."""
    house = House(start, postgres_url, request.getfixturevalue(broker))
    house.serve()
    worker = house.work(concurrency=1)
    payment_ids = house.sandbox.create_payments(5, webhooks=False)
    house.sandbox.settings(latency_seconds=0.7)

    report = load.run(house.webhook_url, map(event, payment_ids), 100, 0.05, KEY_ID, SECRET)
    begun = wait_for(lambda: house.scalar("SELECT count(*) FROM payments WHERE claim_token IS NOT NULL") == 5, 5)
    code = worker.terminate(30)

    assert report.by_status == {"204": 5}
    assert begun
    assert code == 0
    assert house.open_events() == 0
    assert house.differences() == []


def move_money(sandbox: SandboxClient, payment_ids: list[str]) -> None:
    """As a merchant would in the portal: captures, refunds and cancellations, in full and in part."""
    for number, payment_id in enumerate(payment_ids[:40]):
        if number % 4 == 0:
            sandbox.capture(payment_id)
        elif number % 4 == 1:
            sandbox.capture(payment_id, 300)
            sandbox.capture(payment_id, 500)
        elif number % 4 == 2:
            sandbox.cancel(payment_id)
    for payment_id in payment_ids[45:]:
        sandbox.refund(payment_id, 400)
        sandbox.refund(payment_id, 600)


def readme_client() -> str:
    """The Celery client that the README shows."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (client,) = [block for block in blocks if 'send_task("payhook.reconcile"' in block]
    return str(client)
