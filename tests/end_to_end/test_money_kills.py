"""The platform kills whoever asks it to move money, at the moments that matter; the money moves once all the same."""

import re
from collections import Counter

import pytest

from tests.end_to_end.conftest import Start
from tests.end_to_end.house import House
from tests.end_to_end.sampler import Sampler
from tests.end_to_end.shop import Shop
from tests.proof import money
from tests.proof.checks import quantile
from tests.proof.fixtures import Proof
from tests.servers.process_tree import wait_for

#: So that what a SIGKILL orphaned is taken up again while the test waits; and few threads in a process, for each kill
#: takes all of them.
SETTINGS = {
    "PAYHOOK_LEASE_SECONDS": "4",
    "PAYHOOK_CLAIM_SECONDS": "3",
    "PAYHOOK_CALL_SECONDS": "2",
    "PAYHOOK_PLATFORM_THREADS": "2",
}
CALLS = ("capture_payment", "refund_payment", "cancel_payment")
MOMENTS = ("before_effect", "after_effect", "mid_answer")
WORKERS, CHILDREN = ("work-1", "work-2"), 4

#: Of one round: how many payments and sales there are, and how many calls of each kind are killed at each moment. A
#: larger proof has more rounds: what is measured is not how long a backlog takes.
PAYMENTS, TIMES = 20, 7

ENDED = "SELECT count(*) FROM operations WHERE state IN ('succeeded', 'refused', 'withdrawn', 'review')"

#: What an operation's orphaned attempt has come to, and when.
RECOVERIES = """
SELECT extract(epoch FROM min(journal.at) - killed.at)
FROM (
    SELECT operation_key, max(started_at) AS at FROM attempts WHERE finished_at IS NULL GROUP BY operation_key
) AS killed
JOIN journal ON subject = 'operation' AND subject_id = CAST(killed.operation_key AS text)
    AND to_state IN ('accepted', 'succeeded', 'refused', 'review') AND journal.at >= killed.at
GROUP BY killed.operation_key, killed.at
"""


@pytest.mark.timeout(1500)
@pytest.mark.proof("G2", "G3", "G4", "G5", alone=False)  # its bounds are minutes
def test_whoever_is_killed_while_it_moves_money_moves_it_once(
    start: Start, postgres_url: str, rabbitmq_url: str, proof: Proof
) -> None:
    """The sandbox SIGKILLs the process that calls it, exactly before the effect, exactly after it and half-way
    through its answer, of captures, refunds and cancellations: each is done once or not at all, each ends, the record
    says what the platform says, and at no moment is more promised than there is."""
    rounds, kills = proof.size((1, 40), (7, 300))
    house = House(start, postgres_url, rabbitmq_url, more=SETTINGS)
    house.serve()
    for name in WORKERS:
        house.work(name, concurrency=CHILDREN)
    house.sandbox.settings(webhooks={"urls": [house.webhook_url]}, retry_seconds=[0.5, 1, 2, 4], seed=proof.seed)
    applied: Counter[str] = Counter()
    asked, ended, shop = 0, True, Shop(rabbitmq_url)

    with Sampler(house.engine) as sampler:
        for _ in range(rounds):
            put_kills_in_force(house)
            asked += ask_for_money(house, shop)
            ended = ended and wait_for(lambda wanted=asked: house.scalar(ENDED) == wanted, 240)  # type: ignore[misc]
            for rule in house.sandbox.faults():
                applied[f"{rule['fault']['kill']}, {rule['fault']['call']}".replace("_", " ")] += rule["applied"]
        in_line = wait_for(lambda: house.differences() == [], 30)
    house.leave()

    judge_kills(proof, house, applied, rounds, kills)
    judge_money(proof, house, sampler, asked)
    assert ended
    assert in_line, house.differences()


def put_kills_in_force(house: House) -> None:
    """Of each kind so many, and no more of those before."""
    house.sandbox.mend()
    for moment in MOMENTS:
        for call in CALLS:
            house.sandbox.fail(f"kill_{moment}", call=call, share=0.5, times=TIMES)


def ask_for_money(house: House, shop: Shop) -> int:
    """Two captures and two cancellations of each payment, two refunds of each sale; of some of them one too many, of
    others each asked for twice. How many operations that makes."""
    asked = 0
    sales = house.sandbox.create_payments(PAYMENTS, sale=True, webhooks=False)
    authorised = house.sandbox.create_payments(PAYMENTS, webhooks=False)
    for number, (open_id, sale_id) in enumerate(zip(authorised, sales, strict=True)):
        wishes = [
            ("capture", open_id, "c1", 300),
            ("refund", sale_id, "r1", 400),
            ("capture", open_id, "c2", 200),
            ("refund", sale_id, "r2", 600),
            ("cancel", open_id, "x1", 400),
            ("cancel", open_id, "x2", 100),
        ]
        if number % 4 == 0:
            wishes += [("capture", open_id, "c3", 501), ("refund", sale_id, "r3", 401)]
        for kind, payment_id, name, amount in wishes:
            for _ in range(2 if number % 4 == 1 else 1):
                shop.ask(kind, payment_id, f"{payment_id}:{name}", amount=amount)
        asked += len(wishes)
    return asked


def judge_kills(proof: Proof, house: House, applied: Counter[str], rounds: int, kills: int) -> None:
    """The run did inject what it says: by the sandbox's word, and by that of those who lost their children."""
    for moment in MOMENTS:
        for call in CALLS:
            what = f"{moment}, {call}".replace("_", " ")
            proof.injected(f"SIGKILL {what}", applied[what], TIMES * rounds)
    # Of two calls of one process that are to be its last, one is; so not every rule applied is a process killed.
    deaths = sum(len(re.findall("exited with 'signal 9", house.processes[name].log.read_text())) for name in WORKERS)
    proof.injected("processes killed while they moved money", deaths, kills)


def judge_money(proof: Proof, house: House, sampler: Sampler, asked: int) -> None:
    """G2 to G5, on the record and on the platform's ledger."""
    operations, ledger = house.operations(), house.sandbox.ledger()
    states = {state: sum(one["state"] == state for one in operations) for state in sorted(money.ENDS)}
    twice, unended = money.moved_twice(operations, ledger), money.unended(operations)
    untrue, overspent = money.untrue(operations, ledger), money.overspent(ledger)
    with house.engine.connect() as connection:
        took = [float(one) for one in connection.exec_driver_sql(RECOVERIES).scalars()]
    proof.figure("operations", f"{len(operations)}: {states}", asked)
    proof.figure("G2: moved twice", len(twice), 0)
    proof.figure("G3: without an end or a reason", len(unended), 0)
    proof.figure("G4: records that are untrue", len(untrue), 0)
    proof.figure("G5: payments overspent on the platform's ledger", len(overspent), 0)
    proof.figure(f"G5: overspent in {sampler.samples} samples of the record", len(sampler.found), 0)
    proof.figure("operations whose caller was killed", len(took))
    quantiles = " / ".join(f"{quantile(took, share):.1f}" for share in (50, 99, 100))
    proof.figure("seconds from such a call until its end is known, p50 / p99 / longest", quantiles)
    proof.figure("the same, how many took so many seconds", money.histogram(took, (2, 5, 10, 15, 20, 30, 60)))
    assert (twice, unended, untrue, overspent, sampler.found) == ([], [], [], [], [])
    assert None not in {one["reason"] for one in operations}
    assert set(money.effects(ledger)) - {one["operation_uuid"] for one in operations} <= {None}
    assert states["review"] == states["withdrawn"] == 0
    assert sampler.samples > 100
