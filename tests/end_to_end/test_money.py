"""Captures, refunds and cancellations with real servers: asked for by any Celery client, moved once."""

from pathlib import Path

import pytest

from tests.end_to_end.conftest import Start
from tests.end_to_end.crowd import Crowd
from tests.end_to_end.house import AMOUNTS, House
from tests.end_to_end.shop import Shop
from tests.proof import money
from tests.servers.postgres_server import PostgresServer
from tests.servers.process_tree import wait_for

#: What a busy machine needs for one step of a story.
SECONDS = 30.0
#: Of the policy that waits.
PATIENCE_SECONDS = 4


def amounts(house: House) -> dict[str, int]:
    """The one payment's, as far as there are any."""
    (record,) = house.records().values()
    return {name: record[f"amount_{name}"] for name in AMOUNTS if record[f"amount_{name}"]}


@pytest.mark.timeout(240)
def test_an_order_is_captured_in_two_parts_and_refunded_in_two(
    start: Start, postgres_url: str, rabbitmq_url: str
) -> None:
    """Every step is in the amounts as soon as it is done; what is too much is refused, and the platform not asked; a
    refund asked for while the capture is pending goes out when that confirms."""
    house, shop = House(start, postgres_url, rabbitmq_url), Shop(rabbitmq_url)
    house.serve()
    house.work()
    house.sandbox.settings(webhooks={"urls": [house.webhook_url]})
    (payment_id,) = house.sandbox.create_payments(1, amount=800)
    number = payment_id.partition("_")[0]

    def after(kind: str, request_id: str, amount: int) -> dict[str, int]:
        """The amounts in the look in which a request has ended."""
        shop.ask(kind, payment_id, request_id, amount=amount)
        assert wait_for(lambda: request_id in house.ended(), SECONDS), house.operations()
        return amounts(house)

    steps = [
        after("capture", "too much to capture", 801),
        after("capture", "first part", 300),
        after("capture", "more than the rest", 501),
        after("capture", "the rest", 500),
        after("capture", "one more", 1),
        after("refund", "too much to refund", 801),
        after("refund", "first refund", 100),
        after("refund", "more than is left", 701),
        after("refund", "last refund", 700),
        after("refund", "another one", 1),
    ]
    calls = house.sandbox.calls()["by_payment"][number]

    captured, refunded = {"authorised": 800, "captured": 300}, {"captured": 800, "refunded": 100}
    authorised, both, all_back = {"authorised": 800}, {"authorised": 800, "captured": 800}, {"refunded": 800}
    assert steps == [
        authorised,
        captured,
        captured,
        both,
        both,
        both,
        {**authorised, **refunded},
        {**authorised, **refunded},
        {**both, **all_back},
        {**both, **all_back},
    ]
    assert (calls["capture_payment"], calls["refund_payment"]) == (2, 2)
    assert [one for one, (state, _) in house.ended().items() if state == "succeeded"] == [
        "first part",
        "the rest",
        "first refund",
        "last refund",
    ]
    assert all(reason for _, reason in house.ended().values())
    assert house.differences() == []


@pytest.mark.timeout(240)
def test_a_refund_asked_for_while_its_capture_is_pending_goes_out_when_that_confirms(
    start: Start, postgres_url: str, rabbitmq_url: str
) -> None:
    """Until then it is promised, and the platform is not asked for it."""
    house, shop = House(start, postgres_url, rabbitmq_url), Shop(rabbitmq_url)
    house.serve()
    house.work()
    house.sandbox.settings(webhooks={"urls": [house.webhook_url]}, settle_seconds=3600)
    (payment_id,) = house.sandbox.create_payments(1, amount=800)

    shop.ask("capture", payment_id, "capture", amount=800)
    assert wait_for(lambda: house.operations("request_id = 'capture' AND state = 'accepted'"), SECONDS)
    shop.ask("refund", payment_id, "refund", amount=800)
    assert wait_for(lambda: house.operations("request_id = 'refund' AND state = 'planned'"), SECONDS)
    calls = house.sandbox.calls()["by_call"]
    (capture,) = house.sandbox.truth_of(payment_id)["operations"]
    house.sandbox.settings(settle_seconds=0.1)
    house.sandbox.settle(capture["id"])
    refunded = wait_for(lambda: "refund" in house.ended(), SECONDS)

    assert "refund_payment" not in calls
    assert refunded
    assert {state for state, _ in house.ended().values()} == {"succeeded"}
    assert house.sandbox.truth_of(payment_id)["amount_refunded"] == 800


@pytest.mark.timeout(240)
def test_of_many_requests_at_once_no_more_are_promised_than_there_is_money(
    start: Start, postgres_url: str, rabbitmq_url: str, tmp_path: Path
) -> None:
    """64 refunds of 60 % at once, from 8 processes: one is accepted, 63 are refused with the reason. 64 times the same
    request at once: one operation, and each answer is of it."""
    # Whoever is refused waited for a look of its own time, and one payment's looks are a gap apart.
    prompt = {"PAYHOOK_RESULT_BACKEND": "rpc://", "PAYHOOK_GAP_SECONDS": "0.5"}
    house = House(start, postgres_url, rabbitmq_url, more=prompt)
    house.serve()
    house.work(concurrency=8)
    house.sandbox.settings(webhooks={"urls": [house.webhook_url]})
    sale, other_sale = house.sandbox.create_payments(2, amount=1000, sale=True, webhooks=False)
    crowd = Crowd(house, tmp_path, clients=8)
    refund = {"payment_id": sale, "source": "shop", "amount": 600}
    same = {"payment_id": other_sale, "source": "shop", "amount": 600, "request_id": "the same"}

    of_many = crowd.ask("payhook.refund", [{**refund, "request_id": str(number)} for number in range(64)])
    of_one = crowd.ask("payhook.refund", [same] * 64)
    ended = wait_for(lambda: len(house.ended()) == 65, SECONDS)
    told_later = crowd.ask("payhook.refund", [same] * 64)

    accepted = [answer for answer in of_many if answer["state"] not in ("requested", "refused")]
    assert len(of_many) == len(of_one) == len(told_later) == 64
    assert len(accepted) <= 1
    assert ended
    assert sorted(state for state, _ in house.ended().values()) == ["refused"] * 63 + ["succeeded"] * 2
    assert len({answer["operation_uuid"] for answer in of_many}) == 64
    assert len({(answer["operation_key"], answer["operation_uuid"], answer["amount"]) for answer in of_one}) == 1
    assert "refused" not in {answer["state"] for answer in of_one}
    assert [answer == told_later[0] for answer in told_later] == [True] * 64
    assert told_later[0]["state"] == "succeeded"
    assert [truth["amount_refunded"] for truth in house.sandbox.ledger()] == [600, 600]
    assert house.sandbox.calls()["by_call"]["refund_payment"] == 2


@pytest.mark.timeout(300)
def test_whatever_is_down_when_it_is_asked_for_a_request_becomes_one_operation(
    start: Start, postgres_url: str, rabbitmq_url: str, postgres_server: PostgresServer
) -> None:
    """A hundred captures asked for while PostgreSQL is down, half of them twice; it comes back when the platform is
    frozen: a hundred operations, and when the platform answers again each is done once."""
    house = House(
        start, postgres_url, rabbitmq_url, more={"PAYHOOK_CALL_SECONDS": "1", "PAYHOOK_RETRY_MAX_SECONDS": "5"}
    )
    shop = Shop(rabbitmq_url)
    house.serve()
    house.work()
    house.sandbox.settings(webhooks={"urls": [house.webhook_url]}, retry_seconds=[0.5, 1, 2, 4])
    payment_ids = house.sandbox.create_payments(100)  # known by their events, so that half are promised unseen
    assert wait_for(lambda: len(house.records()) == 100 and house.settled(0), SECONDS)

    postgres_server.stop()
    for number, payment_id in enumerate(payment_ids):
        for _ in range(1 + number % 2):
            shop.ask("capture", payment_id, payment_id)
    house.processes["sandbox"].freeze()
    postgres_server.revive()
    kept = wait_for(lambda: len(house.operations()) == 100, 2 * SECONDS)
    in_doubt = wait_for(lambda: house.operations("state = 'unknown'"), SECONDS)
    house.processes["sandbox"].thaw()
    ended = wait_for(lambda: len(house.ended()) == 100, 4 * SECONDS)

    operations, ledger = house.operations(), house.sandbox.ledger()
    assert kept
    assert in_doubt
    assert ended
    assert {one["state"] for one in operations} == {"succeeded"}
    assert len(operations) == 100
    assert money.moved_twice(operations, ledger) == []
    assert money.untrue(operations, ledger) == []
    assert {len(truth["operations"]) for truth in ledger} == {1}
    assert wait_for(lambda: house.differences() == [], SECONDS)


@pytest.mark.timeout(240)
def test_a_copy_of_production_moves_no_money(start: Start, postgres_url: str, rabbitmq_url: str) -> None:
    """Workers on production's database with another endpoint, or another merchant: what is asked for is kept, and is
    not sent; the row and the log say why. Production goes on with what is its own."""
    house, shop = House(start, postgres_url, rabbitmq_url), Shop(rabbitmq_url)
    production = house.work("work-production")
    house.sandbox.add_merchant("staging", "staging-key", "staging-secret")
    first, second = house.sandbox.create_payments(2, webhooks=False)
    (of_staging,) = house.sandbox.create_payments(1, merchant_id="staging", webhooks=False)
    shop.ask("capture", first, first)
    assert wait_for(lambda: first in house.ended(), SECONDS)
    production.terminate()

    # The same sandbox under another name, so that it could be asked.
    another_endpoint = {"PAYHOOK_API_ENDPOINT": f"http://localhost:{house.sandbox_port}"}
    another_merchant = {
        "PAYHOOK_MERCHANT_ID": "staging",
        "PAYHOOK_API_KEY_ID": "staging-key",
        "PAYHOOK_API_SECRET": "staging-secret",
    }
    ask_a_copy(house, shop, second, another_endpoint)
    ask_a_copy(house, shop, of_staging, another_merchant)

    house.work("work-again")
    shop.ask("capture", second, second)
    assert wait_for(lambda: second in house.ended(), SECONDS)
    assert {truth["payment_id"]: truth["amount_captured"] for truth in house.sandbox.ledger()} == {
        first.partition("_")[0]: 1000,
        second.partition("_")[0]: 1000,
        of_staging.partition("_")[0]: 0,
    }


def ask_a_copy(house: House, shop: Shop, payment_id: str, settings: dict[str, str]) -> None:
    """Ask a worker with other settings for a capture, when production has made one; it is not sent."""
    of_it = f"request_id = '{payment_id}'"
    copy = house.run(f"work-{payment_id}", "payhook", "work", "--concurrency", "1", env=settings)
    copy.wait_until(r"payhook-\d+@.* ready")
    shop.ask("capture", payment_id, payment_id)
    said = wait_for(lambda: house.operations(f"{of_it} AND reason IS NOT NULL"), SECONDS)
    copy.terminate()

    assert said
    (operation,) = house.operations(of_it)
    assert operation["state"] == "planned"
    assert "this database moves the money of sandbox at 127.0.0.1:" in operation["reason"]
    assert "sending.refused" in copy.output()
    assert house.sandbox.calls()["by_call"]["capture_payment"] == 1
    assert house.scalar("SELECT count(*) FROM attempts") == 1


@pytest.mark.timeout(240)
def test_policies_capture_of_their_own_accord(
    start: Start, postgres_url: str, rabbitmq_url: str, tmp_path: Path
) -> None:
    """One merchant's payments are captured when they are authorised, the other's some seconds later, unless they were
    cancelled meanwhile; what the platform refuses is not promised again."""
    house = House(start, postgres_url, rabbitmq_url)
    house.sandbox.add_merchant("patient", "patient-key", "patient-secret")
    policies = {"sandbox": "capture-when-authorised", "patient": f"capture-after:{PATIENCE_SECONDS}s"}
    house.more = with_merchants(tmp_path / "merchants.toml", f"http://127.0.0.1:{house.sandbox_port}", policies)
    house.serve()
    house.work()
    house.sandbox.settings(webhooks={"urls": [house.webhook_url]})

    at_once, refused = (house.sandbox.create_payments(amount=amount)[0] for amount in (800, 1309))  # 1309 ends with 93
    cancelled, later = house.sandbox.create_payments(2, amount=800, merchant_id="patient")
    house.sandbox.cancel(cancelled)
    ended = wait_for(lambda: len(house.ended()) == 3, SECONDS)
    house.sandbox.emit(refused)
    settled = house.settled(SECONDS)

    made = {one["payment_id"]: one for one in house.operations()}
    records = house.records()
    at_once, refused, cancelled, later = (
        payment_id.partition("_")[0] for payment_id in (at_once, refused, cancelled, later)
    )
    assert ended
    assert settled
    assert {payment_id: one["state"] for payment_id, one in made.items()} == {
        at_once: "succeeded",
        refused: "refused",
        later: "succeeded",
    }
    assert made[at_once]["source"] == "policy:capture-when-authorised"
    assert made[later]["source"] == "policy:capture-after"
    assert (made[later]["created_at"] - records[later]["authorised_at"]).total_seconds() >= PATIENCE_SECONDS
    assert "not asked for again" in records[refused]["problem"]
    assert [records[one]["amount_captured"] for one in (at_once, refused, cancelled, later)] == [800, 0, 0, 800]
    assert len(house.operations()) == 3
    assert wait_for(lambda: house.differences() == [], SECONDS)


def with_merchants(file: Path, endpoint: str, policies: dict[str, str]) -> dict[str, str]:
    """The settings of several merchants of the sandbox, each with a policy."""
    tables = [
        f'[[merchant]]\nid = "{name}"\napi_key_id = "{name}-key"\napi_secret = "{name}-secret"\n'
        f'api_endpoint = "{endpoint}"\npolicy = "{policy}"\n'
        for name, policy in policies.items()
    ]
    file.write_text("".join(tables))
    file.chmod(0o600)
    none = dict.fromkeys(("PAYHOOK_MERCHANT_ID", "PAYHOOK_API_KEY_ID", "PAYHOOK_API_SECRET"), "")
    return {**none, "PAYHOOK_MERCHANTS_FILE": str(file)}
