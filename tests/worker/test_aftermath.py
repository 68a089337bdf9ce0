"""What follows from a look of our own accord: policies asked, and what they want promised with the record, once."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.worker.conftest import MERCHANT, FakePlatform, moved, view_of
from tests.worker.till import PAYMENT, Till
from worker.database import Database
from worker.gateways.gateway import Refused
from worker.lifecycle import MovementKind, MovementState
from worker.operations.people import withdraw
from worker.operations.requests import read
from worker.policies import PaymentFacts, Policy, Wanted
from worker.policies.capture_after import CaptureAfter
from worker.policies.capture_when_authorised import CaptureWhenAuthorised
from worker.policies.manual import Manual
from worker.settings import Settings

CAPTURE, CANCEL = MovementKind.CAPTURE, MovementKind.CANCEL
REFUSED, PENDING = MovementState.REFUSED, MovementState.PENDING

TillWith = Callable[..., Till]


class Wants(Policy):
    """A policy that wants what it was told, and remembers what it was shown."""

    def __init__(self, name: str, *wanted: Wanted):
        self.name, self.wanted = name, wanted
        self.shown: list[PaymentFacts] = []

    def wants(self, payment: PaymentFacts) -> Sequence[Wanted]:
        self.shown.append(payment)
        return self.wanted


@pytest.fixture
def till_with(database: Database, platform: FakePlatform, settings: Settings) -> TillWith:
    """A process whose merchant has these policies."""
    return lambda *policies: Till(database, platform, settings, policies)


def test_a_promise_is_written_with_what_was_seen(till_with: TillWith, platform: FakePlatform) -> None:
    """One transaction: the payment authorised, its capture planned, and rung for."""
    till = till_with(CaptureWhenAuthorised())

    follow = till.look()

    (operation,) = till.operations()
    assert (till.payment().state, operation.state, operation.kind) == ("authorised", "planned", "capture")
    assert (operation.amount, operation.currency, operation.is_final) == (1000, "EUR", True)
    assert (operation.source, operation.request_id) == ("policy:capture-when-authorised", f"{PAYMENT}:capture:1")
    assert follow is not None
    assert follow.operation_keys == (operation.operation_key,)
    assert till.actors(operation.operation_key)[0] == "policy:capture-when-authorised"

    till.step(operation.operation_key)

    assert [(order.kind, order.amount) for order in platform.sent] == [(CAPTURE, 1000)]


def test_a_look_that_lost_its_claim_promises_nothing(till_with: TillWith, platform: FakePlatform) -> None:
    """Record and promise, or neither."""
    till = till_with(CaptureWhenAuthorised())

    def another_takes_over() -> None:
        with till.database.transaction() as connection:
            connection.exec_driver_sql("UPDATE payments SET claim_token = 'another'")

    platform.during = another_takes_over

    till.look()

    assert till.payment().state == "created"
    assert till.operations() == []


def test_what_was_promised_is_promised_once(till_with: TillWith, platform: FakePlatform) -> None:
    """However often the payment is looked at, before it is sent, after, and when it is done."""
    till = till_with(CaptureWhenAuthorised())
    till.look()
    till.look()
    (key,) = (one.operation_key for one in till.operations())
    till.step(key)
    till.look()
    platform.truth[PAYMENT] = view_of(PAYMENT, replace(till.platform.truth[PAYMENT].movements[0], status_code=9))
    till.look()

    assert len(till.operations()) == len(platform.sent) == 1


@pytest.mark.parametrize("code", [0, 51, 9, 6, 2, 91, 92])
def test_a_payment_that_is_not_authorised_is_left_alone(till_with: TillWith, platform: FakePlatform, code: int) -> None:
    """Nor one on which something is under way that may not be listed yet."""
    platform.truth[PAYMENT] = view_of(PAYMENT, code=code)
    till = till_with(CaptureWhenAuthorised())

    till.look()

    assert till.operations() == []


@pytest.mark.parametrize("how", ["answer", "later"])
def test_a_refused_capture_is_not_promised_again_and_the_payment_says_why(
    till_with: TillWith, platform: FakePlatform, how: str
) -> None:
    """Asking again is a person's, who sees the problem, look after look, until the money is gone."""
    till = till_with(CaptureWhenAuthorised())
    till.look()
    (key,) = (one.operation_key for one in till.operations())
    if how == "answer":
        platform.refusals.append(Refused("HTTP 402 30511001", http_status=402))
    till.step(key)
    if how == "later":
        capture = replace(platform.truth[PAYMENT].movements[0], state=REFUSED, status_code=93)
        platform.truth[PAYMENT] = view_of(PAYMENT, capture, code=93)

    for _ in range(3):
        till.look()

    problem = till.payment().problem
    assert till.states() == ["refused"]
    assert len(platform.sent) == 1
    assert "the capture wanted by policy:capture-when-authorised was refused" in problem
    assert ("30511001" if how == "answer" else "the platform says 93") in problem
    assert "not asked for again by itself" in problem
    assert till.ledger().remainder() == 1000

    till.sent(CAPTURE)
    done = replace(platform.truth[PAYMENT].movements[-1], state=MovementState.DONE)
    platform.truth[PAYMENT] = view_of(PAYMENT, done, *platform.truth[PAYMENT].movements[:-1], code=9)
    till.look()

    assert (till.payment().state, till.payment().problem) == ("captured", None)


def test_a_withdrawn_promise_is_not_made_again(till_with: TillWith) -> None:
    """Somebody took it back."""
    till = till_with(CaptureWhenAuthorised())
    till.look()
    (key,) = (one.operation_key for one in till.operations())
    with till.database.transaction() as connection:
        withdraw(connection, key, actor="anna", why="ordered twice")

    till.look()

    assert till.states() == ["withdrawn"]


# Later.


def test_a_delay_is_when_the_payment_is_due(till_with: TillWith, platform: FakePlatform) -> None:
    """Asked again then and not before, though the payment is looked at for other reasons meanwhile."""
    till = till_with(CaptureAfter(timedelta(minutes=20)))

    till.look()
    till.pass_time(600)
    till.look()

    payment = till.payment()
    assert till.operations() == []
    assert payment.policy_at == payment.authorised_at + timedelta(minutes=20)
    assert payment.due_at == payment.policy_at

    till.pass_time(601)
    till.look()

    payment = till.payment()
    assert till.states() == ["planned"]
    assert payment.policy_at is None
    assert payment.due_at is not None


def test_a_payments_own_poll_comes_first_where_it_is_sooner(till_with: TillWith) -> None:
    """Two days' delay is not two days without a look."""
    till = till_with(CaptureAfter(timedelta(days=2)))

    till.look()

    payment = till.payment()
    assert payment.policy_at > payment.due_at
    assert payment.due_at - payment.refreshed_at <= timedelta(hours=1)


def test_what_was_captured_meanwhile_is_not_asked_about_any_more(till_with: TillWith, platform: FakePlatform) -> None:
    """The time of a policy that wants nothing more is forgotten."""
    till = till_with(CaptureAfter(timedelta(minutes=20)))
    till.look()
    platform.truth[PAYMENT] = view_of(PAYMENT, moved(f"{PAYMENT}_1", CAPTURE, 1000), code=9)

    till.look()

    assert till.payment().policy_at is None


# Several, and what they are shown.


def test_several_are_asked_in_order_and_capacity_decides(till_with: TillWith) -> None:
    """The first has what it wants, the next what is left, the last nothing: not even a refusal."""
    first, second = Wants("one", Wanted(CAPTURE, amount=700)), Wants("two", Wanted(CAPTURE))
    third = Wants("three", Wanted(CAPTURE, amount=1))
    till = till_with(first, second, third)

    till.look()

    assert [(one.source, one.amount, one.state) for one in till.operations()] == [
        ("policy:one", 700, "planned"),
        ("policy:two", 300, "planned"),
    ]


def test_requests_of_others_come_before_policies(till_with: TillWith) -> None:
    """Who asked by name has the money; what is left is the policy's."""
    till = till_with(CaptureWhenAuthorised())
    key = till.ask(CAPTURE, 400)

    till.look()

    asked, wanted = till.operations()
    assert (asked.operation_key, asked.amount, asked.state) == (key, 400, "planned")
    assert (wanted.amount, wanted.state) == (600, "planned")


def test_one_policy_may_want_one_of_each_kind(till_with: TillWith) -> None:
    """Each has a name of its own."""
    till = till_with(Wants("own", Wanted(CAPTURE, amount=700), Wanted(CANCEL, amount=300)))

    till.look()
    till.look()

    assert [one.request_id for one in till.operations()] == [f"{PAYMENT}:capture:1", f"{PAYMENT}:cancel:1"]


def test_policies_see_what_is_left_after_promises(till_with: TillWith, platform: FakePlatform) -> None:
    """The remainder knows of ours that the platform does not list yet."""
    policy = Wants("own")
    till = till_with(policy)
    till.look()
    till.asked(CAPTURE, 400)
    platform.truth[PAYMENT] = view_of(PAYMENT, moved(f"{PAYMENT}_1", CAPTURE, 100, PENDING))

    till.look()

    assert policy.shown[0].remainder == 1000
    last = policy.shown[-1]
    assert (last.remainder, last.amount_capture_pending, last.merchant_id) == (500, 100, MERCHANT)
    assert (last.authorised_at is None, last.now.tzinfo is None) == (False, False)


def test_manual_wants_nothing(till_with: TillWith) -> None:
    """And is due for nothing."""
    till = till_with(Manual())

    till.look()

    assert till.operations() == []
    assert till.payment().policy_at is None


# Names that were taken.


def test_nobody_can_stand_in_a_policys_place(till_with: TillWith) -> None:
    """A request from outside with a policy's name is refused; the payment is looked at, and the policy has its way."""
    till = till_with(CaptureWhenAuthorised())
    outsider = till.ask(CAPTURE, source="policy:capture-when-authorised", request_id=f"{PAYMENT}:capture:1")

    till.look()

    assert till.state(outsider) == "refused"
    assert till.payment().state == "authorised"
    assert [one.state for one in till.operations() if one.source.startswith("policy:")] == ["planned"]


def test_what_a_policy_had_done_before_the_backup_is_found_again(till_with: TillWith, platform: FakePlatform) -> None:
    """The platform lists its capture: it is asked for, found under its name, and not sent a second time."""
    till = till_with(Wants("own", Wanted(CAPTURE, amount=300)))
    given = {"payment_id": PAYMENT, "source": "policy:own", "request_id": f"{PAYMENT}:capture:1"}
    reference = str(read(CAPTURE, given, {MERCHANT}, unnamed="m", ours=True).uuid())
    platform.truth[PAYMENT] = view_of(PAYMENT, replace(moved(f"{PAYMENT}_1", CAPTURE, 300), reference=reference))

    till.look()
    (key,) = (one.operation_key for one in till.operations())
    till.step(key)
    till.look()
    till.step(key)

    assert (till.state(key), till.row(key).amount) == ("succeeded", 300)
    assert platform.sent == []
