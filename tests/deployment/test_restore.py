"""An older backup is restored: nothing is sent because of it, and every record comes right again."""

from pathlib import Path

import pytest
from celery import Celery

from tests.end_to_end import load
from tests.end_to_end.conftest import Start
from tests.end_to_end.house import KEY_ID, SECRET, House, event
from tests.servers.postgres_server import PostgresServer
from tests.servers.process_tree import wait_for

#: Polls of seconds in the place of an hour and a day, so that the test sees what an operator waits for.
POLLS = {
    "PAYHOOK_POLL_MOVING_SECONDS": "[1, 2]",
    "PAYHOOK_POLL_AUTHORISED_SECONDS": "2",
    "PAYHOOK_POLL_CAPTURED_SECONDS": "2",
}


@pytest.mark.timeout(120)
def test_a_restored_older_backup_sends_nothing_and_becomes_true_again(
    start: Start, postgres_url: str, rabbitmq_url: str, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """Payments that the backup knows come right by themselves, others when somebody asks for them; no money moves.

    After the backup was made, some payments were captured and refunded, and others became known. The platform's ledger
    is the same before and after the restoration, and it was only ever read.
    """
    house = House(start, postgres_url, rabbitmq_url, more=POLLS)
    ingress, worker = house.serve(), house.work(concurrency=1)
    known = house.sandbox.create_payments(20, webhooks=False) + house.sandbox.create_payments(
        5, sale=True, webhooks=False
    )
    deliver(house, known)
    postgres_server.dump(house.database_url, tmp_path / "backup")

    for payment_id in known[:10]:
        house.sandbox.capture(payment_id)
    for payment_id in known[-5:]:
        house.sandbox.refund(payment_id, 300)
    since = house.sandbox.create_payments(5, webhooks=False)
    deliver(house, since)
    ingress.terminate()
    worker.terminate()
    ledger = house.sandbox.ledger()
    house.sandbox.forget_calls()

    postgres_server.restore(house.database_url, tmp_path / "backup")
    forgotten = [payment_id for payment_id in since if payment_id.split("_")[0] in house.records()]
    wrong_at_first = house.differences()
    house.work(concurrency=1)
    right_by_itself = wait_for(lambda: house.differences() == [], 20)
    shop = Celery("shop", broker=house.broker_url)
    for payment_id in since:
        shop.send_task("payhook.reconcile", kwargs={"payment_id": payment_id}, queue="payhook.events")
    all_known = wait_for(lambda: len(house.records()) == len(known) + len(since), 20)
    all_right = wait_for(lambda: house.differences() == [], 20)

    assert forgotten == []
    assert len(wrong_at_first) == 15
    assert right_by_itself, house.differences()
    assert all_known
    assert all_right
    assert house.sandbox.ledger() == ledger
    assert all(call.startswith("get_") for call in house.sandbox.calls()["by_call"])


def deliver(house: House, payment_ids: list[str]) -> None:
    """An event of each, and what follows from it."""
    report = load.run(house.webhook_url, map(event, payment_ids), 100, len(payment_ids) / 100, KEY_ID, SECRET)
    assert report.by_status == {"204": len(payment_ids)}
    assert house.settled(20)
