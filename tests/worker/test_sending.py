"""An operation on its way: promised, claimed, asked for once, and what came of it written down."""

import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import update

from tests.worker.conftest import MERCHANT, FakePlatform, moved, settings_of, view_of
from tests.worker.till import PAYMENT, Till
from worker import sending
from worker.database import Database, seconds_from_now
from worker.gateways.gateway import (
    CredentialsRefused,
    GatewayError,
    InProgress,
    NotAllowed,
    NotSent,
    OutcomeUnknown,
    PaymentUnknown,
    Refused,
    SlowDown,
    TryAgain,
)
from worker.lifecycle import MovementKind, MovementState
from worker.models import Fact
from worker.operations.ledger import Ledger
from worker.reconciliation import STALE
from worker.reconciliation.claims import MOST_CLAIMS
from worker.sending import EXHAUSTED, NOTHING
from worker.traffic.budget import BURST_SECONDS, Budget, Lane
from worker.traffic.circuit import KNOWN_SECONDS

CAPTURE, REFUND, CANCEL = MovementKind.CAPTURE, MovementKind.REFUND, MovementKind.CANCEL
PENDING, DONE, REFUSED = MovementState.PENDING, MovementState.DONE, MovementState.REFUSED


class Killed(BaseException):
    """A process that ends in the midst of its work: nothing of ours catches it."""


def killed() -> None:
    raise Killed


def die(till: Till, platform: FakePlatform, key: int) -> None:
    """Send an operation in a process that is killed before it is done."""
    platform.on_the_way = killed
    with pytest.raises(Killed):
        till.step(key)


def planned(till: Till, kind: MovementKind = CAPTURE, amount: int | None = None) -> int:
    operation = till.asked(kind, amount)
    assert operation.state == "planned"
    return int(operation.operation_key)


def nobody_promised_twice(till: Till) -> bool:
    """G5, as every process may see it now."""
    ledger = till.ledger()
    return ledger.remainder() >= 0 and ledger.refundable(pending=True) >= 0


# The walk.


def test_the_attempt_is_on_record_before_anything_leaves(till: Till, platform: FakePlatform) -> None:
    """Committed, with key and bytes; while the answer is awaited no transaction is open and no connection held."""
    key = planned(till, CAPTURE, 400)
    seen: list[Any] = []
    platform.on_the_way = lambda: seen.extend(
        [till.database.engine.pool.checkedout(), till.row(key), till.attempts(key)]  # type: ignore[attr-defined]
    )

    till.step(key)

    held, operation, (attempt,) = seen
    (order,) = platform.sent
    assert held == 0
    assert (operation.state, operation.claims) == ("sending", 1)
    assert (operation.idempotence_key, operation.request_body) == (order.idempotence_key, order.body)
    assert operation.first_sent_at == operation.last_sent_at is not None
    assert operation.claimed_until == operation.due_at is not None
    assert (attempt.finished_at, attempt.outcome) == (None, None)
    assert (attempt.idempotence_key, attempt.claim_token) == (order.idempotence_key, operation.claim_token)


def test_an_answer_is_written_down_whole(till: Till, platform: FakePlatform) -> None:
    """Attempt, movement, link, state, and a hint: a look is to confirm it, after the gap at the soonest."""
    key = planned(till, CAPTURE, 400)
    wanted = till.payment().wanted

    step = till.step(key)

    operation, (attempt,), (movement,) = till.row(key), till.attempts(key), till.movements()
    assert (operation.state, operation.platform_operation_id) == ("accepted", f"{PAYMENT}_1")
    assert (operation.claims, operation.claim_token, operation.claimed_until) == (0, None, None)
    assert (attempt.outcome, attempt.http_status) == ("done", None)
    assert attempt.finished_at is not None
    assert attempt.duration_ms >= 0
    assert (movement.operation_key, movement.state, movement.amount) == (key, "pending", 400)
    assert till.payment().wanted == wanted + 1
    assert step.payment is not None
    assert step.payment[1] >= till.settings.gap_seconds
    assert 0 < (till.due_in(key) or 0) <= 5
    assert [line[:2] for line in till.story(key)][2:] == [("planned", "sending"), ("sending", "accepted")]


@pytest.mark.parametrize(("became", "state"), [(DONE, "succeeded"), (REFUSED, "refused"), (PENDING, "accepted")])
def test_a_look_says_what_became_of_it(till: Till, platform: FakePlatform, became: MovementState, state: str) -> None:
    """The platform confirms later, by webhook or poll."""
    key = till.sent(CAPTURE, 400)
    (movement,) = platform.truth[PAYMENT].movements
    platform.truth[PAYMENT] = view_of(PAYMENT, replace(movement, state=became))

    till.look()

    assert till.state(key) == state
    assert len(platform.sent) == 1


def test_an_answer_may_say_at_once_that_it_was_refused(till: Till, platform: FakePlatform) -> None:
    """Settled by it, and its amount is free again."""
    key = planned(till)
    platform.done[sending.idempotence_key(till.row(key).operation_uuid, 0)] = replace(
        moved(f"{PAYMENT}_1", CAPTURE, 1000, REFUSED), reference=till.row(key).operation_uuid, status_code=93
    )

    till.step(key)

    assert till.state(key) == "refused"
    assert "93" in till.row(key).reason
    assert "free again" in till.row(key).reason
    assert till.ledger().remainder() == 1000


@pytest.mark.parametrize("kind", [CAPTURE, REFUND, CANCEL])
def test_what_was_asked_for_is_what_leaves(till: Till, platform: FakePlatform, kind: MovementKind) -> None:
    """Amount, reference and the caller's own words; our name for it is the operation's uuid."""
    platform.truth[PAYMENT] = view_of(PAYMENT, moved(f"{PAYMENT}_1", CAPTURE, 500))
    words = {"reference": "order 7", **({"reason": "broken"} if kind is REFUND else {})}

    key = till.sent(kind, 300, **words)

    (order,) = platform.sent
    assert (order.kind, order.payment_id, order.amount, order.currency) == (kind, PAYMENT, 300, "EUR")
    assert order.reference == till.row(key).operation_uuid
    assert len(order.idempotence_key) <= 40
    assert b'"group_reference": "order 7"' in order.body
    assert (b'"reason": "broken"' in order.body) == (kind is REFUND)


@pytest.mark.parametrize("state", ["succeeded", "refused", "withdrawn", "review"])
def test_a_ring_for_what_is_at_rest_does_nothing(till: Till, platform: FakePlatform, state: str) -> None:
    """Forged or late: nothing is sent, nothing written."""
    key = planned(till)
    till.change(key, state=state)
    before = till.operations(), till.payment()

    steps = [till.step(key), till.step(4711)]

    assert steps == [NOTHING, NOTHING]
    assert (till.operations(), till.payment()) == before
    assert platform.sent == []


# One at a time, in the order of their promises.


def test_no_second_one_leaves_while_the_first_is_on_its_way(till: Till, platform: FakePlatform) -> None:
    """It waits for its turn, and is rung for when the first one's answer is there."""
    first, second = planned(till, CAPTURE, 100), planned(till, CAPTURE, 200)
    early: list[Any] = []
    platform.on_the_way = lambda: early.extend([till.step(second), till.step(first), len(platform.sent)])

    step = till.step(first)

    assert early == [NOTHING, NOTHING, 0]
    assert step.operations == ((second, 0.0),)
    assert [order.amount for order in platform.sent] == [100]


@pytest.mark.parametrize("state", ["unknown", "review"])
def test_nothing_leaves_while_the_end_of_another_is_not_known(till: Till, platform: FakePlatform, state: str) -> None:
    """Whether its money is spent is what the next one's coverage hangs on."""
    first, second = planned(till, CAPTURE, 100), planned(till, CAPTURE, 200)
    platform.lost.append(OutcomeUnknown("lost"))
    till.step(first)
    till.change(first, state=state)

    till.step(second)

    assert till.state(second) == "planned"
    assert len(platform.sent) == 1


def test_they_leave_in_the_order_of_their_promises(till: Till, platform: FakePlatform) -> None:
    """Whichever is rung for: that of the others whose turn it is follows."""
    keys = [planned(till, CAPTURE, amount) for amount in (100, 200, 300)]

    steps = [till.step(keys[2]), till.step(keys[0])]
    for key in reversed(keys):
        till.step(key)
    till.step(keys[2])

    assert [step.operations for step in steps] == [((keys[0], 0.0),), ((keys[1], 0.0),)]
    assert [order.amount for order in platform.sent] == [100, 200, 300]


# What did not leave was not sent.


@pytest.mark.parametrize("error", [NotSent("refused"), CredentialsRefused("HTTP 403", http_status=403)])
def test_what_did_not_leave_is_planned_again(till: Till, platform: FakePlatform, error: GatewayError) -> None:
    """After a back-off that grows, and with no sending counted: it is as if it had never been tried."""
    key = planned(till, CAPTURE, 400)
    waits = []
    for _ in range(4):
        platform.refusals.append(error)
        step = till.step(key)
        (after,) = (seconds for operation_key, seconds in step.operations if operation_key == key)
        waits.append(after)
        assert (till.due_in(key) or 0) <= after
        till.pass_time(after)

    operation = till.row(key)
    assert all(wait <= most for wait, most in zip(waits, (1, 2, 4, 8), strict=True))
    assert waits[3] > 4
    assert (operation.state, operation.first_sent_at, operation.last_sent_at) == ("planned", None, None)
    assert (operation.claims, operation.claim_token, operation.generation) == (0, None, 0)
    assert {(attempt.outcome, attempt.http_status) for attempt in till.attempts(key)} == {
        ("not_sent", error.http_status)
    }

    till.step(key)

    assert till.state(key) == "accepted"
    assert len({(order.idempotence_key, order.body) for order in platform.sent}) == 1


def test_a_back_off_is_kept_whoever_rings(till: Till, platform: FakePlatform) -> None:
    """A look in between has it rung for, and it waits all the same."""
    key = planned(till)
    platform.refusals.extend([NotSent("refused")] * 5)
    for _ in range(5):
        till.step(key)
        till.pass_time(till.due_in(key) or 0)
    platform.refusals.append(NotSent("refused"))
    till.step(key)

    follow = till.look()
    step = till.step(key)

    assert follow is not None
    assert follow.operation_keys == (key,)
    assert len(platform.sent) == 6
    assert (step.operations[0][0], till.state(key)) == (key, "planned")
    assert step.operations[0][1] > 20


def test_a_claim_whose_time_is_over_sends_nothing(
    till: Till, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was paused between claim and request has lost its lease, or is about to."""
    key = planned(till)
    times = iter([0.0])
    paused = SimpleNamespace(monotonic=lambda: next(times, till.settings.claim_seconds), sleep=lambda _seconds: None)
    monkeypatch.setattr(sending, "time", paused)

    till.step(key)

    assert platform.sent == []
    assert till.state(key) == "planned"
    assert [attempt.outcome for attempt in till.attempts(key)] == ["not_sent"]


def test_an_operation_that_cannot_wait_for_its_turn_takes_none(database: Database, platform: FakePlatform) -> None:
    """It was not sent, and comes again; meanwhile no other operation waits for what nobody used."""
    till = Till(database, platform, settings_of(budget_per_second=5.0))  # of which operations have one
    key = planned(till)
    began = time.monotonic()
    Budget(database, till.settings.budget_per_second).reserve(MERCHANT, Lane.OPERATIONS, 30)

    till.step(key)

    ahead = till.traffic.operation_turn(MERCHANT, within=0).seconds
    assert ahead + time.monotonic() - began == pytest.approx(30 - BURST_SECONDS, abs=0.5)
    assert platform.sent == []
    assert [attempt.outcome for attempt in till.attempts(key)] == ["not_sent"]


def test_where_the_next_turn_is_known_to_be_far_nothing_is_claimed_for_it(till: Till, database: Database) -> None:
    """It would count as one more attempt, whose pauses grow: it is put off until that turn, and says what for."""
    key = planned(till)
    Budget(database, till.settings.budget_per_second).reserve(MERCHANT, Lane.OPERATIONS, 1800)  # half a minute's
    till.traffic.operation_turn(MERCHANT, within=0)

    follow = till.step(key)

    ((_, seconds),) = follow.operations
    assert 20 < seconds < 30
    assert till.attempts(key) == []
    assert till.row(key).reason == "the platform is not asked for now: its budget of requests is used up"


def test_an_open_circuit_is_tried_with_a_look_and_never_with_money(
    till: Till, platform: FakePlatform, database: Database
) -> None:
    """Once it may be tried, the operation has its payment looked at, and is sent when that has closed the circuit."""
    key = planned(till)
    for payment in range(5):
        till.traffic.made(MERCHANT, payment, TryAgain("no answer"))

    early = till.step(key)
    with database.transaction() as connection:
        connection.execute(update(Fact).where(Fact.name == f"circuit:{MERCHANT}").values(due_at=seconds_from_now(-1.0)))
    time.sleep(KNOWN_SECONDS)
    late = till.step(key)

    assert (early.payment, late.payment is None) == (None, False)
    assert platform.sent == []
    assert "not asked for now" in (till.row(key).reason or "")
    till.look()
    till.step(key)
    assert len(platform.sent) == 1


# Each error, and what it says of the money.

ANSWERS = [
    (Refused("HTTP 402", http_status=402, error_id="e-1"), "refused", "refused"),
    (PaymentUnknown("HTTP 404", http_status=404), "refused", "refused"),
    (NotAllowed("HTTP 409", http_status=409), "not_allowed", "unknown"),
    (InProgress("HTTP 409", http_status=409), "in_progress", "unknown"),
    (OutcomeUnknown("time-out"), "unclear", "unknown"),
    (OutcomeUnknown("HTTP 500", http_status=500, error_id="e-2"), "unclear", "unknown"),
    (OutcomeUnknown("HTTP 500", http_status=500, replayed=True), "replayed_error", "unknown"),
    (SlowDown("HTTP 429", http_status=429), "unclear", "unknown"),
    (TryAgain("what?"), "unclear", "unknown"),
    (RuntimeError("a fault of ours"), "unclear", "unknown"),
    (NotSent("refused"), "not_sent", "planned"),
    (CredentialsRefused("HTTP 401", http_status=401), "not_sent", "planned"),
]


@pytest.mark.parametrize(("error", "outcome", "state"), ANSWERS, ids=lambda given: type(given).__name__)
def test_every_error_says_what_is_known_of_the_money(
    till: Till, platform: FakePlatform, error: Exception, outcome: str, state: str
) -> None:
    """A no is believed at once only when nothing else can have moved the money; an answer lost is never a no."""
    key = planned(till, CAPTURE, 400)
    platform.refusals.append(error)

    till.step(key)

    operation, (attempt,) = till.row(key), till.attempts(key)
    assert (operation.state, attempt.outcome) == (state, outcome)
    assert attempt.finished_at is not None
    assert (attempt.http_status, attempt.error_id) == (
        getattr(error, "http_status", None),
        getattr(error, "error_id", None),
    )
    assert operation.replayed_5xx == (outcome == "replayed_error")
    assert (operation.due_at is None) == (state == "refused")
    assert operation.claim_token is None
    assert till.ledger().remainder() == (1000 if state == "refused" else 600)
    if isinstance(error, GatewayError) and state != "planned":
        assert error.told in operation.reason


def test_a_no_because_of_where_the_payment_stands_is_looked_up(till: Till, platform: FakePlatform) -> None:
    """Somebody captured it in the portal: refused once a look has shown that ours is not the reason."""
    key = planned(till)
    platform.refusals.append(NotAllowed("HTTP 409", http_status=409))
    till.step(key)
    platform.truth[PAYMENT] = view_of(PAYMENT, moved(f"{PAYMENT}_1", CAPTURE, 1000), code=9)

    till.look()

    assert till.state(key) == "refused"
    assert "does not allow it where the payment stands" in till.row(key).reason
    assert len(platform.sent) == 1


def test_nothing_of_the_body_is_stored_of_a_fault(till: Till, platform: FakePlatform) -> None:
    """An exception's text may quote anything; its class is told."""
    key = planned(till)
    platform.refusals.append(RuntimeError("card 4111111111111111"))

    till.step(key)

    assert till.row(key).reason == "a fault of payhook: RuntimeError"
    assert "4111" not in str(till.story(key))


# An answer that did not come.


@pytest.fixture
def lost(till: Till, platform: FakePlatform) -> int:
    """A capture of 400 that was made, and whose answer was lost."""
    key = planned(till, CAPTURE, 400)
    platform.lost.append(OutcomeUnknown("the answer was lost"))
    till.step(key)
    return key


@pytest.fixture
def vanished(till: Till, platform: FakePlatform) -> int:
    """A capture of 400 that never reached the platform, and nobody can know it."""
    key = planned(till, CAPTURE, 400)
    platform.refusals.append(OutcomeUnknown("no answer"))
    till.step(key)
    return key


def test_a_lost_answer_is_unknown_and_looked_up_soon(till: Till, lost: int) -> None:
    """Its money stays spent meanwhile."""
    operation = till.row(lost)

    assert (operation.state, operation.reason) == ("unknown", "the answer was lost")
    assert 0 < (till.due_in(lost) or 0) <= 2
    assert till.ledger().remainder() == 600
    assert till.payment().wanted > till.payment().applied


def test_what_was_made_is_found_by_our_reference(till: Till, platform: FakePlatform, lost: int) -> None:
    """One look, and nothing is sent again."""
    till.look()
    till.step(lost)

    operation = till.row(lost)
    assert (operation.state, operation.platform_operation_id) == ("accepted", f"{PAYMENT}_1")
    assert [movement.operation_key for movement in till.movements()] == [lost]
    assert len(platform.sent) == 1


def test_nothing_is_sent_again_before_a_look(till: Till, platform: FakePlatform, vanished: int) -> None:
    """Whoever rings: it is the payment that is looked at."""
    till.pass_time(5)

    step = till.step(vanished)

    assert step.payment is not None
    assert (till.state(vanished), len(platform.sent)) == ("unknown", 1)


def test_what_a_look_does_not_show_is_sent_again_with_the_same_key_and_bytes(
    till: Till, platform: FakePlatform, vanished: int
) -> None:
    """The platform answers a key's later requests as it did the first: the bytes are those that were stored."""
    newer: Callable[..., bytes] = lambda *_, **__: b"as a newer version would compose it"  # noqa: E731
    platform.compose = newer  # type: ignore[method-assign]

    follow = till.look()
    till.step(vanished)

    first, second = platform.sent
    assert follow is not None
    assert follow.operation_keys == (vanished,)
    assert (second.idempotence_key, second.body) == (first.idempotence_key, first.body)
    assert (till.state(vanished), till.row(vanished).generation) == ("accepted", 0)
    assert [attempt.outcome for attempt in till.attempts(vanished)] == ["unclear", "done"]
    assert till.row(vanished).first_sent_at < till.row(vanished).last_sent_at


def test_a_look_that_was_under_way_when_it_was_sent_shows_nothing(till: Till, platform: FakePlatform) -> None:
    """It began before: that it lacks the movement is no reason to send again."""
    key = planned(till, CAPTURE, 400)
    platform.lost.append(OutcomeUnknown("lost"))
    platform.during = lambda: till.step(key)

    till.look()
    till.pass_time(5)
    step = till.step(key)

    assert (till.state(key), len(platform.sent)) == ("unknown", 1)
    assert step.payment is not None
    assert till.row(key).last_looked_at < till.row(key).first_sent_at
    assert till.ledger().remainder() == 600


def test_an_old_snapshot_written_late_frees_no_money_that_was_spent(till: Till, platform: FakePlatform) -> None:
    """Fetched before a capture was made and written after it: the capture stays spent."""
    key = planned(till, CAPTURE, 700)
    platform.during = lambda: till.step(key)
    refreshed_at = till.payment().refreshed_at

    till.look()

    payment = till.payment()
    assert (payment.problem, payment.refreshed_at) == (STALE, refreshed_at)
    assert till.ledger().remainder() == 300
    assert till.state(key) == "accepted"

    second = till.ask(CAPTURE, 700)
    till.look()

    assert till.state(second) == "refused"
    assert sum(order.amount for order in platform.sent) == 700


def test_two_looks_after_its_keys_time_a_capture_is_sent_anew(
    till: Till, platform: FakePlatform, vanished: int
) -> None:
    """Two clean looks, a settling time apart: only then, and with another key."""
    till.pass_time(till.settings.key_seconds + 1)
    till.look()
    till.step(vanished)
    early = (till.state(vanished), len(platform.sent))
    till.pass_time(till.settings.settling_seconds + 1)

    till.look()
    till.step(vanished)

    first, second = platform.sent
    assert early == ("unknown", 1)
    assert till.row(vanished).generation == 1
    assert first.idempotence_key != second.idempotence_key
    assert first.body == second.body
    assert till.state(vanished) == "accepted"


@pytest.mark.parametrize("kind", [REFUND, CANCEL])
def test_a_person_is_asked_about_anything_else(till: Till, platform: FakePlatform, kind: MovementKind) -> None:
    """A refund made twice is gone."""
    platform.truth[PAYMENT] = view_of(PAYMENT, moved(f"{PAYMENT}_1", CAPTURE, 500))
    key = planned(till, kind, 300)
    platform.refusals.append(OutcomeUnknown("no answer"))
    till.step(key)
    till.pass_time(till.settings.key_seconds + 1)
    till.look()
    till.pass_time(till.settings.settling_seconds + 1)

    till.look()
    till.step(key)

    assert till.state(key) == "review"
    assert f"Has this {kind} been made?" in till.row(key).reason
    assert till.due_in(key) is None
    assert len(platform.sent) == 1


# Processes that die, or are paused.


def test_a_dead_process_leaves_its_operation_to_the_lease(till: Till, platform: FakePlatform) -> None:
    """Nobody touches it before; then it is unknown and looked up, for it may have been sent."""
    key = planned(till, CAPTURE, 400)
    die(till, platform, key)
    before = till.step(key), till.state(key)
    till.pass_time(till.settings.lease_seconds + 1)

    step = till.step(key)

    assert before == (NOTHING, "sending")
    assert (till.state(key), till.row(key).claim_token) == ("unknown", None)
    assert step.payment is not None
    assert [attempt.finished_at for attempt in till.attempts(key)] == [None]

    till.look()
    till.step(key)

    assert till.state(key) == "accepted"
    assert len({order.idempotence_key for order in platform.sent}) == 1


def test_a_look_leaves_what_is_on_its_way_to_its_sender(till: Till, platform: FakePlatform) -> None:
    """Whoever sent it will say what came of it; once its lease is over, the look says."""
    key = planned(till, CAPTURE, 400)
    die(till, platform, key)
    till.look()
    during = till.state(key)
    till.pass_time(till.settings.lease_seconds + 1)

    till.look()

    assert during == "sending"
    assert till.state(key) == "unknown"


def test_a_paused_process_completes_its_attempt_and_no_more(till: Till, platform: FakePlatform) -> None:
    """Another has taken its operation over: its answer is kept as the attempt's, and a look tells the rest."""
    key = planned(till, CAPTURE, 400)
    taken_over: list[Any] = []

    def lease_ends() -> None:
        till.pass_time(till.settings.lease_seconds + 1)
        till.step(key)
        taken_over.append(till.row(key))

    platform.on_the_way = lease_ends
    wanted = till.payment().wanted

    step = till.step(key)

    (attempt,) = till.attempts(key)
    assert (attempt.outcome, attempt.finished_at is None) == ("done", False)
    assert [till.row(key)] == taken_over
    assert till.movements() == []
    assert till.payment().wanted > wanted
    assert step.operations == ()

    till.look()

    assert till.state(key) == "accepted"


def test_after_eight_deaths_a_person_is_asked(till: Till, platform: FakePlatform) -> None:
    """Each time looked up first; it is not sent a ninth time."""
    key = planned(till, CAPTURE, 400)
    for _ in range(MOST_CLAIMS):
        die(till, platform, key)
        till.pass_time(till.settings.lease_seconds + 1)
        till.step(key)
        till.look()
    sent = len(till.attempts(key))

    till.step(key)

    assert sent == MOST_CLAIMS
    assert (till.state(key), till.row(key).reason) == ("review", EXHAUSTED)
    assert till.due_in(key) is None
    assert len(till.attempts(key)) == MOST_CLAIMS


def test_an_answer_of_any_kind_forgives_the_deaths_before_it(till: Till, platform: FakePlatform) -> None:
    """What was answered did not kill its worker."""
    key = planned(till, CAPTURE, 400)
    die(till, platform, key)
    till.pass_time(till.settings.lease_seconds + 1)
    till.step(key)
    till.look()
    platform.refusals.append(OutcomeUnknown("no answer"))

    till.step(key)

    assert (till.row(key).claims, till.state(key)) == (0, "unknown")


# What waited long before it was first sent.


def test_what_waited_long_is_looked_up_before_it_is_first_sent(till: Till, platform: FakePlatform) -> None:
    """The record may be a restored backup: of something young alone is it certain that nothing of it was sent."""
    key = planned(till, CAPTURE, 400)
    till.pass_time(till.settings.settling_seconds + 1)

    step = till.step(key)

    assert step.payment is not None
    assert platform.sent == []

    till.look()
    till.step(key)

    assert (till.state(key), len(platform.sent)) == ("accepted", 1)


def test_what_an_earlier_life_of_the_record_sent_is_found(till: Till, platform: FakePlatform) -> None:
    """The look shows it under our reference: it is settled, never sent."""
    key = planned(till, CAPTURE, 400)
    made = replace(moved(f"{PAYMENT}_1", CAPTURE, 400), reference=till.row(key).operation_uuid)
    platform.truth[PAYMENT] = view_of(PAYMENT, made)
    till.pass_time(till.settings.settling_seconds + 1)
    till.step(key)

    till.look()
    till.step(key)

    assert till.state(key) == "succeeded"
    assert platform.sent == []


def test_what_could_be_ours_without_a_reference_asks_a_person(till: Till, platform: FakePlatform) -> None:
    """Same kind, amount and currency, and nobody's name on it."""
    key = planned(till, CAPTURE, 400)
    platform.truth[PAYMENT] = view_of(PAYMENT, replace(moved(f"{PAYMENT}_1", CAPTURE, 400), reference=None))
    till.look()
    till.pass_time(till.settings.settling_seconds + 1)
    till.step(key)

    till.look()
    till.step(key)

    assert till.state(key) == "review"
    assert platform.sent == []


# Never more than there is, at any commit.


@pytest.mark.parametrize("answer", ["done", "lost", "no answer", "not sent", "refused", "killed"])
def test_no_state_on_the_way_frees_what_was_promised(till: Till, platform: FakePlatform, answer: str) -> None:
    """Two requests that want more than there is together: whatever comes of the first, G5 holds at every step."""
    first = planned(till, CAPTURE, 700)
    seen = [nobody_promised_twice(till)]
    platform.on_the_way = lambda: seen.append(nobody_promised_twice(till))
    faults: dict[str, Callable[[], object]] = {
        "lost": lambda: platform.lost.append(OutcomeUnknown("lost")),
        "no answer": lambda: platform.refusals.append(OutcomeUnknown("lost")),
        "not sent": lambda: platform.refusals.append(NotSent("refused")),
        "refused": lambda: platform.refusals.append(Refused("HTTP 400")),
    }
    if answer == "killed":
        die(till, platform, first)
    else:
        faults.get(answer, lambda: None)()
        till.step(first)

    for _ in range(3):
        second = till.ask(CAPTURE, 700)
        till.look()
        till.step(second)
        seen.append(nobody_promised_twice(till))
        till.pass_time(till.settings.lease_seconds + 1)
        till.step(first)

    made = sum(movement.amount for movement in platform.truth[PAYMENT].movements)
    assert all(seen)
    assert made <= 1000
    assert made == 700


def test_the_database_itself_allows_one_in_flight(
    till: Till, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should a process believe that it is an operation's turn: the constraint says no, and nothing is sent."""
    first, second = planned(till, CAPTURE, 100), planned(till, CAPTURE, 200)
    die(till, platform, first)
    monkeypatch.setattr(Ledger, "next_planned", lambda _: till.row(second))

    step = till.step(second)

    assert step == NOTHING
    assert (till.states(), till.attempts(second), platform.sent) == (["sending", "planned"], [], [])
