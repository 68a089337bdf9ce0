"""The policy that captures some time after the authorisation."""

from datetime import timedelta

import pytest

from tests.worker.policies.conftest import NOW, MakePayment
from worker.policies import MovementKind, PaymentState, Policy, Wanted, open_policies

A_SECOND = timedelta(seconds=1)
ALL_THAT_IS_LEFT = Wanted(MovementKind.CAPTURE, amount=None, is_final=True)


@pytest.fixture
def policy() -> Policy:
    (policy,) = open_policies("capture-after:2d")
    return policy


def test_it_is_asked_again_when_its_delay_is_over(policy: Policy, payment: MakePayment) -> None:
    """Two days after the payment was authorised, however often it was looked at before."""
    seen = payment(authorised_at=NOW - timedelta(hours=1))

    assert not policy.wants(seen)
    assert policy.asks_at(seen) == NOW + timedelta(days=2, hours=-1)


def test_it_captures_all_that_is_left_once_its_delay_is_over(policy: Policy, payment: MakePayment) -> None:
    """From the very moment it asked for, and not a second before."""
    assert policy.name == "capture-after"
    assert list(policy.wants(payment(authorised_at=NOW - timedelta(days=2)))) == [ALL_THAT_IS_LEFT]
    assert list(policy.wants(payment(authorised_at=NOW - timedelta(days=9)))) == [ALL_THAT_IS_LEFT]
    assert not policy.wants(payment(authorised_at=NOW - timedelta(days=2) + A_SECOND))


def test_once_due_it_asks_for_no_time(policy: Policy, payment: MakePayment) -> None:
    """What it wanted is promised or refused by then: a time that has passed would ring for the payment for ever."""
    assert policy.asks_at(payment(authorised_at=NOW - timedelta(days=2))) is None
    assert policy.asks_at(payment(authorised_at=NOW - timedelta(days=9))) is None


@pytest.mark.parametrize(
    "facts",
    [{"remainder": 0}, {"state": PaymentState.CANCELLED, "status_code": 6}, {"status_code": 91}],
    ids=["nothing left", "cancelled", "a capture under way"],
)
def test_a_payment_that_cannot_be_captured_is_left_alone(
    policy: Policy, payment: MakePayment, facts: dict[str, object]
) -> None:
    """Before its delay is over and after."""
    early, late = payment(**facts), payment(**facts, authorised_at=NOW - timedelta(days=2))

    assert [policy.asks_at(early), policy.asks_at(late)] == [None, None]
    assert not policy.wants(early)
    assert not policy.wants(late)


def test_the_delay_of_a_payment_just_seen_authorised_begins_now(policy: Policy, payment: MakePayment) -> None:
    """The look that first sees it is the moment, whether or not its record says so yet."""
    seen = payment(authorised_at=None)

    assert not policy.wants(seen)
    assert policy.asks_at(seen) == NOW + timedelta(days=2)


@pytest.mark.parametrize(
    ("written", "delay"),
    [
        ("45s", timedelta(seconds=45)),
        ("90m", timedelta(minutes=90)),
        ("36h", timedelta(hours=36)),
        ("999999d", timedelta(days=999_999)),
    ],
)
def test_a_delay_has_its_unit(payment: MakePayment, written: str, delay: timedelta) -> None:
    """Seconds, minutes, hours or days; the longest that can be written is still a time."""
    (policy,) = open_policies(f"capture-after:{written}")

    assert policy.asks_at(payment(authorised_at=NOW)) == NOW + delay
