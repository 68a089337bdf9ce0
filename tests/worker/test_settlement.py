"""What is done next with an operation: the table of the specification, row by row."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from worker.lifecycle import MovementKind, MovementState, OperationState
from worker.settlement import (
    Action,
    Answer,
    Attempt,
    Evidence,
    Look,
    Pace,
    Renew,
    Review,
    Send,
    Settle,
    decide,
    unseen,
)

PACE = Pace()
PROMISED = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOUR = 3600.0

CAPTURE, REFUND, CANCEL = MovementKind
NOT_SENT, REFUSED, NOT_ALLOWED = Answer.NOT_SENT, Answer.REFUSED, Answer.NOT_ALLOWED
IN_PROGRESS, UNCLEAR, REPLAYED = Answer.IN_PROGRESS, Answer.UNCLEAR, Answer.REPLAYED_ERROR
DIED = None


def at(seconds: float) -> datetime:
    """So long after the promise."""
    return PROMISED + timedelta(seconds=seconds)


def known(
    *attempts: tuple[float, Answer | None],
    older: tuple[tuple[float, Answer | None], ...] = (),
    kind: MovementKind = CAPTURE,
    looked: float | None = None,
    negative: int = 0,
    candidates: int = 0,
    covered: bool = True,
    movement: MovementState | None = None,
) -> Evidence:
    """Evidence in seconds since the promise; ``older`` are the attempts with the key before this one."""
    generation = 2 if older else 1
    return Evidence(
        kind=kind,
        planned_at=PROMISED,
        generation=generation,
        attempts=(
            *(Attempt(1, at(when), answer) for when, answer in older),
            *(Attempt(generation, at(when), answer) for when, answer in attempts),
        ),
        movement=movement,
        looked_at=None if looked is None else at(looked),
        negative_looks=negative,
        candidates=candidates,
        covered=covered,
    )


def told(action: Action) -> str:
    """An action in a word or two: what is due is told in seconds since the promise."""
    match action:
        case Settle(state, _):
            return str(state)
        case Look(due) | Send(due):
            return f"{type(action).__name__.lower()} at {(due - PROMISED).total_seconds():g}"
        case _:
            return type(action).__name__.lower()


TABLE: list[tuple[str, Evidence, float, str]] = [
    # A movement of ours is known: it is the answer, whatever the attempts say.
    ("moved", known((0, UNCLEAR), movement=MovementState.DONE), 10, "succeeded"),
    ("moved, not done yet", known((0, DIED), movement=MovementState.PENDING), 10, "accepted"),
    ("moved and taken back", known((0, UNCLEAR), movement=MovementState.REFUSED), 10, "refused"),
    ("moved, though we were told no", known((0, UNCLEAR), (9, REFUSED), movement=MovementState.DONE), 10, "succeeded"),
    ("moved, and nothing on record says we sent it", known(movement=MovementState.DONE), 10, "succeeded"),
    # Nothing has left.
    ("new", known(), 1, "send at 1"),
    ("connection refused", known((1, NOT_SENT)), 1, "send at 2"),
    ("twice", known((1, NOT_SENT), (2, NOT_SENT)), 2, "send at 4"),
    ("four times", known((1, NOT_SENT), (2, NOT_SENT), (4, NOT_SENT), (8, NOT_SENT)), 8, "send at 16"),
    ("for ever", known(*((float(n), NOT_SENT) for n in range(99))), 99, "send at 143"),
    ("no room any more", known(covered=False), 1, "refused"),
    ("older than the record can be trusted", known(), HOUR + 1, "look at 3601"),
    ("older, and looked up", known(looked=HOUR + 2), HOUR + 3, "send at 3603"),
    ("older, looked up too long ago", known(looked=HOUR), 2 * HOUR + 1, "look at 7201"),
    ("older, and something could be it", known(looked=HOUR + 2, candidates=1), HOUR + 3, "review"),
    ("older, turned away again", known((1, NOT_SENT), looked=2 * HOUR), 2 * HOUR + 1, "send at 2"),
    # A definitive no, and no doubt before.
    ("refused", known((1, REFUSED)), 2, "refused"),
    ("refused after it did not leave", known((1, NOT_SENT), (3, REFUSED)), 4, "refused"),
    ("not allowed: looked up first", known((1, NOT_ALLOWED)), 2, "look at 3"),
    ("not allowed, nothing of ours there", known((1, NOT_ALLOWED), looked=3), 4, "refused"),
    ("not allowed, another's there", known((1, NOT_ALLOWED), looked=3, candidates=1, covered=False), 4, "refused"),
    # A definitive no after doubt.
    ("refused after doubt: looked up first", known((1, UNCLEAR), (9, REFUSED), looked=5), 10, "look at 11"),
    ("the process died before", known((1, DIED), (9, REFUSED), looked=5), 10, "look at 11"),
    ("doubt of an older key counts", known((90000, REFUSED), older=((1, DIED),), looked=89000), 90001, "look at 90002"),
    ("refused after doubt, nothing there", known((1, UNCLEAR), (9, REFUSED), looked=11), 12, "refused"),
    ("refused, but something could be it", known((1, UNCLEAR), (9, REFUSED), looked=11, candidates=1), 12, "review"),
    ("not allowed, as the lists explain", known((1, DIED), (9, NOT_ALLOWED), looked=11, covered=False), 12, "refused"),
    ("not allowed, unexplained", known((1, DIED), (9, NOT_ALLOWED), looked=11), 12, "look at 3601"),
    ("unexplained, and settled", known((1, DIED), (9, NOT_ALLOWED), looked=3601), 3602, "refused"),
    (
        "not allowed, explained by what could be it",
        known((1, DIED), (9, NOT_ALLOWED), looked=11, covered=False, candidates=1),
        12,
        "review",
    ),
    # In doubt: looked up, the later the more often it was in vain.
    ("no answer", known((0, UNCLEAR)), 1, "look at 2"),
    ("the process died", known((0, DIED)), 100, "look at 2"),
    ("a look that was under way counts for nothing", known((10, UNCLEAR), looked=9), 11, "look at 12"),
    ("nor one that began with it", known((10, UNCLEAR), looked=10), 11, "look at 12"),
    ("twice in doubt", known((0, UNCLEAR), (3, DIED)), 4, "look at 8"),
    ("thrice", known((0, UNCLEAR), (3, DIED), (9, UNCLEAR)), 10, "look at 19"),
    ("five times", known(*((float(n), UNCLEAR) for n in range(5))), 5, "look at 44"),
    ("six times", known(*((float(n), UNCLEAR) for n in range(6))), 6, "look at 85"),
    ("for ever in doubt", known(*((float(n), UNCLEAR) for n in range(99))), 99, "look at 998"),
    ("the first still runs", known((0, UNCLEAR), (3, IN_PROGRESS)), 4, "look at 8"),
    ("it runs and runs", known((0, UNCLEAR), (3, IN_PROGRESS), (9, IN_PROGRESS)), 10, "look at 19"),
    ("one that we know nothing of runs", known((0, IN_PROGRESS)), 1, "look at 5"),
    ("not leaving makes it no clearer", known((0, UNCLEAR), (3, NOT_SENT), looked=2), 4, "look at 4"),
    ("a usable answer whose movement is not on record", known((0, Answer.DONE)), 1, "look at 2"),
    # In doubt and looked up: the same key, while it protects.
    ("looked up", known((0, UNCLEAR), looked=2), 3, "send at 3"),
    ("the last moment of the key", known((0, UNCLEAR), looked=2), 23 * HOUR - 1, "send at 82799"),
    ("counted from what may have left", known((0, NOT_SENT), (99, DIED), looked=101), 23 * HOUR, "send at 82800"),
    ("from the first with this key", known((90000, DIED), older=((0, DIED),), looked=90002), 90003, "send at 90003"),
    ("two replays of a kept error", known((0, UNCLEAR), (3, REPLAYED), (9, REPLAYED), looked=20), 21, "send at 21"),
    # The key is spent: two looks a settling time apart.
    ("its time is over", known((0, UNCLEAR), looked=2), 23 * HOUR, "look at 82800"),
    ("three replays", known((0, REPLAYED), (3, REPLAYED), (9, REPLAYED), looked=20), 21, "look at 21"),
    ("one look that counts", known((0, UNCLEAR), looked=23 * HOUR, negative=1), 23 * HOUR + 9, "look at 86400"),
    ("two", known((0, UNCLEAR), looked=24 * HOUR, negative=2), 24 * HOUR + 9, "renew"),
    ("two, a refund", known((0, UNCLEAR), kind=REFUND, looked=24 * HOUR, negative=2), 24 * HOUR + 9, "review"),
    ("two, a cancellation", known((0, DIED), kind=CANCEL, looked=24 * HOUR, negative=2), 24 * HOUR + 9, "review"),
    ("two, no room", known((0, DIED), looked=24 * HOUR, negative=2, covered=False), 24 * HOUR + 9, "refused"),
    ("two, and what could be it", known((0, DIED), looked=24 * HOUR, negative=2, candidates=1), 25 * HOUR, "review"),
    (
        "two, something took the room and could be it",
        known((0, DIED), looked=24 * HOUR, negative=2, candidates=1, covered=False),
        24 * HOUR + 9,
        "review",
    ),
    # A generation on, it is like new, and old: looked up shortly before it is sent.
    ("renewed", known(older=((0, UNCLEAR),), looked=24 * HOUR), 24 * HOUR + 9, "send at 2"),
    ("renewed, then nothing for a day", known(older=((0, UNCLEAR),), looked=24 * HOUR), 48 * HOUR, "look at 172800"),
]  # fmt: skip


@pytest.mark.parametrize(("evidence", "now", "action"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_what_is_known_tells_what_is_done_next(evidence: Evidence, now: float, action: str) -> None:
    """Each row of the specification."""
    assert told(decide(evidence, at(now), PACE)) == action


def test_looks_before_the_key_is_spent_do_not_count_towards_giving_it_up() -> None:
    """They are known all the same: the next attempt may follow."""
    evidence = known((0, UNCLEAR))

    seen = unseen(evidence, at(2), PACE)

    assert (seen.looked_at, seen.negative_looks) == (at(2), 0)


def test_looks_at_a_spent_key_count_when_a_settling_time_lies_between_them() -> None:
    """Whoever looks more often, for whatever reason, neither hastens nor delays the second."""
    evidence = known((0, UNCLEAR), looked=2)

    for hours in (23, 23.25, 23.5, 23.75, 24):
        evidence = unseen(evidence, at(hours * HOUR), PACE)

    assert (evidence.looked_at, evidence.negative_looks) == (at(24 * HOUR), 2)


def test_a_look_that_began_before_the_last_attempt_does_not_count() -> None:
    """It cannot have seen what that attempt did."""
    evidence = known((0, REPLAYED), (3, REPLAYED), (9, REPLAYED), looked=5)

    seen = unseen(evidence, at(8), PACE)

    assert (seen.looked_at, seen.negative_looks) == (at(8), 0)


def test_looks_after_a_no_do_not_count_towards_another_key() -> None:
    """A no is never followed by another key; the time of the last look is all that matters."""
    evidence = known((0, UNCLEAR), (24 * HOUR, NOT_ALLOWED))

    for seconds in (1, 2):
        evidence = unseen(evidence, at(24 * HOUR + seconds), PACE)

    assert (evidence.looked_at, evidence.negative_looks) == (at(24 * HOUR + 2), 0)


def test_looks_written_out_of_order_leave_the_later_one() -> None:
    """Two processes may look at a payment, and the one that began first may write last."""
    evidence = known(looked=5)

    assert unseen(evidence, at(4), PACE) == evidence


def test_every_kind_of_answer_is_either_a_no_or_in_doubt_or_not_sent() -> None:
    """An answer added later is in doubt until somebody says otherwise."""
    ambiguous = {answer for answer in (*Answer, None) if Attempt(1, PROMISED, answer).ambiguous}

    assert ambiguous == {None, Answer.DONE, Answer.ACCEPTED, IN_PROGRESS, UNCLEAR, REPLAYED}


def test_what_the_platform_accepted_is_never_sent_again() -> None:
    """Its answer named no operation: a look finds it, or a person is asked after a settling time."""
    sent = known((0, Answer.ACCEPTED))
    missed = known((0, Answer.ACCEPTED), looked=HOUR + 1)

    assert decide(sent, at(2), PACE) == Settle(OperationState.ACCEPTED, None)
    assert decide(replace(sent, looked_at=at(HOUR - 1)), at(HOUR), PACE) == Settle(OperationState.ACCEPTED, None)
    assert isinstance(decide(missed, at(HOUR + 2), PACE), Review)


def test_a_question_to_a_person_tells_the_evidence() -> None:
    """How often and when it was sent, what was answered, when it was looked for, and what else could be it."""
    evidence = known((0, UNCLEAR), (60, DIED), kind=REFUND, looked=24 * HOUR, negative=2, candidates=1)

    action = decide(evidence, at(24 * HOUR + 9), PACE)

    assert action == Review(
        "Has this refund been made? It may have been sent 2 times, from 2026-11-23 12:00:00 to 2026-11-23 12:01:00 "
        "UTC; last answers: unclear, nobody knows. A look at 2026-11-24 12:00:00 UTC showed nothing that carries our "
        "reference. Movements without a reference that could be it: 1."
    )


def test_a_refusal_tells_why() -> None:
    """The reason is what the operation shows for ever after."""
    reasons = {
        decide(evidence, at(24 * HOUR), PACE).reason
        for evidence in (
            known((1, REFUSED)),
            known((1, NOT_ALLOWED), looked=3),
            known((1, DIED), (9, NOT_ALLOWED), looked=11, covered=False),
            replace(known(covered=False), planned_at=at(24 * HOUR)),
            known((0, DIED), looked=24 * HOUR, negative=2, covered=False),
        )
    }

    assert reasons == {
        "the platform refused it",
        "the platform does not allow it where the payment stands",
        "the platform does not allow it where the payment stands, and nothing of it was found",
        "the payment no longer leaves room for it",
        "it was not done, and the payment no longer leaves room for it",
    }


def test_a_renewal_says_that_it_was_not_done() -> None:
    """The journal tells why another key was taken."""
    action = decide(known((0, UNCLEAR), looked=24 * HOUR, negative=2), at(25 * HOUR), PACE)

    assert isinstance(action, Renew)
    assert "not done" in action.reason
