"""No webhook ever comes; the record is brought in line all the same, at the polls."""

import time

import pytest
from celery import Celery

from tests.end_to_end.conftest import Start
from tests.end_to_end.house import POLLS, House
from tests.proof.fixtures import Proof
from tests.servers.process_tree import wait_for

AUTHORISED, CAPTURED, MOVING = 3, 3, 2
#: A sweep a second, the look itself, and a poll of a payment under way after that of its standing still.
MORE = 6


@pytest.mark.timeout(300)
@pytest.mark.proof("G6")
def test_without_any_webhook_the_polls_bring_the_record_in_line(
    start: Start, postgres_url: str, proof: Proof, request: pytest.FixtureRequest
) -> None:
    """Captures in the portal of payments known to us, then refunds, and not one event: seen at the next polls, whose
    intervals are shortened by settings (1 h and 24 h would be 3 s)."""
    broker = request.getfixturevalue(proof.size("rabbitmq_url", "redis_url"))
    house = House(start, postgres_url, broker, more=POLLS)
    house.work()
    payments, rounds = proof.size((10, 1), (40, 5))
    app, clicks = Celery(broker=broker), 0
    took: dict[str, list[float]] = {"authorised": [], "captured": []}

    for turn in range(1, rounds + 1):
        payment_ids = house.sandbox.create_payments(payments, webhooks=False)
        for payment_id in payment_ids:
            app.send_task("payhook.reconcile", kwargs={"payment_id": payment_id}, queue="payhook.events")
        known = wait_for(lambda number=turn * payments: in_line(house, number), 20)  # type: ignore[misc]
        assert known
        for state, click in (("authorised", house.sandbox.capture), ("captured", house.sandbox.refund)):
            for payment_id in payment_ids:
                click(payment_id)
                clicks += 1
            began = time.monotonic()
            house.sandbox.wait_until_delivered()  # the last outcome is there to be seen
            wait_for(lambda: house.differences() == [], 15)
            took[state].append(time.monotonic() - began)

    proof.injected("changes that no webhook told of", clicks, 2 * payments * rounds)
    proof.figure("webhooks received", house.scalar("SELECT count(*) FROM webhook_events"), 0)
    for state, interval in (("authorised", AUTHORISED), ("captured", CAPTURED)):
        promised = interval + MOVING + MORE
        said = f"≤ {promised} (its polls set to {interval} s, while something is under way {MOVING} s)"
        proof.figure(f"{state} payments: seconds until a change is in the record", f"{max(took[state]):.1f}", said)
        assert max(took[state]) <= promised
    assert house.scalar("SELECT count(*) FROM webhook_events") == 0
    assert len(house.records()) == payments * rounds


def in_line(house: House, payments: int) -> bool:
    """Whether so many payments are known, and each as the platform has it."""
    records = house.records().values()
    return sum(record["refreshed_at"] is not None for record in records) == payments and house.differences() == []
