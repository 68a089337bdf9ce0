"""When a payment is looked at next: the table of states and the back-offs."""

import pytest

from tests.worker.conftest import settings_of
from worker.lifecycle import PaymentState
from worker.reconciliation import polling

HOUR, DAY = 3600.0, 86400.0

SETTINGS = settings_of()


@pytest.mark.parametrize(
    ("state", "moving", "age", "expected"),
    [
        (PaymentState.CREATED, False, 0, 15),
        (PaymentState.PENDING, False, 60, 60),
        (PaymentState.PENDING, False, DAY, 900),
        (PaymentState.CREATED, False, 7 * DAY, 900),
        (PaymentState.CREATED, False, 7 * DAY + 1, DAY),
        (PaymentState.PENDING, False, 30 * DAY, DAY),
        (PaymentState.PENDING, False, 30 * DAY + 1, None),
        (PaymentState.AUTHORISED, False, 0, HOUR),
        (PaymentState.AUTHORISED, False, 400 * DAY, HOUR),
        (PaymentState.CAPTURED, False, 29 * DAY, DAY),
        (PaymentState.CAPTURED, False, 30 * DAY, None),
        (PaymentState.REFUNDED, False, 0, None),
        (PaymentState.CANCELLED, False, 0, None),
        (PaymentState.REJECTED, False, 0, None),
        (PaymentState.AUTHORISED, True, 0, 15),
        (PaymentState.CAPTURED, True, 200, 200),
        (PaymentState.REFUNDED, True, 90 * DAY, 900),
    ],
)
def test_the_next_look_is_told_by_state_and_age(
    state: PaymentState, moving: bool, age: float, expected: float | None
) -> None:
    """What is under way is looked at often, less so with its age, what has ended never, and nothing too late."""
    looks = {polling.next_look(state, moving=moving, age=age, settings=SETTINGS) for _ in range(50)}

    if expected is None:
        assert looks == {None}
    else:
        assert all(look is not None and 0.8 * expected <= look <= expected for look in looks)
        assert len(looks) > 1  # what began together does not stay together


def test_every_state_has_an_answer() -> None:
    """A state added to the lifecycle is polled for, or ends, on purpose."""
    ends = {
        state for state in PaymentState if polling.next_look(state, moving=False, age=0.0, settings=SETTINGS) is None
    }

    assert ends == {PaymentState.REFUNDED, PaymentState.CANCELLED, PaymentState.REJECTED}


def test_the_intervals_are_settings() -> None:
    """Tests and impatient people shorten them."""
    short = settings_of(poll_moving_seconds=(0.1, 0.2), poll_authorised_seconds=0.3, poll_captured_seconds=0.4)

    def next_look(state: PaymentState, age: float) -> float:
        return polling.next_look(state, moving=False, age=age, settings=short) or 0.0

    assert 0.08 <= next_look(PaymentState.PENDING, 0) <= 0.1
    assert 0.16 <= next_look(PaymentState.PENDING, 60) <= 0.2
    assert 0.24 <= next_look(PaymentState.AUTHORISED, 0) <= 0.3
    assert 0.32 <= next_look(PaymentState.CAPTURED, 0) <= 0.4


def test_a_failed_look_is_tried_again_ever_later_up_to_the_cap() -> None:
    """Doubling from one second, but never within the gap; the cap holds for any number of failures."""
    expected = {1: 1, 2: 2, 3: 4, 6: 32, 7: 45, 8: 45, 100: 45, 32_767: 45}

    waits = {failures: polling.retry(failures, SETTINGS) for failures in expected}

    gap = SETTINGS.gap_seconds
    assert all(max(0.8 * wait, gap) <= waits[failures] <= max(wait, gap) for failures, wait in expected.items())


def test_an_unknown_payment_is_given_up_after_its_tries() -> None:
    """Four waits that grow to an hour, then a person looks."""
    waits = [polling.unknown_retry(failures) for failures in range(1, 7)]

    assert waits[4:] == [None, None]
    for wait, expected in zip(waits[:4], (30, 120, 600, 3600), strict=True):
        assert wait is not None
        assert 0.8 * expected <= wait <= expected
