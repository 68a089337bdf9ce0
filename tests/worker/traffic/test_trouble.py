"""Whose trouble a failed look is: the payment's own, or its platform's."""

import pytest

from worker.traffic import trouble
from worker.traffic.trouble import Troubles

POISON = 666


def answered(troubles: Troubles, *subjects: int, merchant_id: str = "acme") -> None:
    for subject in subjects:
        troubles.answered(merchant_id, subject)


def test_a_payment_that_fails_while_others_are_answered_for_has_trouble_of_its_own() -> None:
    """Five others had an answer, none failed."""
    troubles = Troubles()
    answered(troubles, *range(5))

    assert troubles.failed("acme", POISON)


@pytest.mark.parametrize("others", [(), (1, 2, 3, 4), (1, 1, 1, 1, 1, 1), (POISON, 1, 2, 3, 4)])
def test_without_enough_others_nobody_knows_whose_trouble_it_is(others: tuple[int, ...]) -> None:
    """Few payments, or the payment's own earlier answers, do not tell."""
    troubles = Troubles()
    answered(troubles, *others)

    assert not troubles.failed("acme", POISON)


def test_its_own_answer_does_not_push_the_others_out() -> None:
    """A payment that is answered for and fails in turns is compared with five others all the same."""
    troubles = Troubles()
    answered(troubles, 1, 2, 3, 4, 5, POISON)

    assert troubles.failed("acme", POISON)


def test_many_that_fail_are_the_trouble_of_the_platform() -> None:
    """A part of it is away: it answers for others, and yet nothing is wrong with any of these."""
    troubles = Troubles()
    answered(troubles, *range(50))

    verdicts = [troubles.failed("acme", POISON + number) for _ in range(3) for number in range(6)]

    assert verdicts == [True] * 5 + [False] * 13


def test_a_payment_that_is_answered_for_again_fails_no_more() -> None:
    """Those that recovered do not count among the failing."""
    troubles = Troubles()
    for number in range(5):
        troubles.failed("acme", number)
    answered(troubles, *range(5))

    assert troubles.failed("acme", POISON)


def test_what_was_long_ago_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither answers from before an outage, nor failures in one that is over."""
    troubles = Troubles()
    for number in range(5):
        troubles.failed("acme", POISON + 1 + number)
    answered(troubles, *range(5))
    clock = trouble.time.monotonic()
    monkeypatch.setattr(trouble.time, "monotonic", lambda: clock + trouble.MEANWHILE_SECONDS + 10)

    long_after = troubles.failed("acme", POISON)
    answered(troubles, *range(5))

    assert not long_after
    assert troubles.failed("acme", POISON)


def test_one_merchants_answers_say_nothing_of_another() -> None:
    """Each has credentials and payments of its own."""
    troubles = Troubles()
    answered(troubles, *range(5), merchant_id="other")

    assert not troubles.failed("acme", POISON)


def test_it_stays_small() -> None:
    """However many payments fail in however long an outage."""
    troubles = Troubles()
    for number in range(1000):
        troubles.failed("acme", number)
        troubles.answered("acme", 1000 + number)

    assert len(troubles._failing["acme"]) <= 6
    assert len(troubles._answered["acme"]) <= 6
