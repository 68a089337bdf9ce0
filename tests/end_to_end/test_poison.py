"""A poison event, payment or request delays no other: measured with and without, in turns, in one run."""

import threading
from statistics import median
from types import TracebackType
from typing import Self

import pytest
from celery import Celery

from tests.end_to_end import load
from tests.end_to_end.conftest import Start
from tests.end_to_end.house import KEY_ID, PRODUCTION, SECRET, House, event
from tests.end_to_end.platform_proxy import Grief, PlatformProxy
from tests.proof.checks import quantile
from tests.proof.fixtures import Proof
from tests.servers.ports import free_port
from tests.servers.process_tree import wait_for

QUEUE = "payhook.events"

RATE = 24
#: What the platform takes for each of a look's calls.
LATENCY_SECONDS = 0.15

POISON: tuple[Grief, ...] = ("hangs", "breaks", "answers 500")
SENSELESS = (b"", b"null", b"\xff\xfe", b"[" * 50_000, b'{"apiVersion":"v0"}')


class Poisoner(threading.Thread):
    """While it runs: every second a senseless event, an event of each poison payment, and two poison requests."""

    def __init__(self, house: House, payment_ids: list[str], app: Celery):
        super().__init__(name="poisoner", daemon=True)
        self._house, self._payment_ids, self._app = house, payment_ids, app
        self._ending = threading.Event()
        self.sent = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ending.set()
        self.join()

    def run(self) -> None:
        while not self._ending.wait(1.0):
            senseless = SENSELESS[self.sent % len(SENSELESS)] + b" " * self.sent
            bodies = [senseless, *map(event, self._payment_ids)]
            report = load.run(self._house.webhook_url, bodies, 1000, len(bodies) / 1000, KEY_ID, SECRET, senders=1)
            ask_for(self._payment_ids[:1], self._app)
            self._app.send_task("payhook.reconcile", kwargs={"payment_id": [{}] * 50, "\0": 1}, queue=QUEUE)
            self.sent += report.by_status == {"204": len(bodies)}


@pytest.mark.timeout(900)
@pytest.mark.proof("G8")
def test_poison_delays_no_other(start: Start, postgres_url: str, rabbitmq_url: str, proof: Proof) -> None:
    """Payments that hang, break off and answer nonsense, senseless events and requests: the others' p99 from receipt
    to reconciled stays within 10 % of what it is without them (small runs measure too little for so fine a bound: there
    p90 is not doubled)."""
    turns, seconds, share, bound = proof.size((1, 4, 90, 2.0), (6, 20, 99, 1.1))
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    house = House(start, postgres_url, rabbitmq_url, more={**PRODUCTION, "PAYHOOK_API_ENDPOINT": endpoint})
    app = Celery(broker=rabbitmq_url)
    without: list[float] = []
    with_poison: list[float] = []
    doses = 0
    with PlatformProxy(port, house.sandbox.url) as proxy:
        house.serve()
        house.work()
        house.sandbox.settings(latency_seconds=LATENCY_SECONDS)
        poison = house.sandbox.create_payments(len(POISON), webhooks=False)
        quantile_of_others(house, proof.size(1, 5), share)  # everything is warm
        for turn in range(turns):
            without.append(quantile_of_others(house, seconds, share))
            proxy.grief = {payment_id.split("_")[0]: grief for payment_id, grief in zip(poison, POISON, strict=True)}
            with Poisoner(house, poison, app) as poisoner:
                with_poison.append(quantile_of_others(house, seconds, share))
            doses += poisoner.sent
            if turn < turns - 1:
                proxy.grief = {}
                cure(house, poison, app)

    for grief in POISON:
        proof.injected(f"looks at the payment that {grief}", proxy.seen[grief], turns)
    proof.injected("doses of poison events and requests", doses, turns * (seconds - 2))
    # Not of all events together: one hiccup of the machine would decide it, in whichever turns it came.
    usual, poisoned = median(without), median(with_poison)
    proof.figure("events of others in each turn", RATE * seconds)
    proof.figure(f"others' p{share} without poison, median of the turns, seconds", f"{usual:.3f}")
    said = f"< {usual * bound:.3f} (+ {bound - 1:.0%})"
    proof.figure(f"others' p{share} with poison, median of the turns, seconds", f"{poisoned:.3f}", said)
    assert poisoned < usual * bound


def quantile_of_others(house: House, seconds: int, share: float) -> float:
    """Send events of payments that are all right; a quantile of the seconds from their receipt until reconciled."""
    payment_ids = house.sandbox.create_payments(RATE * seconds, webhooks=False)
    canonical = ", ".join(f"'{payment_id.split('_')[0]}'" for payment_id in payment_ids)
    these = f"payment_id IN ({canonical}) AND outcome = 'reconciled'"
    report = load.run(house.webhook_url, map(event, payment_ids), RATE, seconds, KEY_ID, SECRET)
    done = wait_for(lambda: len(house.seconds_to_done(these)) == len(payment_ids), 30)

    assert report.by_status == {"204": len(payment_ids)}
    assert done
    return quantile(house.seconds_to_done(these), share)


def cure(house: House, payment_ids: list[str], app: Celery) -> None:
    """Ask for what is poison no more, and wait until it is done: nothing of it is left for the turn without."""
    ask_for(payment_ids, app)
    assert wait_for(lambda: house.settled(0), 60)


def ask_for(payment_ids: list[str], app: Celery) -> None:
    for payment_id in payment_ids:
        app.send_task("payhook.reconcile", kwargs={"payment_id": payment_id}, queue=QUEUE)
