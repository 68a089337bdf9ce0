"""The budget of a merchant's requests: shared by threads and processes, kept in every window, slower when asked."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select, update
from structlog.testing import capture_logs

from tests.proof.checks import over_rate
from worker.database import Database
from worker.models import BUDGET_FACT, Fact
from worker.traffic import budget
from worker.traffic.budget import BURST_SECONDS, LEAST_SHARE, SHARES, Budget, Lane

MERCHANT, FACT = "acme", f"{BUDGET_FACT}acme"

#: One read of the clock for the slot and another here, with a busy machine in between.
CLOCK_SECONDS = 0.05


def moment_of(slots: Budget, lane: Lane, calls: int) -> tuple[float, int]:
    """When so many requests may be made, by the monotonic clock, and how many."""
    seconds = slots.reserve(MERCHANT, lane, calls)
    return time.monotonic() + seconds, calls


def value_of(database: Database) -> dict[str, Any]:
    with database.reading() as connection:
        return dict(connection.execute(select(Fact.value).where(Fact.name == FACT)).scalar_one())


def pass_seconds(database: Database, seconds: float) -> None:
    """As if the last 429 had come so long ago."""
    value = value_of(database)
    value["slowed_at"] -= seconds
    with database.transaction() as connection:
        connection.execute(update(Fact).where(Fact.name == FACT).values(value=value))


def pace_of(slots: Budget, lane: Lane = Lane.LOOKS) -> float:
    """Slots a second, by the distance of some that lie ahead; the first of them may be of the block before."""
    while slots.reserve(MERCHANT, lane, 1) == 0:
        continue
    slots.reserve(MERCHANT, lane, 500)
    first, _ = moment_of(slots, lane, 100)
    second, _ = moment_of(slots, lane, 100)
    return 100 / (second - first)


def test_threads_and_processes_together_keep_it(database: Database) -> None:
    """Four processes of four threads each, looks of one to four requests: no window, short or long, has more than its
    rate and one burst; and what there is gets used."""
    rate, each = 200.0, 40
    processes = [Budget(database, rate) for _ in range(4)]

    def take(worker: int) -> list[tuple[float, int]]:
        return [moment_of(processes[worker % 4], Lane.LOOKS, 1 + (worker + turn) % 4) for turn in range(each)]

    began = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        moments = [moment for taken in pool.map(take, range(16)) for moment in taken]

    looks = rate * SHARES[Lane.LOOKS]
    calls = sum(calls for _, calls in moments)
    assert calls == 16 * each * 2.5
    assert over_rate(moments, looks) <= looks * (BURST_SECONDS + CLOCK_SECONDS) + 4 * len(processes)
    assert max(at for at, _ in moments) - began <= (calls / looks - BURST_SECONDS) * 1.25 + 1.0


def test_operations_have_a_lane_of_their_own(database: Database) -> None:
    """However far ahead the looks have taken slots, an operation's is now; both together keep the budget."""
    slots = Budget(database, 100.0)
    looks = [moment_of(slots, Lane.LOOKS, 4) for _ in range(200)]

    first = slots.reserve(MERCHANT, Lane.OPERATIONS, 1)
    both = looks + [moment_of(slots, Lane.OPERATIONS, 1) for _ in range(200)]

    assert first == 0
    assert max(at for at, _ in looks) > time.monotonic() + 5
    assert over_rate(both, 100.0) <= 100.0 * (BURST_SECONDS + CLOCK_SECONDS) + 5


def test_merchants_have_budgets_of_their_own(database: Database) -> None:
    """One merchant's looks cost another nothing."""
    slots = Budget(database, 10.0)
    slots.reserve(MERCHANT, Lane.LOOKS, 500)

    assert slots.reserve(MERCHANT, Lane.LOOKS, 1) > 10
    assert slots.reserve("globex", Lane.LOOKS, 1) == 0


def test_what_was_not_needed_is_used_again(database: Database) -> None:
    """A slot that is given back is the next one's; one taken afterwards puts the next off."""
    slots = Budget(database, 10.0)
    slots.reserve(MERCHANT, Lane.LOOKS, 50)
    one, _ = moment_of(slots, Lane.LOOKS, 1)

    slots.settle(MERCHANT, Lane.LOOKS, -1)
    again, _ = moment_of(slots, Lane.LOOKS, 1)
    slots.settle(MERCHANT, Lane.LOOKS, 3)
    after_three_more, _ = moment_of(slots, Lane.LOOKS, 1)

    assert again == pytest.approx(one, abs=CLOCK_SECONDS)
    assert after_three_more == pytest.approx(one + 4 / 8, abs=CLOCK_SECONDS)


def test_a_turn_that_nobody_waits_for_is_nobodys(database: Database) -> None:
    """Whoever gives up on a turn that is too far ahead, again and again, puts no other's off."""
    slots = Budget(database, 10.0)
    slots.reserve(MERCHANT, Lane.OPERATIONS, 25)
    began = time.monotonic()

    given_up = [slots.reserve(MERCHANT, Lane.OPERATIONS, 1, within=5.0) for _ in range(50)]
    taken = slots.reserve(MERCHANT, Lane.OPERATIONS, 1, within=20.0)

    assert min(given_up) > 5.0
    assert taken == pytest.approx(given_up[0] - (time.monotonic() - began), abs=CLOCK_SECONDS)


def test_inside_a_transaction_nobody_waits_for_who_takes_slots(sqlite: Database) -> None:
    """He waits for SQLite, which the transaction has locked: each would wait for the other until one gives up."""
    slots = Budget(sqlite, 10.0)
    with ThreadPoolExecutor(1) as pool:
        with sqlite.transaction():
            taking = pool.submit(slots.reserve, MERCHANT, Lane.OPERATIONS, 1)
            time.sleep(0.2)
            began = time.monotonic()
            slots.seconds_ahead(MERCHANT, Lane.OPERATIONS)
            took = time.monotonic() - began

        assert taking.result(10) == 0
    assert took < 1


def test_a_pause_is_no_debt(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has asked for nothing for a while waits for nothing, whatever had been overdrawn then."""
    monkeypatch.setattr(budget, "BURST_SECONDS", 0.1)
    slots = Budget(database, 100.0)
    slots.reserve(MERCHANT, Lane.LOOKS, 1)
    slots.settle(MERCHANT, Lane.LOOKS, 3)

    time.sleep(0.5)

    assert slots.reserve(MERCHANT, Lane.LOOKS, 1) == 0


def test_a_429_halves_it_once_for_all_that_were_under_way(database: Database) -> None:
    """Eight requests in two processes are refused together: one halving, one line; held slots are let go of."""
    processes = [Budget(database, 1000.0) for _ in range(2)]
    before = pace_of(processes[0])

    with capture_logs() as logs, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: processes[number % 2].slow_down(MERCHANT), range(8)))

    halved = [line for line in logs if line["event"] == "budget.halved"]
    assert [(line["merchant_id"], line["share"]) for line in halved] == [(MERCHANT, 0.5)]
    assert before == pytest.approx(800, rel=0.2)
    assert pace_of(processes[0]) == pytest.approx(400, rel=0.2)


def test_each_further_429_halves_it_again_down_to_the_least(database: Database) -> None:
    """A platform that goes on refusing is asked a sixty-fourth of what it was, and no less."""
    slots, shares = Budget(database, 100.0), []
    for _ in range(8):
        slots.slow_down(MERCHANT)
        shares.append(value_of(database)["factor"])
        pass_seconds(database, 2.1)

    assert shares == pytest.approx([max(0.5**times, LEAST_SHARE) for times in range(1, 9)], rel=0.25)


def test_each_minute_without_one_doubles_it(database: Database) -> None:
    """Two halvings are made up for in two minutes; it never becomes more than it was."""
    slots, paces = Budget(database, 1000.0), []
    slots.slow_down(MERCHANT)
    pass_seconds(database, 2.5)
    slots.slow_down(MERCHANT)
    for _ in range(4):
        paces.append(pace_of(Budget(database, 1000.0)))
        pass_seconds(database, 60.0)

    assert paces == pytest.approx([205, 410, 800, 800], rel=0.2)


def test_without_the_database_nothing_is_held_up(nowhere: Database) -> None:
    """There is nothing to share, and no promise rests on it."""
    slots = Budget(nowhere, 1.0)

    assert {slots.reserve(MERCHANT, lane, 100) for lane in Lane for _ in range(3)} == {0.0}
