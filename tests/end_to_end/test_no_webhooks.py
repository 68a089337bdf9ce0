"""No webhook ever comes: payments of every fate are followed by polls alone, within the budget, cheaply at rest."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

import pytest
from celery import Celery

from tests.end_to_end.conftest import Start
from tests.end_to_end.house import House
from tests.end_to_end.platform_proxy import PlatformProxy
from tests.end_to_end.portal import Click, Done, Portal
from tests.proof import checks
from tests.proof.fixtures import Proof
from tests.servers.ports import free_port
from tests.servers.process_tree import wait_for
from worker.traffic.budget import BURST_SECONDS

DECLINED = 2

#: Beyond a tier's interval and a tenth: the look with its four calls, behind others, on a busy machine.
LOOK_SECONDS = 2.0

#: A request leaves so much later than its slot, at times, on a machine that has much to do.
LATE_SECONDS = 0.5


@dataclass(frozen=True)
class Fate:
    """What happens to a payment, and what one at rest costs."""

    name: str
    of_twenty: int
    first: Click | None = None
    later: Click | None = None
    tier: str | None = None  # it ends in, None: never looked at again
    calls: int = 0  # of a look there
    status_code: int = 5  # it begins with


FATES = (
    Fate("left alone", 6, tier="authorised", calls=3),
    Fate("captured", 4, "capture", tier="captured", calls=4),
    Fate("refunded in part", 2, "capture", "refund a part", tier="captured", calls=4),
    Fate("capture refused (91, 93)", 2, "capture, refused", tier="authorised", calls=4),
    Fate("refunded", 2, "capture", "refund"),
    Fate("cancelled", 2, "cancel"),
    Fate("declined", 2, status_code=DECLINED),
)


@dataclass(frozen=True)
class Scale:
    """How many payments, and how fast things go."""

    payments: int
    authorised: float  # seconds between looks
    captured: float
    sweep: float
    budget: float  # requests a second
    spread: float  # seconds over which the portal clicks
    quiet: float  # seconds of counting calls at rest
    #: What is counted, as a share of the table's: looks come up to a fifth early, a tenth on average, and a sweep late.
    at_rest: tuple[float, float]

    @property
    def settings(self) -> dict[str, str]:
        return {
            "PAYHOOK_POLL_MOVING_SECONDS": "[1, 2]",
            "PAYHOOK_POLL_AUTHORISED_SECONDS": str(self.authorised),
            "PAYHOOK_POLL_CAPTURED_SECONDS": str(self.captured),
            "PAYHOOK_SWEEP_SECONDS": str(self.sweep),
            "PAYHOOK_BUDGET_PER_SECOND": str(self.budget),
            "PAYHOOK_GAP_SECONDS": "0.3",
        }

    @property
    def tiers(self) -> Mapping[str, float]:
        return {"authorised": self.authorised, "captured": self.captured}


SMALL = Scale(payments=60, authorised=2, captured=3, sweep=0.1, budget=150, spread=2, quiet=5, at_rest=(0.9, 1.25))
FULL = Scale(payments=1000, authorised=25, captured=50, sweep=1, budget=200, spread=30, quiet=60, at_rest=(1.0, 1.15))


@pytest.mark.timeout(900)
@pytest.mark.proof("G6")
def test_with_no_webhook_ever_each_record_follows_its_payment_within_its_interval(
    start: Start, postgres_url: str, proof: Proof, request: pytest.FixtureRequest
) -> None:
    """Payments of seven fates, made known by `payhook.reconcile`, changed in the portal at random moments: each record
    equals the ledger within its tier's interval + 10 % (and a sweep and a look), all within the budget; at rest the
    calls are those of the table, and what is settled costs none."""
    scale = proof.size(SMALL, FULL)
    broker = request.getfixturevalue(proof.size("redis_url", "rabbitmq_url"))
    port = free_port()
    house = House(
        start, postgres_url, broker, more={**scale.settings, "PAYHOOK_API_ENDPOINT": f"http://127.0.0.1:{port}"}
    )
    with PlatformProxy(port, house.sandbox.url) as proxy:
        house.work()
        fates = create(house, scale)
        make_known(house, list(fates))
        portal, done = Portal(house.sandbox, Random(proof.seed)), []
        for clicks in (
            [(payment_id, fate.first) for payment_id, fate in fates.items() if fate.first],
            [(payment_id, fate.later) for payment_id, fate in fates.items() if fate.later],
        ):
            done.append(portal.click(clicks, scale.spread))
            wait_for(lambda: house.differences() == [], 2 * scale.captured + 10)
            tell_delays(proof, house, scale, done[-1])
        time.sleep(1)
        began = time.time()
        time.sleep(scale.quiet)
        ended = time.time()
        calls = list(proxy.calls)

    proof.injected("changes that no webhook told of", sum(map(len, done)), scale.payments * 14 // 20)
    proof.figure("payments", f"{len(house.records())}: {dict(Counter(fate.name for fate in fates.values()))}")
    proof.figure("webhooks received", house.scalar("SELECT count(*) FROM webhook_events"), 0)
    proof.figure("payments whose record differs from the ledger", len(house.differences()), 0)
    tell_budget(proof, scale, [call.at for call in calls])
    at_rest = Counter(call.payment_id for call in calls if began <= call.at < ended)
    tell_rest(proof, scale, fates, at_rest, ended - began)
    assert house.scalar("SELECT count(*) FROM webhook_events") == 0
    assert house.differences() == []


def create(house: House, scale: Scale) -> dict[str, Fate]:
    """The payments, by their ids."""
    fates = {}
    for fate in FATES:
        count = scale.payments * fate.of_twenty // 20
        for payment_id in house.sandbox.create_payments(count, webhooks=False, status_code=fate.status_code):
            fates[payment_id] = fate
    return fates


def make_known(house: House, payment_ids: list[str]) -> None:
    """Ask for each, as a shop does that has just made it, and wait until all have been looked at."""
    app = Celery(broker=house.broker_url)
    for payment_id in payment_ids:
        app.send_task("payhook.reconcile", kwargs={"payment_id": payment_id}, queue="payhook.events")
    looked_at = "SELECT count(*) FROM payments WHERE refreshed_at IS NOT NULL"
    assert wait_for(lambda: house.scalar(looked_at) == len(payment_ids), 90)


def tell_delays(proof: Proof, house: House, scale: Scale, done: list[Done]) -> None:
    """From each change to its being in the record."""
    records = house.records()
    for tier, refunds in (("authorised", False), ("captured", True)):
        took = [
            records[one.payment_id.split("_")[0]]["changed_at"].timestamp() - one.at
            for one in done
            if one.click.startswith("refund") is refunds
        ]
        if took:
            promised = scale.tiers[tier] * 1.1 + 1.1 * scale.sweep + LOOK_SECONDS
            seconds = " / ".join(f"{checks.quantile(took, share):.1f}" for share in (50, 99, 100))
            told = f"{tier}: seconds from each of {len(took)} changes until it is in the record, p50 / p99 / longest"
            said = f"≤ {promised:.1f} (interval {scale.tiers[tier]:g} + 10 %, a sweep, a look)"
            proof.figure(told, seconds, said)
            assert max(took) <= promised


def tell_budget(proof: Proof, scale: Scale, moments: list[float]) -> None:
    """That no window of any length had more than its rate and one burst."""
    burst = checks.over_rate([(at, 1) for at in moments], scale.budget)
    allowed = scale.budget * (BURST_SECONDS + LATE_SECONDS)
    proof.figure(f"requests, of a budget of {scale.budget:g} a second", len(moments))
    proof.figure("the most in any second", checks.fullest(moments, 1.0), f"≤ {scale.budget + allowed:g}")
    said = f"≤ {allowed:g} (what is unused of {BURST_SECONDS:g} s, and comes {LATE_SECONDS:g} s late)"
    proof.figure("the most that a window of any length has beyond its rate", f"{burst:.0f}", said)
    assert burst <= allowed


def tell_rest(proof: Proof, scale: Scale, fates: Mapping[str, Fate], calls: Mapping[str, int], seconds: float) -> None:
    """What payments cost when nothing happens to them."""
    by_fate: Counter[Fate] = Counter()
    for payment_id, fate in fates.items():
        by_fate[fate] += calls.get(payment_id.split("_")[0], 0)
    of_table = {
        fate: count * fate.calls / scale.tiers[fate.tier]
        for fate, count in Counter(fates.values()).items()
        if fate.tier is not None
    }
    measured = {fate: by_fate[fate] / seconds for fate in of_table}
    share = sum(measured.values()) / sum(of_table.values())
    hourly = f"{sum(measured.values()) * 3600:.0f} / {sum(of_table.values()) * 3600:.0f}"
    proof.figure(f"calls an hour at rest, counted for {seconds:.0f} s / of the table", hourly)
    least, most = scale.at_rest
    said = f"{least} … {most} (looks come up to a fifth early)"
    proof.figure("the first as a share of the second", f"{share:.2f}", said)
    for fate, expected in of_table.items():
        proof.figure(f"the same for those {fate.name}", f"{measured[fate] / expected:.2f}")
    settled = sum(by_fate[fate] for fate in by_fate if fate.tier is None)
    proof.figure("calls for payments that are refunded, cancelled or declined", settled, 0)
    assert least <= share <= most
    assert settled == 0
