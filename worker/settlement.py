"""What to do next with an operation, given all that is known of it: pure, so that the proofs can drive it.

docs/settlement.md tells the algorithm in words, what it takes for granted of the platform, and what each rule is for.
"""

import enum
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property

from worker.lifecycle import MovementKind, MovementState, OperationState

#: So many times the same kept 5xx, and the key will not give another answer: it is spent before its time.
REPLAYS_THAT_SPEND_A_KEY = 3

#: A look may come before the effect it looks for, or read a list that lags: one alone is no evidence.
NEGATIVE_LOOKS = 2


class Answer(enum.StrEnum):
    """What came of one attempt; None in its place: possibly sent, and nobody knows, for its process died."""

    DONE = "done"  # a usable 2xx: the movement is known
    ACCEPTED = "accepted"  # a 2xx that says it has it and names no operation: a look tells which one it is
    NOT_SENT = "not_sent"  # nothing was done: the connection was refused, or we were turned away first (401, 403)
    REFUSED = "refused"  # a definitive no (402, 400, declined, 404 unknown payment)
    NOT_ALLOWED = "not_allowed"  # a definitive no because of where the payment stands (409 other, ACTION_NOT_ALLOWED)
    IN_PROGRESS = "in_progress"  # 409: the first request with this key still runs
    UNCLEAR = "unclear"  # time-out, reset, 5xx, 429, unusable 2xx: money may have moved
    REPLAYED_ERROR = "replayed_error"  # a 5xx kept under the key and replayed


NO = frozenset({Answer.REFUSED, Answer.NOT_ALLOWED})


@dataclass(frozen=True)
class Attempt:
    """One request that may have left; written before it leaves."""

    generation: int
    started_at: datetime
    answer: Answer | None

    @property
    def ambiguous(self) -> bool:
        """Whether money may have moved without our knowing of it."""
        return self.answer is not Answer.NOT_SENT and self.answer not in NO


@dataclass(frozen=True)
class Evidence:
    """All that is known of an operation.

    Args:
        kind: what it is.
        planned_at: when it was promised.
        generation: which idempotence key it is at; rises with each `Renew`.
        attempts: oldest first, of all generations.
        movement: what became of our movement, found by our reference or by the id an answer named; None when none
            is known.
        looked_at: when the last clean, complete look that showed nothing of ours *began*; while such looks are being
            counted, the last that counted. `unseen` keeps it.
        negative_looks: such looks that counted in this generation; none again after a `Renew`. `unseen` keeps it.
        candidates: movements without any reference that could be ours: same kind, amount and currency, linked to
            nothing, first seen since the first send (the promise, where no send is known), and since a person last
            decided.
        covered: whether the movements the platform listed, as last seen, leave room for it; what we have only
            promised takes none, or "no room" would not prove that ours did not move.
    """

    kind: MovementKind
    planned_at: datetime
    generation: int
    attempts: tuple[Attempt, ...]
    movement: MovementState | None
    looked_at: datetime | None
    negative_looks: int
    candidates: int
    covered: bool

    @cached_property
    def sent(self) -> tuple[Attempt, ...]:
        """The attempts that may have reached the platform."""
        return tuple(attempt for attempt in self.attempts if attempt.answer is not Answer.NOT_SENT)

    @cached_property
    def sent_with_this_key(self) -> tuple[Attempt, ...]:
        return tuple(attempt for attempt in self.sent if attempt.generation == self.generation)

    def looked_since(self, moment: datetime) -> bool:
        """Whether a clean look began after a moment; one that was under way by then may have missed what came of it."""
        return self.looked_at is not None and self.looked_at > moment


@dataclass(frozen=True)
class Pace:
    """How long things take, in seconds; see the settings of the same names."""

    key_seconds: float = 23 * 3600  # how long the platform is trusted to honour an idempotence key: it says 24 hours
    settling_seconds: float = 3600  # longer than the platform's latest effect and the lag of its lists
    stale_seconds: float = 3600  # a first send of something older is looked up first: the record may be a restored dump
    retry_max_seconds: float = 45
    unknown_max_seconds: float = 900


@dataclass(frozen=True)
class Settle:
    """It is known what became of it."""

    state: OperationState
    reason: str | None


@dataclass(frozen=True)
class Look:
    """Look at the payment at ``due``, now if that has passed; nothing is sent before."""

    due: datetime


@dataclass(frozen=True)
class Send:
    """Send it at ``due``, now if that has passed, with the key of its generation and the bytes of the first time."""

    due: datetime


@dataclass(frozen=True)
class Renew:
    """It was never done and its key is spent: it is planned again, a generation on, its negative looks none again."""

    reason: str


@dataclass(frozen=True)
class Review:
    """A person must decide."""

    question: str


Action = Settle | Look | Send | Renew | Review

OUTCOMES = {
    MovementState.DONE: Settle(OperationState.SUCCEEDED, None),
    MovementState.REFUSED: Settle(OperationState.REFUSED, "the platform accepted it and refused it later"),
    MovementState.PENDING: Settle(OperationState.ACCEPTED, None),
}


def decide(evidence: Evidence, now: datetime, pace: Pace) -> Action:
    """What to do next with an operation that is promised and not settled.

    Args:
        evidence: all that is known of it.
        now: the database's clock.
        pace: the intervals.
    """
    if evidence.movement is not None:
        return OUTCOMES[evidence.movement]
    if not evidence.sent_with_this_key:
        return _unsent(evidence, now, pace)
    last = evidence.sent_with_this_key[-1]
    if last.answer is Answer.ACCEPTED:
        return _accepted(evidence, last, pace)
    if last.answer in NO:
        return _after_a_no(evidence, pace)
    return _in_doubt(evidence, now, pace)


def unseen(evidence: Evidence, at: datetime, pace: Pace) -> Evidence:
    """What is known after a clean, complete look that showed nothing of ours.

    A look counts towards giving a key up when it began after the key stopped protecting and after the last attempt,
    and a settling time after the last that counted; whoever looks in between changes nothing.

    Args:
        evidence: what was known before.
        at: when the look began.
        pace: the intervals.
    """
    sent = evidence.sent_with_this_key
    counts = (
        bool(sent)
        and sent[-1].ambiguous
        and at > evidence.attempts[-1].started_at
        and not _protected(evidence, at, pace)
    )
    if not counts:
        return replace(evidence, looked_at=max(at, evidence.looked_at or at))
    if evidence.negative_looks and at < _counts_again(evidence, pace):
        return evidence
    return replace(evidence, looked_at=at, negative_looks=evidence.negative_looks + 1)


def _unsent(evidence: Evidence, now: datetime, pace: Pace) -> Action:
    """Nothing has left with this key, so far as we know: only of something young do we know it for certain."""
    if now - evidence.planned_at > timedelta(seconds=pace.stale_seconds):
        if not evidence.looked_since(now - timedelta(seconds=pace.stale_seconds)):
            return Look(now)
        if evidence.candidates:
            return Review(_question(evidence))
    if not evidence.covered:
        return Settle(OperationState.REFUSED, "the payment no longer leaves room for it")
    return Send(_paused(evidence, pace) if evidence.attempts else now)


def _accepted(evidence: Evidence, last: Attempt, pace: Pace) -> Action:
    """The platform has it: never sent again. Should its lists not show it after all, a person must find out why."""
    if evidence.looked_since(last.started_at + timedelta(seconds=pace.settling_seconds)):
        return Review(_question(evidence))
    return Settle(OperationState.ACCEPTED, None)


def _after_a_no(evidence: Evidence, pace: Pace) -> Action:
    """The platform has said no, of this attempt: an earlier one may have moved the money, and be the reason."""
    last = evidence.sent_with_this_key[-1]
    doubts = [attempt for attempt in evidence.sent if attempt.ambiguous]
    if last.answer is Answer.REFUSED and not doubts:
        return Settle(OperationState.REFUSED, "the platform refused it")
    looked_at = evidence.looked_at
    if looked_at is None or looked_at <= last.started_at:
        return Look(_paused(evidence, pace))
    if doubts:
        believed = doubts[-1].started_at + timedelta(seconds=pace.settling_seconds)
        # The platform sees a reason that its lists do not show: it may be our own attempt, not listed yet.
        unexplained = last.answer is Answer.NOT_ALLOWED and evidence.covered
        if unexplained and looked_at < believed:
            return Look(believed)
        if evidence.candidates:
            return Review(_question(evidence))
    reason = "refused it" if last.answer is Answer.REFUSED else "does not allow it where the payment stands"
    found = ", and nothing of it was found" if doubts else ""
    return Settle(OperationState.REFUSED, f"the platform {reason}{found}")


def _in_doubt(evidence: Evidence, now: datetime, pace: Pace) -> Action:
    """Money may have moved: look; while its key protects, ask again with it; then only looks tell."""
    if not evidence.looked_since(evidence.attempts[-1].started_at):
        return Look(_paused(evidence, pace))
    if _protected(evidence, now, pace):
        return Send(now)
    if evidence.negative_looks < NEGATIVE_LOOKS:
        return Look(_counts_again(evidence, pace) if evidence.negative_looks else now)
    if evidence.candidates:
        return Review(_question(evidence))
    if not evidence.covered:
        return Settle(OperationState.REFUSED, "it was not done, and the payment no longer leaves room for it")
    if evidence.kind is MovementKind.CAPTURE:
        return Renew(
            "it was not done: its key no longer protects, and looks a settling time apart showed nothing of it"
        )
    return Review(_question(evidence))


def _protected(evidence: Evidence, at: datetime, pace: Pace) -> bool:
    """Whether the platform would answer for the first request with this key rather than carry out another."""
    sent = evidence.sent_with_this_key
    replays = sum(attempt.answer is Answer.REPLAYED_ERROR for attempt in sent)
    honoured_until = sent[0].started_at + timedelta(seconds=pace.key_seconds)
    return at < honoured_until and replays < REPLAYS_THAT_SPEND_A_KEY


def _counts_again(evidence: Evidence, pace: Pace) -> datetime:
    """When a look may begin to count beside the last that did."""
    assert evidence.looked_at is not None
    return evidence.looked_at + timedelta(seconds=pace.settling_seconds)


def _paused(evidence: Evidence, pace: Pace) -> datetime:
    """When the next step after the last attempt is due: the longer, the more often it has been in vain."""
    last, in_vain, not_sent = evidence.attempts[-1], 0, 0
    for attempt in reversed(evidence.attempts):
        if attempt.answer in NO or attempt.generation != evidence.generation:
            break
        in_vain += attempt.ambiguous
        not_sent += not in_vain
    if not_sent:
        seconds = min(2.0 ** min(not_sent - 1, 16), pace.retry_max_seconds)
    elif in_vain <= 1 and last.answer is not Answer.IN_PROGRESS:
        seconds = 2.0
    else:
        seconds = min(5.0 * 2.0 ** min(max(in_vain - 2, 0), 16), pace.unknown_max_seconds)
    return last.started_at + timedelta(seconds=seconds)


def _question(evidence: Evidence) -> str:
    """What a person is asked, with what speaks for and against."""
    sent = evidence.sent
    told = ", ".join(attempt.answer or "nobody knows" for attempt in sent[-5:])
    story = [
        f"Has this {evidence.kind} been made?",
        f"It may have been sent {_when(sent)} UTC; last answers: {told}." if sent else "No attempt is on record.",
        f"A look at {evidence.looked_at:%Y-%m-%d %H:%M:%S} UTC showed nothing that carries our reference."
        if evidence.looked_at
        else "",
        f"Movements without a reference that could be it: {evidence.candidates}.",
    ]
    return " ".join(filter(None, story))


def _when(sent: tuple[Attempt, ...]) -> str:
    first, last = (f"{attempt.started_at:%Y-%m-%d %H:%M:%S}" for attempt in (sent[0], sent[-1]))
    return f"once, at {first}" if len(sent) == 1 else f"{len(sent)} times, from {first} to {last}"
