"""Three payments among thousands: one always fails, one hangs, one kills whoever looks at it. All three end parked."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from tests.end_to_end import load
from tests.end_to_end.conftest import Start
from tests.end_to_end.house import KEY_ID, LATENCY_SECONDS, SECRET, House, event
from tests.end_to_end.platform_proxy import Grief, PlatformProxy
from tests.proof.checks import quantile
from tests.proof.fixtures import Proof
from tests.servers.ports import free_port
from tests.servers.process_tree import wait_for
from worker.reconciliation.claims import MOST_CLAIMS
from worker.reconciliation.polling import OWN_FAILURES

#: Each as it does, and what its problem must say in the end.
POISON: dict[Grief, str] = {
    "answers 500": "HTTP 500",
    "hangs": f"{OWN_FAILURES} times in a row",
    "kills": f"claimed {MOST_CLAIMS} times and never finished",
}

#: So short that twenty failures and eight leases pass while somebody waits: a kill every second and a half.
SMALL = {
    "PAYHOOK_LEASE_SECONDS": "1.2",
    "PAYHOOK_CLAIM_SECONDS": "1",
    "PAYHOOK_CALL_SECONDS": "0.6",
    "PAYHOOK_GAP_SECONDS": "0.1",
    "PAYHOOK_SWEEP_SECONDS": "0.3",
    "PAYHOOK_RETRY_MAX_SECONDS": "0.2",
}
#: All that the three do happens while the three thousand come; a process dies somewhat more often than it can in
#: production.
FULL = {
    "PAYHOOK_LEASE_SECONDS": "45",
    "PAYHOOK_CLAIM_SECONDS": "30",
    "PAYHOOK_CALL_SECONDS": "4",
    "PAYHOOK_SWEEP_SECONDS": "2",
    "PAYHOOK_RETRY_MAX_SECONDS": "1",
}


@dataclass(frozen=True)
class Size:
    """How many payments, and how fast they come."""

    alone: int  # before the three, and once more after them
    beside: int  # them
    rate: int
    share: int  # the quantile that is compared


@pytest.mark.timeout(900)
@pytest.mark.proof("G8", small=False)
def test_three_poison_payments_among_thousands_end_parked(
    start: Start, postgres_url: str, rabbitmq_url: str, proof: Proof
) -> None:
    """With their reasons; and the others' p99 from receipt to reconciled stays within 10 % of what it is without them
    (in a small run they kill forty times as often as in production: there p90 stays under five seconds)."""
    size = proof.size(Size(20, 150, 20, 90), Size(400, 3000, 8, 99))
    port = free_port()
    more = {**proof.size(SMALL, FULL), "PAYHOOK_API_ENDPOINT": f"http://127.0.0.1:{port}"}
    house = House(start, postgres_url, rabbitmq_url, more=more)
    with PlatformProxy(port, house.sandbox.url) as proxy:
        house.serve()
        house.work(concurrency=4)  # two rows kept apart at once leave processes for all others
        house.sandbox.settings(latency_seconds=LATENCY_SECONDS)
        turn(house, size, size.rate)  # everything is warm
        before = turn(house, size, size.alone)
        poison = [payment_id.split("_")[0] for payment_id in house.sandbox.create_payments(3, webhooks=False)]
        proxy.grief = dict(zip(poison, POISON, strict=True))
        beside = turn(house, size, size.beside, poison)
        problems = parked_in_the_end(house, poison)
        after = turn(house, size, size.alone)

    for grief, least in zip(POISON, (OWN_FAILURES, OWN_FAILURES, MOST_CLAIMS), strict=True):
        proof.injected(f"looks at the payment that {grief}", proxy.seen[grief], least)
    usual = (before + after) / 2
    bound = proof.size(5.0, usual * 1.1)
    proof.figure("payments of others beside the three", size.beside)
    proof.figure(f"others' p{size.share} without the three, before and after them, seconds", f"{usual:.3f}")
    proof.figure(f"others' p{size.share} beside them, seconds", f"{beside:.3f}", f"< {bound:.3f}")
    proof.figure("of the three parked with their reason", len(problems), 3)
    for problem, reason in zip(problems, POISON.values(), strict=True):
        assert reason in problem
    assert beside < bound


def turn(house: House, size: Size, payments: int, poison: Sequence[str] = ()) -> float:
    """Send an event of each payment, first those of the poison; a quantile of the others' seconds until reconciled."""
    others = house.sandbox.create_payments(payments, webhooks=False)
    canonical = ", ".join(f"'{payment_id.split('_')[0]}'" for payment_id in others)
    these = f"payment_id IN ({canonical}) AND outcome = 'reconciled'"
    count = len(others) + len(poison)
    bodies = (event(payment_id) for payment_id in (*(f"{one}_0" for one in poison), *others))
    report = load.run(house.webhook_url, bodies, size.rate, count / size.rate, KEY_ID, SECRET)
    done = wait_for(lambda: len(house.seconds_to_done(these)) == len(others), 60)

    assert report.by_status == {"204": count}
    assert done
    return quantile(house.seconds_to_done(these), size.share)


def parked_in_the_end(house: House, poison: list[str]) -> list[str]:
    """The problems of the poison payments once they are parked; others are looked at all the while, as in any shop."""
    chosen = ", ".join(f"'{payment_id}'" for payment_id in poison)
    parked = f"payment_id IN ({chosen}) AND due_at IS NULL AND problem IS NOT NULL"

    def all_parked() -> bool:
        if house.scalar(f"SELECT count(*) FROM payments WHERE {parked}") == len(poison):
            return True
        company = house.sandbox.create_payments(10, webhooks=False)
        load.run(house.webhook_url, map(event, company), 10, 1, KEY_ID, SECRET, senders=1)
        return False

    assert wait_for(all_parked, 400)
    records = house.records()
    return [str(records[payment_id]["problem"]) for payment_id in poison]
