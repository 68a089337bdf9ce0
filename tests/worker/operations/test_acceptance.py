"""Which requests are promised: what is left of a payment's money, who has it already, and who comes too late."""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import DBAPIError

from tests.worker.conftest import MERCHANT, FakePlatform, moved, view_of
from tests.worker.till import PAYMENT, Till
from worker.database import Database, DatabaseUnavailable, now
from worker.gateways.gateway import Movement as Listed
from worker.lifecycle import MovementKind, MovementState
from worker.models import Movement
from worker.operations.acceptance import accept_requested
from worker.operations.ledger import open_ledger
from worker.operations.requests import read
from worker.operations.settling import WAITING_SECONDS
from worker.settings import Settings

CAPTURE, REFUND, CANCEL = MovementKind.CAPTURE, MovementKind.REFUND, MovementKind.CANCEL
PENDING, DONE, REFUSED = MovementState.PENDING, MovementState.DONE, MovementState.REFUSED


def listed(number: int, kind: MovementKind, amount: int, state: MovementState = DONE) -> Listed:
    """A movement of somebody else's making."""
    return moved(f"{PAYMENT}_{number}", kind, amount, state)


def accept(till: Till) -> None:
    """Decide on the requests by the record alone, as nothing but a look would change it."""
    with till.database.transaction() as connection:
        ledger = open_ledger(connection, till.payment().payment_key)
        accept_requested(connection, ledger, looked_at=ledger.payment.at)


@pytest.mark.parametrize("kind", [CAPTURE, CANCEL])
def test_what_is_covered_is_promised(till: Till, kind: MovementKind) -> None:
    """Planned, with amount, currency and the time of the promise, and due at once."""
    operation = till.asked(kind, 400)

    assert (operation.state, operation.kind, operation.amount, operation.currency) == ("planned", kind, 400, "EUR")
    assert operation.planned_at is not None
    assert (till.due_in(operation.operation_key) or 0) <= 0
    assert operation.idempotence_key is None
    assert [line[:2] for line in till.story(operation.operation_key)] == [(None, "requested"), ("requested", "planned")]


@pytest.mark.parametrize(
    ("movements", "left"),
    [
        ((), 1000),
        ((listed(1, CAPTURE, 300),), 700),
        ((listed(1, CAPTURE, 300, PENDING),), 700),
        ((listed(1, CAPTURE, 300, REFUSED),), 1000),
        ((listed(1, CANCEL, 300),), 700),
        ((listed(1, CANCEL, 300, PENDING),), 700),
        ((listed(1, CANCEL, 300, REFUSED),), 1000),
        ((listed(1, CAPTURE, 300), listed(2, REFUND, 300)), 700),
        ((listed(1, CAPTURE, 300), listed(2, CANCEL, 200, PENDING)), 500),
    ],
)
@pytest.mark.parametrize("kind", [CAPTURE, CANCEL])
def test_anybodys_captures_and_cancellations_take_from_what_is_authorised(
    till: Till, platform: FakePlatform, kind: MovementKind, movements: tuple[Listed, ...], left: int
) -> None:
    """Pending as well as done, refused no longer, refunds never; one cent more than is left is refused."""
    platform.truth[PAYMENT] = view_of(PAYMENT, *movements)

    too_much, all_of_it = till.asked(kind, left + 1), till.asked(kind)

    assert too_much.state == "refused"
    assert f"{left + 1} EUR asked for, and {left} of the payment" in too_much.reason
    assert (all_of_it.state, all_of_it.amount) == ("planned", left)


@pytest.mark.parametrize(
    ("movements", "left"),
    [
        ((listed(1, CAPTURE, 800),), 800),
        ((listed(1, CAPTURE, 500), listed(2, CAPTURE, 300, PENDING)), 800),
        ((listed(1, CAPTURE, 500), listed(2, CAPTURE, 300, REFUSED)), 500),
        ((listed(1, CAPTURE, 800), listed(2, REFUND, 300)), 500),
        ((listed(1, CAPTURE, 800), listed(2, REFUND, 300, PENDING)), 500),
        ((listed(1, CAPTURE, 800), listed(2, REFUND, 300, REFUSED)), 800),
        ((listed(1, CAPTURE, 800), listed(2, CANCEL, 200)), 800),
    ],
)
def test_anybodys_refunds_take_from_what_was_captured(
    till: Till, platform: FakePlatform, movements: tuple[Listed, ...], left: int
) -> None:
    """Captures that are pending count as captured, refunds that are pending as refunded."""
    platform.truth[PAYMENT] = view_of(PAYMENT, *movements, code=9)

    too_much, all_of_it = till.asked(REFUND, left + 1), till.asked(REFUND)

    assert too_much.state == "refused"
    assert f"{left + 1} EUR asked for, and {left} of the payment" in too_much.reason
    assert (all_of_it.state, all_of_it.amount) == ("planned", left)


HOLDING = ("planned", "sending", "unknown", "accepted", "succeeded", "review")


@pytest.mark.parametrize("state", [*HOLDING, "refused", "withdrawn"])
@pytest.mark.parametrize(("kind", "code"), [(CAPTURE, 5), (CANCEL, 5), (REFUND, 9)])
def test_what_we_promised_is_spent_until_it_is_listed(
    till: Till, platform: FakePlatform, kind: MovementKind, code: int, state: str
) -> None:
    """An operation of ours without a movement holds its amount in every state from planned to review, in no other."""
    platform.truth[PAYMENT] = view_of(PAYMENT, *([listed(1, CAPTURE, 1000)] if code == 9 else []), code=code)
    first = till.asked(kind, 400)
    till.change(first.operation_key, state=state)
    key = till.ask(kind)

    accept(till)

    assert till.row(key).amount == (600 if state in HOLDING else 1000)


def test_what_is_listed_counts_once(till: Till, platform: FakePlatform) -> None:
    """An operation whose movement the platform lists holds nothing beside it."""
    till.sent(CAPTURE, 400)

    second = till.asked(CAPTURE)

    assert [(one.amount, one.operation_key) for one in till.movements()] == [(400, till.operations()[0].operation_key)]
    assert (second.state, second.amount) == ("planned", 600)


def test_a_capture_does_not_take_from_refunds_nor_the_other_way_round(till: Till, platform: FakePlatform) -> None:
    """Two purses: what is authorised, and what was captured."""
    platform.truth[PAYMENT] = view_of(PAYMENT, listed(1, CAPTURE, 600))

    refund, capture = till.asked(REFUND), till.asked(CAPTURE)

    assert (refund.state, refund.amount) == ("planned", 600)
    assert (capture.state, capture.amount) == ("planned", 400)


def test_requests_are_decided_in_the_order_in_which_they_came(till: Till) -> None:
    """The first that fits has the money; one that does not fit is passed over."""
    keys = [till.ask(CAPTURE, amount) for amount in (700, 400, 300, 1)]

    till.look()

    assert [till.state(key) for key in keys] == ["planned", "refused", "planned", "refused"]


@pytest.mark.parametrize(
    ("code", "capture", "refund"),
    [
        (0, "created", "nothing"),
        (51, "pending", "nothing"),
        (5, None, "nothing"),
        (91, None, "nothing"),
        (93, None, "nothing"),
        (63, None, "nothing"),
        (9, "captured", None),
        (83, "captured", None),
        (6, "cancelled", "nothing"),
        (2, "rejected", "nothing"),
    ],
)
def test_the_payments_state_says_what_can_be_done(
    till: Till, platform: FakePlatform, code: int, capture: str | None, refund: str | None
) -> None:
    """Captures and cancellations need an authorised payment, refunds one that was captured; a sale lists none."""
    platform.truth[PAYMENT] = view_of(PAYMENT, code=code)

    asked = {kind: till.asked(kind, 10) for kind in (CAPTURE, CANCEL, REFUND)}

    for kind in (CAPTURE, CANCEL):
        assert asked[kind].state == ("planned" if capture is None else "refused")
        assert capture is None or f"the payment is {capture}: a {kind} needs one" in asked[kind].reason
    assert asked[REFUND].state == ("planned" if refund is None else "refused")
    assert refund is None or refund in asked[REFUND].reason


def test_the_rest_of_a_payment_that_was_captured_in_part_can_be_captured(till: Till, platform: FakePlatform) -> None:
    """The platform calls it captured (9) after the first part already."""
    platform.truth[PAYMENT] = view_of(PAYMENT, listed(1, CAPTURE, 400), code=9)

    rest = till.asked(CAPTURE)

    assert (rest.state, rest.amount) == ("planned", 600)


@pytest.mark.parametrize("kind", [CAPTURE, REFUND, CANCEL])
def test_another_currency_is_refused(till: Till, platform: FakePlatform, kind: MovementKind) -> None:
    """The payment's own, or none, will do."""
    platform.truth[PAYMENT] = view_of(PAYMENT, listed(1, CAPTURE, 500))

    dollars, euros = till.asked(kind, 10, currency="USD"), till.asked(kind, 10, currency="EUR")

    assert (dollars.state, dollars.reason) == ("refused", "the payment is in EUR, not in USD")
    assert euros.state == "planned"


@pytest.mark.parametrize("kind", [CAPTURE, CANCEL])
def test_nothing_follows_a_final_capture(till: Till, kind: MovementKind) -> None:
    """What it leaves is released, whether or not it was sent."""
    till.asked(CAPTURE, 400, is_final=True)

    late = till.asked(kind, 10)

    assert (late.state, late.amount) == ("refused", 10)
    assert late.reason.startswith("nothing of the payment is authorised and not captured")


def test_a_final_capture_that_was_refused_closes_nothing(till: Till, platform: FakePlatform) -> None:
    """The authorisation is whole again."""
    till.sent(CAPTURE, 400, is_final=True)
    (capture,) = platform.truth[PAYMENT].movements
    refused = replace(capture, state=REFUSED, status_code=93)
    platform.truth[PAYMENT] = view_of(PAYMENT, refused, code=93)
    till.look()

    again = till.asked(CAPTURE)

    assert (again.state, again.amount) == ("planned", 1000)


@pytest.mark.parametrize("currency", ["JPY", "KWD"])
def test_a_part_is_not_captured_in_a_currency_without_two_decimals(
    till: Till, platform: FakePlatform, currency: str
) -> None:
    """CapturePayment presumes two; all of it can be captured, and parts refunded and cancelled."""
    platform.truth[PAYMENT] = replace(view_of(PAYMENT), currency=currency)

    part, cancellation = till.asked(CAPTURE, 400), till.asked(CANCEL, 400)
    rest = till.asked(CAPTURE)
    till.change(cancellation.operation_key, state="refused")
    whole = till.asked(CAPTURE)

    assert part.state == rest.state == "refused"
    assert f"a part of a payment in {currency} cannot be captured" in part.reason
    assert cancellation.state == "planned"
    assert (whole.state, whole.amount) == ("planned", 1000)


# A refund that captures which the platform has not confirmed yet must cover.


@pytest.fixture
def early_refund(till: Till, platform: FakePlatform) -> int:
    """A refund of a capture that is pending."""
    platform.truth[PAYMENT] = view_of(PAYMENT, listed(1, CAPTURE, 500, PENDING), code=91)
    return int(till.asked(REFUND, 500).operation_key)


def test_a_refund_of_a_pending_capture_waits_for_it(till: Till, platform: FakePlatform, early_refund: int) -> None:
    """Promised and not sent: the platform refunds captures that are final."""
    till.step(early_refund)

    assert till.state(early_refund) == "planned"
    assert platform.sent == []


def test_it_leaves_when_the_capture_is_confirmed(till: Till, platform: FakePlatform, early_refund: int) -> None:
    """The look that sees it has it rung for."""
    platform.truth[PAYMENT] = view_of(PAYMENT, listed(1, CAPTURE, 500), code=9)

    follow = till.look()
    till.step(early_refund)

    assert follow is not None
    assert follow.operation_keys == (early_refund,)
    assert [(order.kind, order.amount) for order in platform.sent] == [(REFUND, 500)]


def test_it_is_refused_when_the_capture_is(till: Till, platform: FakePlatform, early_refund: int) -> None:
    """There is nothing to refund after all, and nothing was sent."""
    platform.truth[PAYMENT] = view_of(PAYMENT, listed(1, CAPTURE, 500, REFUSED), code=93)

    till.look()
    till.step(early_refund)

    assert till.state(early_refund) == "refused"
    assert "no longer" in till.row(early_refund).reason
    assert platform.sent == []


def test_it_holds_up_no_capture(till: Till, platform: FakePlatform, early_refund: int) -> None:
    """What can be sent goes before what cannot yet."""
    capture = till.sent(CAPTURE, 100)

    assert (till.state(capture), till.state(early_refund)) == ("accepted", "planned")


# A cancellation whose caller would have a refund instead.


def test_a_cancellation_comes_too_late_for_what_was_captured(till: Till, platform: FakePlatform) -> None:
    """Refused, unless its caller wants a refund then."""
    platform.truth[PAYMENT] = view_of(PAYMENT, listed(1, CAPTURE, 1000), code=9)

    refused, instead = till.asked(CANCEL), till.asked(CANCEL, on_captured="refund")

    assert refused.state == "refused"
    assert (instead.state, instead.kind, instead.amount) == ("planned", "refund", 1000)
    assert "it was captured, so the cancellation becomes a refund" in till.story(instead.operation_key)[-1][2]


def test_what_can_be_cancelled_is_cancelled(till: Till) -> None:
    """``on_captured`` is for what was captured."""
    operation = till.asked(CANCEL, on_captured="refund")

    assert (operation.state, operation.kind, operation.amount) == ("planned", "cancel", 1000)


def test_it_waits_for_a_capture_of_ours_that_is_on_its_way(till: Till, platform: FakePlatform) -> None:
    """Neither can be told before: then it is a refund, once the capture is listed."""
    capture = int(till.asked(CAPTURE).operation_key)
    waiting = till.asked(CANCEL, on_captured="refund")
    told = till.story(waiting.operation_key)
    till.look()

    assert (waiting.state, waiting.reason) == ("requested", "waits for what becomes of a capture that is on its way")
    assert 0 < (till.due_in(waiting.operation_key) or 0) <= WAITING_SECONDS
    assert till.story(waiting.operation_key) == told  # said once

    till.step(capture)
    till.look()

    instead = till.row(waiting.operation_key)
    assert (instead.state, instead.kind, instead.amount) == ("planned", "refund", 1000)


def test_it_is_refused_where_there_is_nothing_to_refund_either(till: Till, platform: FakePlatform) -> None:
    """The reason is the cancellation's."""
    platform.truth[PAYMENT] = view_of(PAYMENT, code=2)

    operation = till.asked(CANCEL, on_captured="refund")

    assert (operation.state, operation.kind) == ("refused", "cancel")
    assert "the payment is rejected" in operation.reason


# By which record requests are decided on.


def test_a_young_record_will_do_for_what_fits(till: Till, platform: FakePlatform) -> None:
    """No look is needed, and none is asked for."""
    till.look()
    key = till.ask(CAPTURE, 400)

    step = till.step(key)

    assert till.state(key) == "planned"
    assert (step.operations, step.payment) == (((key, 0.0),), None)
    assert len(platform.looks) == 1


def test_nothing_is_refused_by_a_record_of_some_time_ago(till: Till, platform: FakePlatform) -> None:
    """What has come about since may be why somebody asks: the payment is looked at first, and all after it waits."""
    platform.truth[PAYMENT] = view_of(PAYMENT, code=51)
    till.look()
    platform.truth[PAYMENT] = view_of(PAYMENT)
    first, second = till.ask(CAPTURE, 1000), till.ask(CAPTURE, 1)

    step = till.step(second)

    assert till.states() == ["requested", "requested"]
    assert step.payment is not None

    till.look()

    assert (till.state(first), till.state(second)) == ("planned", "refused")


@pytest.mark.parametrize("known", [True, False])
def test_an_old_record_or_none_is_renewed_first(till: Till, platform: FakePlatform, known: bool) -> None:
    """Nothing is promised by what was seen more than a minute ago."""
    if known:
        till.look()
        till.pass_time(till.settings.fresh_seconds + 1)
    key = till.ask(CAPTURE, 400)

    step = till.step(key)

    assert till.state(key) == "requested"
    assert step.payment is not None
    assert 50 < (till.due_in(key) or 0) <= 60


def test_a_look_that_began_before_a_request_does_not_refuse_it(till: Till, platform: FakePlatform) -> None:
    """The payment was authorised, and its capture asked for, while a look was under way that does not know it."""
    platform.truth[PAYMENT] = view_of(PAYMENT, code=51)
    till.look()
    late: list[int] = []

    def authorised_and_asked_for() -> None:
        platform.truth[PAYMENT] = view_of(PAYMENT)
        late.append(till.ask(CAPTURE))

    platform.during = authorised_and_asked_for

    till.look()

    assert till.state(late[0]) == "requested"

    step = till.step(late[0])
    till.look()

    assert step.payment is not None
    assert till.state(late[0]) == "planned"


def test_two_at_once_cannot_have_the_same_money(postgres: Database, platform: FakePlatform, settings: Settings) -> None:
    """Whoever reads what is left of a payment holds its row until the promise is committed; another waits for it."""
    till = Till(postgres, platform, settings)
    till.look()
    payment_key = till.payment().payment_key

    def wait_a_moment() -> None:
        with postgres.transaction() as second:
            second.exec_driver_sql("SET LOCAL lock_timeout = '100ms'")
            open_ledger(second, payment_key)

    with postgres.transaction() as first:
        open_ledger(first, payment_key)
        with pytest.raises((DBAPIError, DatabaseUnavailable)):
            wait_a_moment()

    assert till.ledger().remainder() == 1000


def test_a_promise_waits_for_whoever_holds_the_payment(
    postgres: Database, platform: FakePlatform, settings: Settings
) -> None:
    """A policy promises all that is left in the midst of its transaction; the request beside it counts what is left
    after that."""
    till = Till(postgres, platform, settings)
    till.look()
    key = till.ask(CAPTURE, 600)
    with ThreadPoolExecutor(1) as pool:
        with postgres.transaction() as connection:
            ledger = open_ledger(connection, till.payment().payment_key)
            beside = pool.submit(till.step, key)
            with contextlib.suppress(TimeoutError):
                beside.result(0.3)
            promise = text(
                "INSERT INTO operations (operation_uuid, merchant_id, payment_id, payment_key, kind, amount, currency,"
                " is_final, source, request_id, request_sha256, state, generation, replayed_5xx, negative_looks,"
                " claims, rings, planned_at, created_at) VALUES ('u', :merchant, '1', :payment, 'capture', 1000, 'EUR',"
                " false, 'policy:p', 'r', '', 'planned', 0, 0, 0, 0, 0, now(), now())"
            )
            connection.execute(promise, {"merchant": MERCHANT, "payment": ledger.payment.payment_key})
        beside.result(10)

    promised = [one.amount for one in till.operations() if one.state == "planned"]
    assert promised == [1000]


# What was promised and is covered no longer.


def test_what_somebody_else_took_is_refused_before_it_is_sent(till: Till, platform: FakePlatform) -> None:
    """A capture made in the portal: the promise is not kept, and says why."""
    key = till.asked(CAPTURE, 600).operation_key
    platform.truth[PAYMENT] = view_of(PAYMENT, listed(1, CAPTURE, 500), code=9)

    till.look()
    till.step(key)

    assert till.state(key) == "refused"
    assert "no longer leaves room" in till.row(key).reason
    assert platform.sent == []


def test_what_is_refused_so_leaves_its_money_to_the_next(till: Till, platform: FakePlatform) -> None:
    """Of 1000 the portal took 500: the promise of 600 is refused, and the one of 400 after it holds."""
    first, second = till.asked(CAPTURE, 600).operation_key, till.asked(CAPTURE, 400).operation_key
    platform.truth[PAYMENT] = view_of(PAYMENT, listed(1, CAPTURE, 500), code=9)

    till.look()

    assert (till.state(first), till.state(second)) == ("refused", "planned")


def test_the_later_promise_gives_way(till: Till, platform: FakePlatform) -> None:
    """What was promised first is covered first."""
    first, second = till.asked(CAPTURE, 400).operation_key, till.asked(CAPTURE, 600).operation_key
    platform.truth[PAYMENT] = view_of(PAYMENT, listed(1, CAPTURE, 500), code=9)

    till.look()

    assert (till.state(first), till.state(second)) == ("planned", "refused")


# What a database that was restored from a backup does not know.


@pytest.mark.parametrize(("became", "state"), [(DONE, "succeeded"), (PENDING, "accepted"), (REFUSED, "refused")])
def test_a_request_made_before_the_backup_was_restored_is_found_again(
    till: Till, platform: FakePlatform, became: MovementState, state: str
) -> None:
    """Its words make its name: the same request is the movement the platform lists, and nothing is sent."""
    key = till.ask(CAPTURE)
    made = replace(listed(1, CAPTURE, 1000, became), reference=till.row(key).operation_uuid)
    platform.truth[PAYMENT] = view_of(PAYMENT, made)

    till.look()
    till.step(key)

    operation = till.row(key)
    assert (operation.state, operation.amount, operation.currency) == (state, 1000, "EUR")
    assert operation.platform_operation_id == made.platform_operation_id
    assert platform.sent == []


def test_it_is_found_by_a_young_record_too(till: Till, platform: FakePlatform) -> None:
    """The record may list it before the request comes again: it is looked at once more, and promised no second time."""
    given = {"payment_id": PAYMENT, "source": "shop", "request_id": "again", "amount": 300}
    reference = str(read(CAPTURE, given, {MERCHANT}, unnamed="message").uuid())
    platform.truth[PAYMENT] = view_of(PAYMENT, replace(listed(1, CAPTURE, 300), reference=reference))
    till.look()
    key = till.ask(CAPTURE, 300, request_id="again")

    step = till.step(key)
    till.look()

    assert step.payment is not None
    assert (till.state(key), platform.sent) == ("succeeded", [])


def test_a_cancellation_that_became_a_refund_before_the_backup_is_found_again(
    till: Till, platform: FakePlatform
) -> None:
    """The platform lists a refund under its name."""
    key = till.ask(CANCEL, on_captured="refund")
    refund = replace(listed(2, REFUND, 400), reference=till.row(key).operation_uuid)
    platform.truth[PAYMENT] = view_of(PAYMENT, listed(1, CAPTURE, 1000), refund, code=9)

    till.look()

    assert (till.state(key), till.row(key).kind, till.row(key).amount) == ("succeeded", "refund", 400)
    assert platform.sent == []


def test_movements_of_other_payments_do_not_count(till: Till, platform: FakePlatform) -> None:
    """Each payment has its own money."""
    other = "1111111111"
    till.look(other)
    movement = {
        "merchant_id": MERCHANT,
        "platform_operation_id": f"{other}_1",
        "payment_key": till.payment(other).payment_key,
        "kind": "capture",
        "state": "done",
        "amount": 1000,
        "currency": "EUR",
        "first_seen_at": now(),
        "last_seen_at": now(),
    }
    with till.database.transaction() as connection:
        connection.execute(insert(Movement).values(**movement))

    operation = till.asked(CAPTURE)

    assert (operation.state, operation.amount) == ("planned", 1000)
