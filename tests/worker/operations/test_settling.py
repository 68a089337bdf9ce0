"""What a look says of the open operations: found, not found, contradicted, listed twice, accepted and let go."""

from dataclasses import replace
from typing import Any

import pytest

from tests.worker.conftest import FakePlatform, moved, view_of
from tests.worker.till import PAYMENT, Till
from worker.gateways.gateway import Movement as Listed
from worker.gateways.gateway import OutcomeUnknown
from worker.lifecycle import MovementKind, MovementState
from worker.operations.evidence import pace_of
from worker.operations.settling import free_every_claim

CAPTURE, REFUND, CANCEL = MovementKind.CAPTURE, MovementKind.REFUND, MovementKind.CANCEL
PENDING, DONE, REFUSED = MovementState.PENDING, MovementState.DONE, MovementState.REFUSED


def ours(till: Till, key: int, number: int = 1, state: MovementState = DONE, **changed: Any) -> Listed:
    """The movement of an operation, as the platform lists it."""
    operation = till.row(key)
    movement = moved(f"{PAYMENT}_{number}", MovementKind(operation.kind), operation.amount or 1000, state)
    return replace(movement, **{"reference": operation.operation_uuid, **changed})


def show(platform: FakePlatform, *movements: Listed, code: int = 9) -> None:
    platform.truth[PAYMENT] = view_of(PAYMENT, *movements, code=code)


def in_state(till: Till, platform: FakePlatform, state: str) -> int:
    """A capture of 400 in a state, as it gets there."""
    if state == "requested":
        till.look()
        return till.ask(CAPTURE, 400)
    key = int(till.asked(CAPTURE, 400).operation_key)
    if state == "planned":
        return key
    platform.refusals.append(OutcomeUnknown("no answer"))
    till.step(key)
    if state == "sending":
        till.change(key, state="sending", claimed_until=till.row(key).created_at, claim_token="dead")
    elif state == "review":
        till.change(key, state="review", due_at=None)
    elif state == "accepted":
        platform.truth[PAYMENT] = view_of(PAYMENT, ours(till, key, state=PENDING))
        till.look()
    assert till.state(key) == state
    return key


OPEN = ("requested", "planned", "sending", "unknown", "review", "accepted")


@pytest.mark.parametrize(("became", "ends"), [(DONE, "succeeded"), (REFUSED, "refused"), (PENDING, "accepted")])
@pytest.mark.parametrize("state", OPEN)
def test_what_the_platform_lists_is_what_became_of_it(
    till: Till, platform: FakePlatform, state: str, became: MovementState, ends: str
) -> None:
    """From whichever state: the platform has the final say, of what a person is asked about too."""
    key = in_state(till, platform, state)
    sent = len(platform.sent)
    show(platform, ours(till, key, state=became))

    till.look()

    operation = till.row(key)
    assert (operation.state, operation.platform_operation_id) == (ends, f"{PAYMENT}_1")
    assert (operation.claim_token, operation.anomaly) == (None, None)
    assert (operation.due_at is None) == (ends != "accepted")
    assert [movement.operation_key for movement in till.movements()] == [key]
    assert len(platform.sent) == sent


@pytest.mark.parametrize(("state", "stays"), [("planned", "planned"), ("unknown", "unknown"), ("review", "review")])
def test_what_is_not_listed_is_no_evidence_of_an_end(
    till: Till, platform: FakePlatform, state: str, stays: str
) -> None:
    """A look that shows nothing ends nothing: it is to be sent, sent again, or decided by a person."""
    key = in_state(till, platform, state)

    till.look()

    assert till.state(key) == stays
    assert (till.row(key).last_looked_at is None) == (state == "review")
    assert (till.due_in(key) is None) == (state == "review")


@pytest.mark.parametrize(
    ("kind", "code", "left"), [(CAPTURE, 93, "capture"), (REFUND, 83, "refund"), (CANCEL, 63, "capture")]
)
def test_refused_maintenance_frees_what_was_held_and_says_so(
    till: Till, platform: FakePlatform, kind: MovementKind, code: int, left: str
) -> None:
    """93, 83 and 63: accepted, refused later, and the money is there for another request."""
    before = (moved(f"{PAYMENT}_1", CAPTURE, 1000),) if kind is REFUND else ()
    show(platform, *before, code=9 if before else 5)
    key = till.sent(kind)
    assert till.state(key) == "accepted"
    show(platform, *before, ours(till, key, 1 + len(before), REFUSED, status_code=code), code=code)

    till.look()

    assert till.state(key) == "refused"
    assert f"the platform says {code}" in till.row(key).reason
    assert "the 1000 EUR it held are free again" in till.row(key).reason
    assert till.asked(MovementKind(left)).amount == 1000


@pytest.mark.parametrize(("kind", "code"), [(CAPTURE, 92), (REFUND, 82), (CANCEL, 62)])
def test_an_uncertain_outcome_is_polled_and_never_sent_again(
    till: Till, platform: FakePlatform, kind: MovementKind, code: int
) -> None:
    """92, 82 and 62: the platform itself waits for the acquirer; what is held stays so for as long as it takes."""
    before = (moved(f"{PAYMENT}_1", CAPTURE, 1000),) if kind is REFUND else ()
    show(platform, *before, code=9 if before else 5)
    key = till.sent(kind)
    show(platform, *before, ours(till, key, 1 + len(before), PENDING, status_code=code), code=code)

    dues = []
    for seconds in (0, 6, 16, 61, 3600, 86400, 7 * 86400):
        till.pass_time(seconds)
        till.look()
        till.step(key)
        dues.append(till.due_in(key))

    payment = till.payment()
    assert till.state(key) == "accepted"
    assert len(platform.sent) == 1
    assert dues[0] is not None
    assert dues[-1] is None  # the payment's own polling goes on
    assert payment.due_at is not None
    assert till.asked(kind).state == "refused"


def test_a_second_movement_of_one_reference_is_shown(till: Till, platform: FakePlatform) -> None:
    """The same money twice: it counts, belongs to nobody, and is noted once, however often it is seen."""
    key = till.sent(CAPTURE, 400)
    show(platform, ours(till, key, 1), ours(till, key, 2))

    till.look()
    till.look()

    operation = till.row(key)
    assert operation.state == "succeeded"
    assert operation.anomaly == f"the platform lists it more than once: {PAYMENT}_2 of 400 EUR too"
    assert [movement.operation_key for movement in till.movements()] == [key, None]
    assert sum("anomaly" in why for *_, why in till.story(key)) == 1
    assert till.ledger().remainder() == 200


def test_a_second_movement_that_was_refused_is_nothing(till: Till, platform: FakePlatform) -> None:
    """No money moved twice."""
    key = till.sent(CAPTURE, 400)
    show(platform, ours(till, key, 1), ours(till, key, 2, REFUSED))

    till.look()

    assert till.row(key).anomaly is None
    assert till.ledger().remainder() == 600


@pytest.mark.parametrize(
    ("state", "became"),
    [("succeeded", REFUSED), ("refused", DONE), ("refused", PENDING), ("withdrawn", DONE), ("withdrawn", PENDING)],
)
def test_what_contradicts_an_end_is_an_anomaly_noted_once(
    till: Till, platform: FakePlatform, state: str, became: MovementState
) -> None:
    """What is final stays so; a person sees that the platform shows otherwise, and the money counts as it is there."""
    key = int(till.asked(CAPTURE, 400).operation_key)
    till.change(key, state=state, due_at=None, reason="so it was")
    show(platform, ours(till, key, state=became))

    till.look()
    till.look()

    operation = till.row(key)
    assert (operation.state, operation.reason) == (state, "so it was")
    assert f"it is {state} here, and the platform lists {PAYMENT}_1 of 400 EUR as {became}" in operation.anomaly
    assert sum("anomaly" in why for *_, why in till.story(key)) == 1
    assert till.ledger().remainder() == (1000 if became is REFUSED else 600)


@pytest.mark.parametrize(
    ("state", "became"), [("succeeded", DONE), ("succeeded", PENDING), ("refused", REFUSED), ("withdrawn", REFUSED)]
)
def test_what_agrees_with_an_end_is_none(till: Till, platform: FakePlatform, state: str, became: MovementState) -> None:
    """Nor is a list that lags behind an answer."""
    key = int(till.asked(CAPTURE, 400).operation_key)
    till.change(key, state=state, due_at=None)
    show(platform, ours(till, key, state=became))

    till.look()

    assert (till.state(key), till.row(key).anomaly) == (state, None)


def test_somebody_elses_movement_is_linked_to_nothing(till: Till, platform: FakePlatform) -> None:
    """Another reference, or another kind under ours: it counts, and settles nothing of ours."""
    key = in_state(till, platform, "unknown")
    foreign = moved(f"{PAYMENT}_1", CAPTURE, 400)
    odd = replace(moved(f"{PAYMENT}_2", CANCEL, 100), reference=till.row(key).operation_uuid)
    show(platform, foreign, odd)

    till.look()

    assert till.state(key) == "unknown"
    assert [movement.operation_key for movement in till.movements()] == [None, None]


def test_a_look_that_lost_its_claim_settles_nothing(till: Till, platform: FakePlatform) -> None:
    """Record and operations are written together or not at all."""
    key = in_state(till, platform, "unknown")
    show(platform, ours(till, key))

    def another_takes_over() -> None:
        with till.database.transaction() as connection:
            connection.exec_driver_sql("UPDATE payments SET claim_token = 'another'")

    platform.during = another_takes_over
    before = till.row(key)

    till.look()

    assert till.row(key) == before
    assert till.movements() == []


def test_polls_follow_a_sending(till: Till, platform: FakePlatform) -> None:
    """5, 15 and 60 seconds after it was sent; then the payment's own polling goes on."""
    key = till.sent(CAPTURE, 400)

    dues = []
    for passed in (0, 6, 10, 50):
        till.pass_time(passed)
        till.look()
        dues.append(till.due_in(key))

    first, second, third, last = dues
    assert first is not None
    assert second is not None
    assert third is not None
    assert 0 < first <= 5 < second + 6 <= 15 < third + 16 <= 60
    assert last is None


def test_the_one_worker_calls_unknown_what_was_being_sent_when_it_starts(till: Till, platform: FakePlatform) -> None:
    """Nobody else can be sending it."""
    key = in_state(till, platform, "sending")

    with till.database.transaction() as connection:
        freed = free_every_claim(connection)

    operation = till.row(key)
    assert freed == 1
    assert (operation.state, operation.claim_token, operation.claimed_until) == ("unknown", None, None)
    assert (till.due_in(key) or 0) <= 0


def test_the_pace_is_that_of_the_settings(till: Till) -> None:
    """What waits longer than the settling time is looked up before it is first sent."""
    pace, settings = pace_of(till.settings), till.settings

    assert (pace.key_seconds, pace.settling_seconds) == (settings.key_seconds, settings.settling_seconds)
    assert pace.stale_seconds == settings.settling_seconds
    assert pace.unknown_max_seconds == settings.poll_moving_seconds[1]


def test_a_movement_once_linked_stays_linked(till: Till, platform: FakePlatform) -> None:
    """Though a later list names it no longer by our reference."""
    key = till.sent(CAPTURE, 400)
    show(platform, ours(till, key, reference=None))

    till.look()

    assert [movement.operation_key for movement in till.movements()] == [key]
    assert till.state(key) == "succeeded"


def test_a_movement_kept_by_an_earlier_look_is_linked_by_the_answer_that_names_it(
    till: Till, platform: FakePlatform
) -> None:
    """The list came first, and without our reference: one row, and it is ours."""
    key = int(till.asked(CAPTURE, 400).operation_key)

    def listed_first() -> None:
        show(platform, replace(moved(f"{PAYMENT}_1", CAPTURE, 400, PENDING), reference=None), code=91)
        till.look()
        show(platform, code=5)

    platform.on_the_way = listed_first

    till.step(key)

    (movement,) = till.movements()
    assert (movement.operation_key, till.state(key)) == (key, "accepted")
