"""What a person decides: taken back before it was sent, or settled where evidence does not tell."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.worker.conftest import FakePlatform, moved, view_of
from tests.worker.till import PAYMENT, Till
from worker.gateways.gateway import NotSent, OutcomeUnknown
from worker.lifecycle import MovementKind, MovementState
from worker.operations.moves import note_anomaly
from worker.operations.people import CannotDecide, Verdict, acknowledge, resolve, withdraw
from worker.reports import standing

CAPTURE = MovementKind.CAPTURE


def taken_back(till: Till, key: int) -> None:
    with till.database.transaction() as connection:
        withdraw(connection, key, actor="anna", why="ordered twice")


def decided(till: Till, key: int, verdict: Verdict) -> None:
    with till.database.transaction() as connection:
        resolve(connection, key, verdict, actor="anna", why="seen in the portal")


def in_review(till: Till, platform: FakePlatform) -> int:
    """A capture of 400 that was made, and that nobody can tell of."""
    key = int(till.asked(CAPTURE, 400).operation_key)
    platform.refusals.append(OutcomeUnknown("no answer"))
    till.step(key)
    till.change(key, state="review", due_at=None, reason="Has this been made?")
    return key


def test_what_was_never_sent_can_be_withdrawn(till: Till, platform: FakePlatform) -> None:
    """It is over, its money is free, and nothing of it leaves any more."""
    key = int(till.asked(CAPTURE, 400).operation_key)

    taken_back(till, key)
    till.step(key)

    operation = till.row(key)
    assert (operation.state, operation.reason, operation.due_at) == ("withdrawn", "withdrawn: ordered twice", None)
    assert till.ledger().remainder() == 1000
    assert platform.sent == []


def test_what_never_left_counts_as_never_sent(till: Till, platform: FakePlatform) -> None:
    """Attempts whose requests did not leave stand in nobody's way."""
    key = int(till.asked(CAPTURE, 400).operation_key)
    platform.refusals.append(NotSent("connection refused"))
    till.step(key)

    taken_back(till, key)

    assert till.state(key) == "withdrawn"


def test_a_request_is_refused_when_it_is_taken_back(till: Till) -> None:
    """It was never promised."""
    key = till.ask(CAPTURE, 400)

    taken_back(till, key)

    assert (till.state(key), till.due_in(key)) == ("refused", None)
    assert till.row(key).reason == "withdrawn before it was accepted: ordered twice"


@pytest.mark.parametrize("state", ["sending", "unknown", "accepted", "succeeded", "refused", "withdrawn", "review"])
def test_what_may_have_been_sent_cannot_be_withdrawn(till: Till, state: str) -> None:
    """Nor what is over: the message says where it is and what can be done."""
    key = int(till.asked(CAPTURE, 400).operation_key)
    till.change(key, state=state)
    before = till.row(key)

    with pytest.raises(CannotDecide, match=f"operation {key} is {state}"):
        taken_back(till, key)

    assert till.row(key) == before


@pytest.mark.parametrize("answer", [None, "unclear", "in_progress", "done"])
def test_planned_again_after_it_may_have_left_it_cannot_be_withdrawn(
    till: Till, platform: FakePlatform, answer: str | None
) -> None:
    """A first request with another key may still come true."""
    key = in_review(till, platform)
    decided(till, key, "resend")
    with till.database.transaction() as connection:
        connection.exec_driver_sql(f"UPDATE attempts SET outcome = {'NULL' if answer is None else repr(answer)}")

    with pytest.raises(CannotDecide, match="may have been sent"):
        taken_back(till, key)

    assert till.state(key) == "planned"


@pytest.mark.parametrize("decide", [taken_back, lambda till, key: decided(till, key, "refused")])
def test_what_there_is_not_cannot_be_decided(till: Till, decide: Callable[[Till, int], Any]) -> None:
    """It says so."""
    with pytest.raises(CannotDecide, match="there is no operation 4711"):
        decide(till, 4711)


@pytest.mark.parametrize("verdict", ["succeeded", "refused"])
def test_a_person_may_say_what_happened(till: Till, platform: FakePlatform, verdict: Verdict) -> None:
    """It is over, by name and reason; its money is spent or free accordingly."""
    key = in_review(till, platform)

    decided(till, key, verdict)

    operation = till.row(key)
    assert (operation.state, operation.due_at) == (verdict, None)
    assert operation.reason == f"resolved as {verdict}: seen in the portal"
    assert till.ledger().remainder() == (600 if verdict == "succeeded" else 1000)


def test_a_person_who_was_wrong_is_contradicted_aloud(till: Till, platform: FakePlatform) -> None:
    """The platform lists it after all: the word stays, the anomaly is shown, the money counts."""
    key = in_review(till, platform)
    decided(till, key, "refused")
    made = replace(moved(f"{PAYMENT}_1", CAPTURE, 400), reference=till.row(key).operation_uuid)
    platform.truth[PAYMENT] = view_of(PAYMENT, made)

    till.look()

    assert till.state(key) == "refused"
    assert "it is refused here, and the platform lists" in till.row(key).anomaly
    assert till.ledger().remainder() == 600


def test_a_person_may_have_it_sent_again(till: Till, platform: FakePlatform) -> None:
    """Under a new key and with the same bytes; the operation begins anew, after those promised since."""
    key = in_review(till, platform)
    till.change(key, claims=8, replayed_5xx=3, negative_looks=2)
    later = int(till.asked(CAPTURE, 100).operation_key)

    decided(till, key, "resend")

    operation = till.row(key)
    assert (operation.state, operation.generation, operation.reason) == ("planned", 1, None)
    assert (operation.claims, operation.replayed_5xx, operation.negative_looks) == (0, 0, 0)
    assert (operation.first_sent_at, operation.idempotence_key) == (None, None)

    till.pass_time(5)
    till.step(later)
    till.step(key)

    first, _, again = platform.sent
    assert (again.body, again.reference) == (first.body, first.reference)
    assert again.idempotence_key != first.idempotence_key
    assert (till.state(key), till.state(later)) == ("accepted", "accepted")


def test_it_is_not_sent_again_where_there_is_no_room(till: Till, platform: FakePlatform) -> None:
    """The first request did move the money, and somebody took the reference off: what is listed leaves no room."""
    key = in_review(till, platform)
    platform.truth[PAYMENT] = view_of(PAYMENT, moved(f"{PAYMENT}_1", CAPTURE, 1000, MovementState.DONE))
    till.look()

    decided(till, key, "resend")
    till.pass_time(5)
    till.step(key)

    assert till.state(key) == "refused"
    assert len(platform.sent) == 1


@pytest.mark.parametrize("state", ["planned", "sending", "unknown", "accepted", "succeeded", "refused", "withdrawn"])
@pytest.mark.parametrize("verdict", ["succeeded", "refused", "resend"])
def test_only_what_is_in_review_is_a_persons_to_decide(till: Till, state: str, verdict: Verdict) -> None:
    """Everything else settles itself, or is over."""
    key = int(till.asked(CAPTURE, 400).operation_key)
    till.change(key, state=state)
    before = till.row(key)

    with pytest.raises(CannotDecide, match=f"operation {key} is {state}: only what is in review"):
        decided(till, key, verdict)

    assert till.row(key) == before


def test_the_journal_names_the_person(till: Till, platform: FakePlatform) -> None:
    """Who, from where to where, and why."""
    key = in_review(till, platform)

    decided(till, key, "succeeded")

    assert till.story(key)[-1] == ("review", "succeeded", "resolved as succeeded: seen in the portal")
    assert till.actors(key)[-1] == "anna"


def contradicted(till: Till) -> int:
    """A capture that was refused here, and that the platform lists."""
    key = int(till.asked(CAPTURE, 400).operation_key)
    till.change(key, state="refused", due_at=None)
    noted(till, key, "it is refused here, and the platform lists it")
    return key


def noted(till: Till, key: int, anomaly: str) -> None:
    with till.database.transaction() as connection:
        note_anomaly(connection, till.row(key), anomaly)


def seen_to(till: Till, key: int) -> None:
    with till.database.transaction() as connection:
        acknowledge(connection, key, actor="anna", why="refunded in the shop")


def open_anomalies(till: Till) -> int:
    with till.database.reading() as connection:
        return standing(connection, notice_seconds=1).anomalies


def test_an_anomaly_that_was_seen_to_is_counted_no_more(till: Till) -> None:
    """It stays on its operation, and the journal has who saw to it; another operation's is counted as before."""
    key, other = contradicted(till), contradicted(till)

    seen_to(till, key)

    assert open_anomalies(till) == 1
    assert till.row(key).anomaly == "it is refused here, and the platform lists it"
    assert till.story(key)[-1] == ("refused", "refused", "acknowledged: refunded in the shop")
    assert till.actors(key)[-1] == "anna"
    assert till.actors(other)[-1] == "payhook"


def test_a_new_contradiction_is_counted_anew(till: Till) -> None:
    """What was seen to was another."""
    key = contradicted(till)
    seen_to(till, key)

    noted(till, key, "the platform lists it twice")

    assert open_anomalies(till) == 1


def test_what_nothing_contradicts_cannot_be_acknowledged(till: Till) -> None:
    """Nor what does not exist."""
    key = int(till.asked(CAPTURE, 400).operation_key)

    with pytest.raises(CannotDecide, match="is planned, and nothing contradicts that"):
        seen_to(till, key)
    with pytest.raises(CannotDecide, match="there is no operation"):
        seen_to(till, key + 1)
