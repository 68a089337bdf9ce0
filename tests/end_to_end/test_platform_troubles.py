"""The platform is away, refuses one of two merchants, or asks for fewer requests: what it is asked then, and after."""

import json
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from celery import Celery
from sqlalchemy import text

from tests.end_to_end import load
from tests.end_to_end.conftest import Start
from tests.end_to_end.house import KEY_ID, LATENCY_SECONDS, SECRET, House, event
from tests.end_to_end.platform_proxy import Call, PlatformProxy
from tests.end_to_end.shop import Shop
from tests.proof import checks
from tests.proof.fixtures import Proof
from tests.servers.ports import free_port
from tests.servers.process_tree import wait_for
from worker.traffic import SPREAD_SECONDS
from worker.traffic.budget import BURST_SECONDS, SHARES, Lane
from worker.traffic.circuit import KNOWN_SECONDS

#: A look at an authorised payment.
CALLS = 3

#: What is promised beyond the time that the budget takes.
IN_LINE_SECONDS = 60.0

#: A request leaves so much later than its slot, at times, on a machine that has much to do.
LATE_SECONDS = 0.5

#: And for a request to move money that waited for the platform.
SENT_SECONDS = 10.0

#: One who knows nothing of the other.
OTHER, OTHERS_KEY, OTHERS_SECRET = "globex", "globex-key", "globex-secret"

MERCHANTS = """\
[[merchant]]
id = "sandbox"
api_key_id = "sandbox-key"
api_secret = "sandbox-secret"
api_endpoint = "{endpoint}"

[[merchant]]
id = "globex"
api_key_id = "globex-key"
api_secret = "globex-secret"
api_endpoint = "{endpoint}"
"""


@pytest.mark.timeout(600)
@pytest.mark.proof("G6", small=False)
def test_a_minute_without_the_platform_ends_without_a_storm(
    start: Start, postgres_url: str, rabbitmq_url: str, tmp_path: Path, proof: Proof
) -> None:
    """While it is away it gets single requests that try; afterwards what waited comes within the budget, old and new
    alike, requests to move money first."""
    rate, before, away, after, budget, circuit = proof.size(
        (20, 2, 6, 1, 60, (0.5, 2)),
        (50, 5, 60, 5, 200, (2, 30)),
    )
    port = free_port()
    settings = {
        "PAYHOOK_API_ENDPOINT": f"http://127.0.0.1:{port}",
        "PAYHOOK_BUDGET_PER_SECOND": str(budget),
        "PAYHOOK_CIRCUIT_SECONDS": json.dumps(circuit),
    }
    house, shop = House(start, postgres_url, rabbitmq_url, more=settings), Shop(rabbitmq_url)
    with PlatformProxy(port, house.sandbox.url) as proxy:
        house.serve()
        house.work()
        known = house.sandbox.create_payments(10, webhooks=False)
        for payment_id in known:
            Celery(broker=rabbitmq_url).send_task(
                "payhook.reconcile", kwargs={"payment_id": payment_id}, queue="payhook.events"
            )
        payment_ids = house.sandbox.create_payments(rate * (before + away + after), webhooks=False)
        plan = load.Plan(
            house.webhook_url, rate, before + away + after, KEY_ID, SECRET, history=str(proof.history.path)
        )
        sender = load.Child(tmp_path, plan, map(event, payment_ids))
        time.sleep(before)
        proxy.away, away_at = "breaks", time.time()
        for number, payment_id in enumerate(known):
            shop.ask("capture", payment_id, f"during-{number}")
            time.sleep(away / len(known))
        proxy.away, back_at = None, time.time()
        report = sender.report()
        backlog = house.open_events()
        seconds = backlog * CALLS / (budget * SHARES[Lane.LOOKS])
        in_line = wait_for(lambda: house.settled(0), IN_LINE_SECONDS + 2 * seconds)
        done_at = time.time()
        calls = list(proxy.calls)
        wait_for(lambda: house.differences() == [] and len(house.ended()) == len(known), 30)

    assert report.by_status == {"204": len(payment_ids)}
    events = received(house, away_at, back_at)
    proof.injected("events received while the platform was away", len(events), rate * away // 2)
    tell_trials(proof, calls, away_at, back_at, circuit)
    closed_at = next(call.at for call in calls if call.at > back_at)
    proof.figure("seconds from its return until it is tried", f"{closed_at - back_at:.1f}", f"≤ {circuit[1]}")
    tell_order(proof, calls, events, closed_at)
    promised = IN_LINE_SECONDS + seconds
    said = f"≤ {promised:.0f} ({IN_LINE_SECONDS:g} + {backlog} looks of {CALLS} requests within the budget)"
    proof.figure("seconds from its return until every event is done", f"{done_at - back_at:.1f}", said)
    tell_budget(proof, [call.at for call in calls if call.at > back_at], budget)
    tell_lines(proof, house, {"circuit.opened": 1, "circuit.closed": 1})
    proof.figure("acknowledged and lost", len(checks.lost(proof.history.lines(), evaluated(house))), 0)
    assert in_line
    assert done_at - back_at <= promised
    assert checks.lost(proof.history.lines(), evaluated(house)) == []
    assert house.differences() == []
    assert {state for state, _ in house.ended().values()} == {"succeeded"}


def received(house: House, begin: float, end: float) -> list[tuple[float, float]]:
    """When each event of a span of time came and was done, the oldest first."""
    query = text(
        "SELECT extract(epoch FROM received_at), extract(epoch FROM done_at) FROM webhook_events"
        " WHERE received_at BETWEEN to_timestamp(:begin) AND to_timestamp(:end) ORDER BY received_at"
    )
    with house.engine.connect() as connection:
        rows = connection.execute(query, {"begin": begin, "end": end})
        return [(float(came), float(done)) for came, done in rows]


def evaluated(house: House) -> set[str]:
    return house.digests(outcome="reconciled")


def tell_trials(proof: Proof, calls: list[Call], away_at: float, back_at: float, circuit: tuple[float, float]) -> None:
    """What the platform was asked while it was away."""
    wait, at, most = circuit[0], 0.0, 0
    while at < back_at - away_at:
        most, at, wait = most + 1, at + 0.8 * wait, min(2 * wait, circuit[1])
    known = KNOWN_SECONDS + circuit[0]
    first = sum(away_at <= call.at < away_at + known for call in calls)
    trials = sum(away_at + known <= call.at < back_at for call in calls)
    proof.figure(f"requests in the first {known:g} s without the platform", first)
    proof.figure(f"requests in the {back_at - away_at - known:.0f} s after them", trials, f"≤ {most}, those that try")
    assert trials <= most


def tell_order(proof: Proof, calls: list[Call], events: list[tuple[float, float]], closed_at: float) -> None:
    """Who came when, after the platform was back: money first, then the oldest and the newest alike."""
    delays = [done - closed_at for _, done in events]
    quarter, half = len(delays) // 4, median(delays)
    oldest, newest = median(delays[:quarter]), median(delays[-quarter:])
    # One that was itself the request that tried, in vain, is looked for before it is sent again.
    tried = {call.payment_id for call in calls if call.moves_money and call.at < closed_at}
    sent = {call.payment_id: call.at - closed_at for call in calls if call.moves_money and call.at >= closed_at}
    last = max(seconds for payment_id, seconds in sent.items() if payment_id not in tried)
    proof.figure("requests to move money that waited for it / that had tried in vain", f"{len(sent)} / {len(tried)}")
    said = f"≤ {SENT_SECONDS:g}, and < {half:.1f}, half the looks"
    proof.figure("seconds from then until the last that waited is sent", f"{last:.1f}", said)
    told = f"{oldest:.1f} / {newest:.1f}"
    said = "no more than a quarter apart"
    proof.figure("median seconds until an event is done, oldest / newest quarter of them", told, said)
    assert last <= SENT_SECONDS
    assert last < half
    assert abs(oldest - newest) <= max(0.25 * max(oldest, newest), SPREAD_SECONDS)  # each comes back some time in that


def tell_budget(proof: Proof, moments: list[float], budget: float) -> None:
    """That no window of any length had more than its rate and one burst."""
    burst = checks.over_rate([(at, 1) for at in moments], budget)
    allowed = budget * (BURST_SECONDS + LATE_SECONDS)
    proof.figure("the most requests in any second afterwards", checks.fullest(moments, 1.0), f"≤ {budget + allowed:g}")
    said = f"≤ {allowed:g} (what is unused of {BURST_SECONDS:g} s, and comes {LATE_SECONDS:g} s late)"
    proof.figure("the most that a window of any length has beyond its rate", f"{burst:.0f}", said)
    assert burst <= allowed


def tell_lines(proof: Proof, house: House, promised: Mapping[str, int]) -> None:
    """How often a thing was said, by all processes together."""
    said = Counter(line["event"] for line in lines_of(house))
    for name, times in promised.items():
        proof.figure(f"lines `{name}` of all processes", said[name], times)
    assert {name: said[name] for name in promised} == promised


def lines_of(house: House) -> list[dict[str, Any]]:
    """The log of all of payhook's processes."""
    lines = [line for log in house.logs() for line in log.read_text(errors="replace").splitlines()]
    return [json.loads(line) for line in lines if line.startswith("{")]


RATE = 24


@pytest.mark.timeout(900)
@pytest.mark.proof("G8", small=False)
def test_a_merchant_that_is_refused_slows_no_other(
    start: Start, postgres_url: str, rabbitmq_url: str, tmp_path: Path, proof: Proof
) -> None:
    """403 for one merchant of two, which both have events: the other's p99 from receipt to reconciled stays within 10 %
    of what it is when both are well (made small: p90 is not doubled); one alarm each time, few requests in vain, and
    payments that say why they wait; with the refusal over all are in line."""
    turns, seconds, share, bound = proof.size((1, 5, 90, 2.0), (6, 20, 99, 1.1))
    port = free_port()
    merchants = tmp_path / "merchants.toml"
    merchants.write_text(MERCHANTS.format(endpoint=f"http://127.0.0.1:{port}"))
    none = dict.fromkeys(("PAYHOOK_MERCHANT_ID", "PAYHOOK_API_KEY_ID", "PAYHOOK_API_SECRET"), "")
    house = House(start, postgres_url, rabbitmq_url, more={**none, "PAYHOOK_MERCHANTS_FILE": str(merchants)})
    well: list[float] = []
    refused: list[float] = []
    in_vain: list[int] = []
    waits: Counter[str] = Counter()
    with PlatformProxy(port, house.sandbox.url) as proxy:
        house.sandbox.add_merchant(OTHER, OTHERS_KEY, OTHERS_SECRET)
        house.sandbox.settings(latency_seconds=LATENCY_SECONDS)
        house.serve()
        house.work()
        delays_of_both(house, 1, share)  # everything is warm
        for _ in range(turns):
            well.append(delays_of_both(house, seconds, share))
            assert wait_for(lambda: house.settled(0), 30)
            house.sandbox.add_merchant(OTHER, OTHERS_KEY, "rotated in the portal")
            began = time.time()
            refused.append(delays_of_both(house, seconds, share))
            in_vain.append(sum(call.merchant_id == OTHER and call.at >= began for call in proxy.calls))
            waits += problems_of(house)
            house.sandbox.add_merchant(OTHER, OTHERS_KEY, OTHERS_SECRET)
            assert wait_for(lambda: house.settled(0), 90)

    usual, slowed = median(well), median(refused)
    proof.injected("turns in which one merchant is refused", turns, proof.size(1, 6))
    proof.figure("events of each merchant in each turn", RATE * seconds)
    proof.figure(f"p{share} with both well, median of the turns, seconds", f"{usual:.3f}")
    said = f"< {usual * bound:.3f} (+ {bound - 1:.0%})"
    proof.figure(f"p{share} of one with the other refused, the same", f"{slowed:.3f}", said)
    few = RATE * seconds // 4
    proof.figure("requests for the refused merchant, most in a turn", max(in_vain), f"≤ {few}, a quarter of its events")
    proof.figure("what its payments say", "; ".join(sorted(waits)))
    tell_lines(proof, house, {"circuit.opened": turns, "circuit.closed": turns})
    assert slowed < usual * bound
    assert max(in_vain) <= few
    assert waits
    assert all("403" in problem for problem in waits)
    assert house.differences() == []


def delays_of_both(house: House, seconds: int, share: float) -> float:
    """Send events of both merchants; a quantile of the seconds until reconciled for the one that is well."""
    both = [
        house.sandbox.create_payments(RATE * seconds, webhooks=False, merchant_id=merchant_id)
        for merchant_id in ("sandbox", OTHER)
    ]
    bodies = [
        event(payment_id, merchantId=merchant_id)
        for pair in zip(*both, strict=True)
        for payment_id, merchant_id in zip(pair, ("sandbox", OTHER), strict=True)
    ]
    canonical = ", ".join(f"'{payment_id.split('_')[0]}'" for payment_id in both[0])
    these = f"payment_id IN ({canonical}) AND outcome = 'reconciled'"
    report = load.run(house.webhook_url, bodies, 2 * RATE, seconds, KEY_ID, SECRET)
    done = wait_for(lambda: len(house.seconds_to_done(these)) == len(both[0]), 30)

    assert report.by_status == {"204": len(bodies)}
    assert done
    return checks.quantile(house.seconds_to_done(these), share)


def problems_of(house: House) -> Counter[str]:
    """Why payments of the merchant that is refused wait, and how many."""
    query = "SELECT problem FROM payments WHERE merchant_id = :other AND wanted > applied AND claim_token IS NULL"
    with house.engine.connect() as connection:
        rows = connection.execute(text(query), {"other": OTHER}).scalars()
        return Counter(problem for problem in rows if problem)


@pytest.mark.timeout(300)
@pytest.mark.proof("G6", small=False)
def test_a_platform_that_asks_for_fewer_requests_gets_fewer(
    start: Start, postgres_url: str, request: pytest.FixtureRequest, proof: Proof
) -> None:
    """Some 429s together halve the budget once; what is asked afterwards keeps to half of it; no circuit opens, and
    everything is looked at all the same."""
    payments, budget, refusals = proof.size((40, 40, 4), (400, 100, 12))
    broker = request.getfixturevalue(proof.size("redis_url", "rabbitmq_url"))
    port = free_port()
    settings = {"PAYHOOK_API_ENDPOINT": f"http://127.0.0.1:{port}", "PAYHOOK_BUDGET_PER_SECOND": str(budget)}
    house, app = House(start, postgres_url, broker, more=settings), Celery(broker=broker)
    looked_at = "SELECT count(*) FROM payments WHERE refreshed_at IS NOT NULL"
    with PlatformProxy(port, house.sandbox.url) as proxy:
        house.work()
        payment_ids = house.sandbox.create_payments(payments, webhooks=False)
        house.sandbox.fail(like="too_many_requests", times=refusals)
        for payment_id in payment_ids:
            app.send_task("payhook.reconcile", kwargs={"payment_id": payment_id}, queue="payhook.events")
        known = wait_for(lambda: house.scalar(looked_at) == payments, 120)
        calls = [call.at for call in proxy.calls]
        (rule,) = house.sandbox.faults()

    proof.injected("429s", rule["applied"], refusals)
    rate = budget * SHARES[Lane.LOOKS] / 2
    took = calls[-1] - calls[0]
    # What had been taken at the old pace, in the burst at the beginning, comes at that pace.
    least = (len(calls) - 2 * rate * BURST_SECONDS) / rate * 0.7
    proof.figure(
        f"seconds for {len(calls)} requests", f"{took:.1f}", f"≥ {least:.1f}, at {rate:g} a second after a burst"
    )
    tell_lines(proof, house, {"budget.halved": 1, "circuit.opened": 0})
    assert known
    assert took >= least
    assert house.differences() == []
