"""Who may look at a payment: hints counted, claims counted, and what many threads at once make of both."""

import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from tests.worker.conftest import MERCHANT, Deliver, FakePlatform, Paper, deliver_to, settings_of, view_of
from worker.database import Database, now, seconds_from_now
from worker.gateways.gateway import Refused
from worker.models import Payment, WebhookEvent
from worker.reconciliation import EXHAUSTED, Follow, Reconciler
from worker.reconciliation.claims import (
    MOST_CLAIMS,
    Busy,
    Claim,
    claim_for_event,
    claim_payment,
    free_every_claim,
    raise_hint,
)
from worker.settings import Settings

OURS = frozenset([MERCHANT])


def claim(database: Database, event_key: int, settings: Settings) -> Claim | Busy | None:
    with database.transaction() as connection:
        return claim_for_event(connection, event_key, OURS, settings)


def test_a_claim_is_written_before_anybody_looks(
    database: Database, deliver: Deliver, paper: Paper, settings: Settings
) -> None:
    """The lease, the token and the count are committed, and the noted events wait for the lease's end."""
    first, second = deliver("3254564310")[0], deliver("3254564310")[0]
    (stranger,) = deliver("1111111111")

    claimed = claim(database, second, settings)

    assert isinstance(claimed, Claim)
    payment = paper.payment("3254564310")
    assert (payment.claim_token, payment.claims, payment.wanted, payment.applied) == (claimed.token, 1, 1, 0)
    assert 45 < (paper.closed_for(payment) or 0) <= 60
    assert payment.due_at == payment.claimed_until
    assert sorted(claimed.event_keys) == [first, second]
    for event in map(paper.event, (first, second)):
        assert (event.claims, event.done_at) == (1, None)
        assert 45 < (paper.due_in(event) or 0) <= 60
    assert paper.event(stranger).claims == 0
    assert 0 < claimed.seconds_left(settings) <= settings.claim_seconds


def test_a_held_payment_counts_hints_and_is_not_claimed(
    database: Database, deliver: Deliver, paper: Paper, settings: Settings
) -> None:
    """Each event that the holder has not noted raises ``wanted``; the claim and its lease stay as they are."""
    held = claim(database, deliver("3254564310")[0], settings)
    before = paper.payment("3254564310")

    answers = [claim(database, deliver("3254564310")[0], settings) for _ in range(3)]

    payment = paper.payment("3254564310")
    assert isinstance(held, Claim)
    assert all(isinstance(answer, Busy) and answer.seconds is None and not answer.exhausted for answer in answers)
    assert payment.wanted == before.wanted + 3
    assert (payment.claim_token, payment.claims, payment.claimed_until) == (held.token, 1, before.claimed_until)
    assert payment.due_at == before.due_at


def test_a_ring_for_a_held_payment_does_nothing(
    database: Database, deliver: Deliver, paper: Paper, settings: Settings
) -> None:
    """The holder sees to it; a doubled ring is no hint."""
    claim(database, deliver("3254564310")[0], settings)
    before = paper.payments()

    with database.transaction() as connection:
        answer = claim_payment(connection, before[0].payment_key, settings)

    assert isinstance(answer, Busy)
    assert (answer.seconds, answer.exhausted) == (None, False)
    assert paper.payments() == before


def test_a_claim_whose_lease_has_ended_is_taken_over(
    database: Database, deliver: Deliver, paper: Paper, settings: Settings
) -> None:
    """Its events are noted again, and the count goes up: it tells of the process that died."""
    (event_key,) = deliver("3254564310")
    died = claim(database, event_key, settings)
    paper.open_the_gate()

    taken_over = claim(database, event_key, settings)

    assert isinstance(died, Claim)
    assert isinstance(taken_over, Claim)
    assert taken_over.token != died.token
    assert taken_over.event_keys == (event_key,)
    assert (paper.payment("3254564310").claims, paper.event(event_key).claims) == (2, 2)


def test_two_formats_of_a_payments_id_are_one_payment(
    reconciler: Reconciler, platform: FakePlatform, deliver: Deliver, paper: Paper
) -> None:
    """Whatever spelling the platform uses, one row is looked at."""
    for payment_id in ("3254564310", "9000003254564310000"):
        for event_key in deliver(payment_id):
            reconciler.event(event_key)
            paper.open_the_gate()

    assert [payment.payment_id for payment in paper.payments()] == ["3254564310"]
    assert {payment_id for payment_id, _ in platform.looks} == {"3254564310"}


def test_a_done_event_is_no_hint(reconciler: Reconciler, deliver: Deliver, paper: Paper) -> None:
    """A redelivered message for it leaves the count as it is."""
    (event_key,) = deliver("3254564310")
    reconciler.event(event_key)

    for _ in range(10):
        reconciler.event(event_key)

    assert paper.payment("3254564310").wanted == 1


# Claims that are never released


def test_a_payment_that_kills_its_workers_is_parked(
    database: Database,
    reconciler: Reconciler,
    platform: FakePlatform,
    deliver: Deliver,
    paper: Paper,
    settings: Settings,
) -> None:
    """Eight claims, none released: parked with the reason, its events quarantined, the others untouched."""
    (poison,), (healthy,) = deliver("3254564310"), deliver("1111111111")
    for died in range(1, MOST_CLAIMS + 1):
        assert isinstance(claim(database, poison, settings), Claim)
        assert paper.payment("3254564310").claims == died
        paper.open_the_gate()

    assert reconciler.event(poison) is None
    assert reconciler.event(healthy) is None

    payment, event = paper.payment("3254564310"), paper.event(poison)
    assert (payment.claim_token, payment.claimed_until, payment.due_at) == (None, None, None)
    assert (payment.problem, payment.wanted > payment.applied) == (EXHAUSTED, True)
    assert (event.outcome, event.due_at) == ("quarantined", None)
    assert EXHAUSTED in event.problem
    assert ("created", "created", f"parked: {EXHAUSTED}") in paper.journal()
    assert [payment_id for payment_id, _ in platform.looks] == ["1111111111"]
    assert paper.event(healthy).outcome == "reconciled"


def test_a_ring_for_the_payment_parks_it_too(
    database: Database, reconciler: Reconciler, deliver: Deliver, paper: Paper, settings: Settings
) -> None:
    """The sweep finds it by its lease's end."""
    (event_key,) = deliver("3254564310")
    for _ in range(MOST_CLAIMS):
        claim(database, event_key, settings)
        paper.open_the_gate()

    assert reconciler.payment(paper.payment("3254564310").payment_key) is None

    assert paper.payment("3254564310").problem == EXHAUSTED
    assert paper.event(event_key).outcome == "quarantined"


def test_the_eighth_claim_may_still_finish(
    database: Database, reconciler: Reconciler, deliver: Deliver, paper: Paper, settings: Settings
) -> None:
    """A finished look forgets the claims before it: only those never released count."""
    (event_key,) = deliver("3254564310")
    for _ in range(MOST_CLAIMS - 1):
        claim(database, event_key, settings)
        paper.open_the_gate()

    assert reconciler.event(event_key) is None

    payment = paper.payment("3254564310")
    assert (payment.claims, payment.state, payment.problem) == (0, "authorised", None)


@pytest.mark.parametrize("parked_by", ["claims", "refusal"])
def test_a_parked_payment_is_revived_when_somebody_asks(
    database: Database,
    reconciler: Reconciler,
    deliver: Deliver,
    paper: Paper,
    settings: Settings,
    parked_by: str,
) -> None:
    """A request forgets claims, failures and the park, and the payment is looked at again."""
    (event_key,) = deliver("3254564310")
    if parked_by == "claims":
        for _ in range(MOST_CLAIMS):
            claim(database, event_key, settings)
            paper.open_the_gate()
        reconciler.event(event_key)
    else:
        unwilling = FakePlatform()
        unwilling.errors.append(Refused("get_payment: HTTP 400"))
        Reconciler(database, {MERCHANT: unwilling}, settings).event(event_key)
    assert paper.payment("3254564310").due_at is None

    with database.transaction() as connection:
        payment_key = raise_hint(connection, MERCHANT, "3254564310", 2)

    payment = paper.payment("3254564310")
    assert (payment.claims, payment.failures, paper.due_in(payment) is not None) == (0, 0, True)
    paper.open_the_gate()
    assert reconciler.payment(payment_key) is None
    payment = paper.payment("3254564310")
    assert (payment.state, payment.problem, payment.wanted - payment.applied) == ("authorised", None, 0)


def test_a_request_does_not_take_a_claim_from_its_holder(
    database: Database, deliver: Deliver, paper: Paper, settings: Settings
) -> None:
    """It is one more hint: the holder's token, lease and count stay."""
    claim(database, deliver("3254564310")[0], settings)
    before = paper.payment("3254564310")

    with database.transaction() as connection:
        raise_hint(connection, MERCHANT, "3254564310", 2)

    payment = paper.payment("3254564310")
    assert payment.wanted == before.wanted + 1
    assert (payment.claim_token, payment.claimed_until, payment.claims, payment.due_at) == (
        before.claim_token,
        before.claimed_until,
        before.claims,
        before.due_at,
    )


def test_a_request_for_a_payment_whose_last_holder_died_is_looked_into(
    database: Database, reconciler: Reconciler, deliver: Deliver, paper: Paper, settings: Settings
) -> None:
    """Nobody has parked it yet, though its claims are used up: who asks now is not answered by the park."""
    (event_key,) = deliver("3254564310")
    for _ in range(MOST_CLAIMS):
        claim(database, event_key, settings)
        paper.open_the_gate()

    with database.transaction() as connection:
        payment_key = raise_hint(connection, MERCHANT, "3254564310", 2)

    assert reconciler.payment(payment_key) is None
    assert paper.payment("3254564310").state == "authorised"
    assert paper.open_events() == []


def test_the_only_worker_frees_every_claim_at_its_start(
    database: Database,
    reconciler: Reconciler,
    platform: FakePlatform,
    deliver: Deliver,
    paper: Paper,
    settings: Settings,
) -> None:
    """Whoever held them is dead: no lease is waited for, and the claims still count."""
    held = [deliver(payment_id)[0] for payment_id in ("1111111111", "2222222222")]
    for event_key in held:
        claim(database, event_key, settings)
    reconciler.event(deliver("3333333333")[0])
    idle = paper.payment("3333333333")

    with database.transaction() as connection:
        freed = free_every_claim(connection)

    assert freed == 2
    assert paper.payment("3333333333") == idle
    for payment_id in ("1111111111", "2222222222"):
        payment = paper.payment(payment_id)
        assert (payment.claim_token, payment.claimed_until, payment.claims) == (None, None, 1)
        assert (paper.due_in(payment) or 0) <= 0
        reconciler.payment(payment.payment_key)
    assert paper.open_events() == []
    assert len(platform.looks) == 3


# Many at once


class Workers:
    """Threads that carry out rings as the doorbell and the crew do, follow-ups at their times, until none is left.

    There is no sweep: what is left to it when nothing died was lost by somebody.
    """

    def __init__(self, reconciler: Reconciler, threads: int = 16) -> None:
        self._reconciler = reconciler
        self._rings: deque[tuple[Any, int]] = deque()
        self._later: dict[int, float] = {}
        self._busy = 0
        self._change = threading.Condition()
        self._threads = threads
        self.errors: list[BaseException] = []

    def ring(self, keys: list[int]) -> None:
        with self._change:
            self._rings.extend((self._reconciler.event, key) for key in keys)
            self._change.notify_all()

    def expect_more(self) -> None:
        """Nobody leaves for want of rings, until told that no more will come."""
        with self._change:
            self._busy += 1

    def expect_no_more(self) -> None:
        with self._change:
            self._busy -= 1
            self._change.notify_all()

    def run(self) -> None:
        threads = [threading.Thread(target=self._work) for _ in range(self._threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)

    def _work(self) -> None:
        while (job := self._next()) is not None:
            follow = None
            try:
                follow = job[0](job[1])
            except BaseException as error:
                self.errors.append(error)
            with self._change:
                if follow is not None:
                    at = time.monotonic() + follow.seconds
                    self._later[follow.payment_key] = min(at, self._later.get(follow.payment_key, at))
                self._busy -= 1
                self._change.notify_all()

    def _next(self) -> tuple[Any, int] | None:
        with self._change:
            while True:
                present = time.monotonic()
                for key in [key for key, at in self._later.items() if at <= present]:
                    del self._later[key]
                    self._rings.append((self._reconciler.payment, key))
                if self._rings:
                    self._busy += 1
                    return self._rings.popleft()
                if not self._busy and not self._later:
                    self._change.notify_all()
                    return None
                self._change.wait(min((at - present for at in self._later.values()), default=0.2))


def test_sixteen_threads_lose_no_event(database: Database, platform: FakePlatform) -> None:
    """200 payments with five events each, many of them rung twice: every event is done by the rings
    alone, none is left to the sweep, no payment costs more than two looks, and nothing deadlocks."""
    settings = settings_of(gap_seconds=1.0)
    reconciler, paper = Reconciler(database, {MERCHANT: platform}, settings), Paper(database)
    keys = _store_many(database, payments=200, events=5)
    platform.slow = 0.002
    workers = Workers(reconciler)
    workers.ring([key for number in range(5) for key in keys[number::5]])
    workers.ring(keys[::-3])

    workers.run()

    left_to_the_sweep = paper.open_events()
    assert workers.errors == []
    assert left_to_the_sweep == []
    assert all(payment.wanted == payment.applied for payment in paper.payments())
    assert all(payment.claim_token is None and payment.claims == 0 for payment in paper.payments())
    assert max(platform.looks_at(payment.payment_id) for payment in paper.payments()) <= 2
    assert platform.shortest_gap() >= settings.gap_seconds


def _store_many(database: Database, *, payments: int, events: int) -> list[int]:
    """One row per event, payment by payment, stored by one statement: what is tested here is not the storing."""
    rows = [
        {
            "body_sha256": number.to_bytes(32, "big"),
            "merchant_id": MERCHANT,
            "type": "payment.captured",
            "payment_id": str(1_000_000_000 + number // events),
            "key_id": "key-1",
        }
        for number in range(payments * events)
    ]
    with database.transaction() as connection:
        statement = insert(WebhookEvent).values(received_at=now(), due_at=seconds_from_now(5.0))
        connection.execute(statement, rows)
        return list(connection.execute(select(WebhookEvent.event_key).order_by(WebhookEvent.event_key)).scalars())


def test_events_that_come_while_threads_are_at_work_are_all_answered(
    database: Database, platform: FakePlatform, settings: Settings
) -> None:
    """The truth changes before each event is stored; when the rings are done every record is the last truth."""
    reconciler, paper, deliver = (
        Reconciler(database, {MERCHANT: platform}, settings),
        Paper(database),
        deliver_to(database),
    )
    platform.slow = 0.01
    workers = Workers(reconciler, threads=8)
    workers.expect_more()

    def the_platform_sends() -> None:
        for code in (0, 51, 5, 91, 9):
            for payment_id in ("1111111111", "2222222222", "3333333333"):
                platform.truth[payment_id] = view_of(payment_id, code=code)
                workers.ring(deliver(payment_id))
            time.sleep(0.05)
        workers.expect_no_more()

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(the_platform_sends)
        workers.run()
        sending.result()

    assert workers.errors == []
    assert paper.open_events() == []
    assert [payment.status_code for payment in paper.payments()] == [9, 9, 9]
    assert platform.shortest_gap() >= settings.gap_seconds - 0.01


def test_a_claim_waits_for_a_row_that_another_transaction_holds(postgres: Database, settings: Settings) -> None:
    """A hint that finds the row locked is not skipped: it is counted when the other has committed."""
    paper, deliver = Paper(postgres), deliver_to(postgres)
    held = claim(postgres, deliver("3254564310")[0], settings)
    (late,) = deliver("3254564310")
    assert isinstance(held, Claim)
    with ThreadPoolExecutor(1) as pool:
        with postgres.transaction() as connection:
            row = Payment.payment_key == held.payment.payment_key
            connection.execute(update(Payment).where(row).values(problem="being written"))
            waiting = pool.submit(claim, postgres, late, settings)
            time.sleep(0.2)
            assert not waiting.done()
        answer = waiting.result(5)

    assert isinstance(answer, Busy)
    assert paper.payment("3254564310").wanted == 2


def test_only_one_of_many_claims_a_free_payment(postgres: Database, settings: Settings) -> None:
    """Sixteen threads, one payment nobody knew, sixteen events: one row, one claim."""
    deliver, paper = deliver_to(postgres), Paper(postgres)
    for number in count(1):
        keys = [deliver(str(1_000_000_000 + number))[0] for _ in range(16)]
        barrier = threading.Barrier(16)

        def at_once(event_key: int, barrier: threading.Barrier = barrier) -> Claim | Busy | None:
            barrier.wait()
            return claim(postgres, event_key, settings)

        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(at_once, keys))

        (claimed,) = (answer for answer in answers if isinstance(answer, Claim))
        payment = paper.payment(claimed.payment.payment_id)
        assert sorted(claimed.event_keys) == keys
        assert (payment.claims, payment.claim_token) == (1, claimed.token)
        if number == 5:
            return


def test_a_follow_names_the_payment_and_the_rest_of_the_gap(
    reconciler: Reconciler, deliver: Deliver, paper: Paper, settings: Settings
) -> None:
    """An event in the gap after a look is counted now and looked into when the gap is over."""
    reconciler.event(deliver("3254564310")[0])

    follow = reconciler.event(deliver("3254564310")[0])

    payment = paper.payment("3254564310")
    assert isinstance(follow, Follow)
    assert follow.payment_key == payment.payment_key
    assert 0 <= follow.seconds <= settings.gap_seconds
    assert payment.wanted == payment.applied + 1
    assert payment.due_at == payment.claimed_until
