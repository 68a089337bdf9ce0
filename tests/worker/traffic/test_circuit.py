"""The circuit of a merchant: what opens it, who may try, how long it stays open, and that everybody learns of it."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Row, select, update
from structlog.testing import capture_logs

from tests.worker.conftest import settings_of
from worker.database import Database, now, seconds_from_now
from worker.gateways.gateway import CredentialsRefused, GatewayError, OutcomeUnknown, PaymentUnknown, SlowDown, TryAgain
from worker.models import CIRCUIT_FACT, Fact
from worker.traffic import LEAST_SECONDS, NOW, SPREAD_SECONDS, Traffic, circuit
from worker.traffic.circuit import Circuits

MERCHANT, FACT = "acme", f"{CIRCUIT_FACT}acme"

WAITS = (2.0, 30.0)

AWAY, REFUSED = TryAgain("no answer: ConnectTimeout"), CredentialsRefused("refused", http_status=403)


@pytest.fixture(autouse=True)
def _learnt_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every process asks every time what others have done: tests do not wait a second for it."""
    monkeypatch.setattr(circuit, "KNOWN_SECONDS", 0.0)


def fact_of(database: Database) -> Row[Any] | None:
    with database.reading() as connection:
        return connection.execute(
            select(Fact.value, Fact.due_at, now().label("at")).where(Fact.name == FACT)
        ).one_or_none()


def opened(database: Database, error: GatewayError = AWAY) -> Circuits:
    """A process that has found the platform to be away."""
    process = Circuits(database, WAITS)
    for payment in range(5):
        process.failed(MERCHANT, payment, error)
    return process


def pass_time(database: Database) -> None:
    """As if the open circuit's wait were over."""
    with database.transaction() as connection:
        connection.execute(update(Fact).where(Fact.name == FACT).values(due_at=seconds_from_now(-1.0)))


def test_five_payments_in_a_row_without_an_answer_open_it(database: Database) -> None:
    """The fifth does, and says so once; the merchant is not asked for about two seconds, others are."""
    process = Circuits(database, WAITS)

    with capture_logs() as logs:
        for payment in range(4):
            process.failed(MERCHANT, payment, AWAY)
        still_closed = process.shut(MERCHANT)
        process.failed(MERCHANT, 4, OutcomeUnknown("no answer: ReadTimeout"))
    shut = process.shut(MERCHANT)

    assert still_closed is None
    assert shut is not None
    assert shut.why == "no answer: ReadTimeout"
    assert 1.0 < shut.seconds <= 2.0
    assert process.shut("globex") is None
    assert [(line["event"], line["merchant_id"]) for line in logs] == [("circuit.opened", MERCHANT)]


def test_one_payment_that_always_fails_opens_none(database: Database) -> None:
    """That is its own trouble, a hundred times over; for credentials too."""
    process = Circuits(database, WAITS)

    for number in range(100):
        process.failed(MERCHANT, 1, REFUSED if number % 2 else AWAY)

    assert process.shut(MERCHANT) is None
    assert fact_of(database) is None


def test_an_answer_in_between_begins_the_count_anew(database: Database) -> None:
    """Four of five, again and again, are not five in a row."""
    process = Circuits(database, WAITS)

    for number in range(40):
        process.failed(MERCHANT, number, AWAY)
        if number % 4 == 3:
            process.answered(MERCHANT)

    assert process.shut(MERCHANT) is None


def test_two_payments_refused_for_who_we_are_open_it(database: Database) -> None:
    """A wrong key is wrong for every payment of the merchant."""
    process = Circuits(database, WAITS)
    process.failed(MERCHANT, 1, REFUSED)
    after_one = process.shut(MERCHANT)

    process.failed(MERCHANT, 2, REFUSED)

    assert after_one is None
    assert process.shut(MERCHANT) is not None


def test_many_processes_that_find_out_at_once_open_it_once(database: Database) -> None:
    """One line, not one for each process and thread; and the wait is the first."""
    processes = [Circuits(database, WAITS) for _ in range(4)]

    def fail(worker: int) -> None:
        for payment in range(10):
            processes[worker % 4].failed(MERCHANT, 100 * worker + payment, AWAY)

    with capture_logs() as logs, ThreadPoolExecutor(8) as pool:
        list(pool.map(fail, range(8)))

    fact = fact_of(database)
    assert fact is not None
    assert fact.value["wait"] == 2.0
    assert [line["event"] for line in logs] == ["circuit.opened"]
    assert all(process.shut(MERCHANT) for process in processes)


def test_one_at_a_time_may_try(database: Database) -> None:
    """When the wait is over, one caller of all threads and processes is let through; the next only when that trial has
    taken too long."""
    processes = [opened(database), *(Circuits(database, WAITS) for _ in range(3))]
    pass_time(database)

    def let_through(worker: int) -> bool:
        return processes[worker % 4].shut(MERCHANT) is None

    with ThreadPoolExecutor(8) as pool:
        first = list(pool.map(let_through, range(40)))
        pass_time(database)  # that of the trial
        second = list(pool.map(let_through, range(40)))

    assert (first.count(True), second.count(True)) == (1, 1)


def test_during_a_trial_operations_ask_again_soon(database: Database) -> None:
    """It may be over in a moment, and they are few; looks wait longer, for they are many, and not for all its time."""
    opened(database)
    pass_time(database)
    traffic, other = Traffic(database, settings_of()), Traffic(database, settings_of())
    assert traffic.turn(MERCHANT, 1, for_operation=lambda: False) == NOW

    other.refresh()
    waits = other.shut(MERCHANT), other.operation_turn(MERCHANT, within=10)
    look = other.turn(MERCHANT, 1, for_operation=lambda: False)

    assert all(turn is not None and turn.why and 0 < turn.seconds <= circuit.TRIAL_WAIT_SECONDS for turn in waits)
    assert look.why
    assert 0 <= look.seconds - circuit.MANY_WAIT_SECONDS <= SPREAD_SECONDS


def test_no_slot_is_needed_to_try(database: Database) -> None:
    """Put back for its turn, the look would leave the trial untried for all of its time."""
    opened(database)
    pass_time(database)
    traffic = Traffic(database, settings_of(budget_per_second=0.1))
    traffic.refresh()

    assert traffic.turn(MERCHANT, 400, for_operation=lambda: False) == NOW


def test_an_operation_tries_nothing(database: Database) -> None:
    """Sent in vain, it would be in doubt for nothing: it waits for a look, which may try from now on."""
    opened(database)
    pass_time(database)
    traffic = Traffic(database, settings_of())
    traffic.refresh()

    waits = traffic.operation_turn(MERCHANT, within=10)

    assert (waits.seconds, bool(waits.why)) == (LEAST_SECONDS, True)
    assert traffic.may_be_tried(MERCHANT)
    assert traffic.turn(MERCHANT, 1, for_operation=lambda: True) == NOW


def test_each_trial_in_vain_doubles_the_wait_up_to_the_longest(database: Database) -> None:
    """2, 4, 8, 16, 30, 30 s, each up to a fifth less; since when and why stay known; nothing more is said."""
    process = opened(database)
    began, waits = fact_of(database), []

    with capture_logs() as logs:
        for payment in range(6):
            fact = fact_of(database)
            assert began is not None
            assert fact is not None
            waits.append(fact.value["wait"])
            assert 0.75 * waits[-1] < (fact.due_at - fact.at).total_seconds() <= waits[-1]
            assert datetime.fromisoformat(fact.value["since"]) == datetime.fromisoformat(began.value["since"])
            pass_time(database)
            assert process.shut(MERCHANT) is None
            process.failed(MERCHANT, payment, TryAgain("still no answer"))

    assert waits == [2, 4, 8, 16, 30, 30]
    assert logs == []


def test_the_first_answer_closes_it_for_all(database: Database) -> None:
    """Whoever had it; it is said once, and the next outage begins with the shortest wait."""
    process, other = opened(database), Circuits(database, WAITS)
    pass_time(database)
    assert other.shut(MERCHANT) is None

    with capture_logs() as logs:
        other.answered(MERCHANT)
        other.answered(MERCHANT)
    asked = process.shut(MERCHANT), other.shut(MERCHANT)
    opened(database)

    fact = fact_of(database)
    assert asked == (None, None)
    assert [line["event"] for line in logs] == ["circuit.closed"]
    assert fact is not None
    assert fact.value["wait"] == 2.0


def test_what_was_under_way_when_it_opened_changes_nothing(database: Database) -> None:
    """Sixteen threads' requests fail after it has opened: the wait is neither longer nor begun anew."""
    process, before = opened(database), fact_of(database)

    for payment in range(100, 116):
        process.failed(MERCHANT, payment, AWAY)
        Circuits(database, WAITS).failed(MERCHANT, payment, AWAY)

    after = fact_of(database)
    assert before is not None
    assert after is not None
    assert (after.value, after.due_at) == (before.value, before.due_at)


def test_what_opens_it_is_no_answer(database: Database) -> None:
    """A no, a payment that is unknown and a 429 are answers; a time-out, a 5xx and a refusal of who we are are not."""
    answers: list[GatewayError | None] = [
        None,
        PaymentUnknown("404", http_status=404),
        SlowDown("429", http_status=429),
    ]
    in_vain = [AWAY, OutcomeUnknown("502", http_status=502), REFUSED]

    assert [_opens(database, error) for error in answers] == [False] * 3
    assert [_opens(database, error) for error in in_vain] == [True] * 3


def _opens(database: Database, error: GatewayError | None) -> bool:
    merchant_id = f"merchant-{time.monotonic_ns()}"
    traffic = Traffic(database, settings_of())
    for payment in range(5):
        traffic.made(merchant_id, payment, error)
    return traffic.turn(merchant_id, 1, for_operation=lambda: False).why is not None


def test_without_the_database_everybody_is_let_through(nowhere: Database) -> None:
    """It is a courtesy to the platform: what is seen cannot be written down either, and breaks nothing."""
    traffic = Traffic(nowhere, settings_of(budget_per_second=1.0))

    for payment in range(10):
        traffic.made("acme", payment, AWAY)
        traffic.made("acme", payment, SlowDown("429", http_status=429))
    turns = {traffic.turn("acme", 4, for_operation=lambda: False) for _ in range(3)}

    assert turns == {NOW}
    assert traffic.operation_turn("acme", within=10) == NOW


def test_a_fault_of_ours_says_nothing_of_the_platform(database: Database) -> None:
    """It neither counts against it nor for it: four failures before it and one after are five in a row."""
    traffic = Traffic(database, settings_of())

    for payment in range(4):
        ask(traffic, payment, AWAY)
    ask(traffic, 4, ZeroDivisionError())
    after_four = traffic.turn(MERCHANT, 1, for_operation=lambda: False)
    ask(traffic, 5, AWAY)

    assert after_four.why is None
    assert traffic.turn(MERCHANT, 1, for_operation=lambda: False).why is not None


def ask(traffic: Traffic, payment: int, error: Exception) -> None:
    with suppress(type(error)), traffic.asking(MERCHANT, payment):
        raise error
