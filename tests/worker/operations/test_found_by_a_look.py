"""Money that moved and that no answer named: a look finds it, by our reference or because it can be nothing else."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Row, select, update

from tests.worker.conftest import MERCHANT, FakePlatform, moved, settings_of, view_of
from worker.database import Database, now
from worker.gateways.gateway import Movement, NotAllowed, Order, OutcomeUnknown, Receipt
from worker.lifecycle import MovementKind, MovementState
from worker.models import Operation, Payment
from worker.operations import request
from worker.reconciliation import Reconciler
from worker.sending import Sender

PAYMENT = "3254564310"
CANCEL, CAPTURE = MovementKind.CANCEL, MovementKind.CAPTURE


class Taciturn(FakePlatform):
    """Takes orders without naming their operations, and lists them without a reference."""

    def send(self, order: Order, *, seconds: float) -> Movement | Receipt:
        movement = super().send(order, seconds=seconds)
        assert isinstance(movement, Movement)
        view = self.truth[order.payment_id]
        unnamed = tuple(replace(one, reference=None) for one in view.movements)
        self.truth[order.payment_id] = replace(view, movements=unnamed)
        return Receipt(movement.status_code or 0)


class Till:
    """Requests, and what one process does about them until nothing follows at once."""

    def __init__(self, database: Database, platform: FakePlatform):
        settings = settings_of(gap_seconds=0.01)
        self.database, self.platform = database, platform
        self.sender = Sender(database, {MERCHANT: platform}, settings)
        self.reconciler = Reconciler(database, {MERCHANT: platform}, settings)

    def ask(self, kind: MovementKind, amount: int | None = None, request_id: str = "r1") -> int:
        given = {"payment_id": PAYMENT, "request_id": request_id, "source": "shop", "amount": amount}
        wanted = {name: value for name, value in given.items() if value is not None}
        return int(request(self.database, kind, wanted, [MERCHANT], unnamed="message").operation_key)

    def look(self) -> None:
        """As a webhook has it looked at, whatever else is waited for."""
        with self.database.transaction() as connection:
            hint = {"wanted": Payment.wanted + 1, "claimed_until": None}
            (key,) = connection.execute(update(Payment).values(**hint).returning(Payment.payment_key)).one()
        self.reconciler.payment(key)

    def carry_out(self, operation_key: int) -> Row[Any]:
        """Accept it by a look, send it, and look at what came of it."""
        self.sender.operation(operation_key)
        self.look()
        self.sender.operation(operation_key)
        self.look()
        return self.row(operation_key)

    def row(self, operation_key: int) -> Row[Any]:
        with self.database.reading() as connection:
            chosen = select(Operation.__table__).where(Operation.operation_key == operation_key)
            return connection.execute(chosen).one()


@pytest.fixture
def taciturn(database: Database) -> Till:
    """A till at a platform that says little."""
    till = Till(database, Taciturn())
    till.platform.truth[PAYMENT] = view_of(PAYMENT, amount=1000)
    return till


def test_what_was_accepted_without_a_name_is_the_only_movement_it_can_be(taciturn: Till) -> None:
    """Sent once; the one cancellation of this amount that appeared since is it."""
    operation = taciturn.carry_out(taciturn.ask(CANCEL, 400))

    assert (operation.state, operation.platform_operation_id) == ("accepted", f"{PAYMENT}_1")
    assert len(taciturn.platform.sent) == 1


def test_of_two_that_it_can_be_neither_is_taken(taciturn: Till) -> None:
    """Somebody cancelled the same amount in the portal meanwhile: it stays accepted, and is not sent again."""
    operation_key = taciturn.ask(CANCEL, 400)
    taciturn.sender.operation(operation_key)
    taciturn.look()
    taciturn.sender.operation(operation_key)
    view = taciturn.platform.truth[PAYMENT]
    portal = replace(moved(f"{PAYMENT}_9", CANCEL, 400), reference=None)
    taciturn.platform.truth[PAYMENT] = replace(view, movements=(*view.movements, portal))

    taciturn.look()
    taciturn.look()

    operation = taciturn.row(operation_key)
    assert (operation.state, operation.platform_operation_id) == ("accepted", None)
    assert len(taciturn.platform.sent) == 1


def test_what_is_accepted_and_never_listed_is_put_to_a_person(taciturn: Till) -> None:
    """A settling time after it was sent, a look that shows nothing of it asks."""
    operation_key = taciturn.ask(CANCEL, 400)
    taciturn.sender.operation(operation_key)
    taciturn.look()
    taciturn.sender.operation(operation_key)
    taciturn.platform.truth[PAYMENT] = view_of(PAYMENT, amount=1000)
    an_hour_ago(taciturn.database)

    taciturn.look()

    operation = taciturn.row(operation_key)
    assert operation.state == "review"
    assert operation.reason.startswith("Has this cancel been made?")
    assert len(taciturn.platform.sent) == 1


@pytest.mark.parametrize(
    ("became", "state"),
    [
        (MovementState.DONE, "succeeded"),
        (MovementState.PENDING, "accepted"),
        (MovementState.REFUSED, "refused"),
    ],
)
def test_a_request_that_an_old_backup_has_forgotten_is_found_and_not_sent_again(
    database: Database, became: MovementState, state: str
) -> None:
    """The same request has the same reference: what was made of it before the backup was restored is its movement."""
    till = Till(database, FakePlatform())
    operation_key = till.ask(CAPTURE)
    earlier = replace(moved(f"{PAYMENT}_1", CAPTURE, 700, became), reference=till.row(operation_key).operation_uuid)
    till.platform.truth[PAYMENT] = view_of(PAYMENT, earlier, amount=1000)

    operation = till.carry_out(operation_key)

    assert (operation.state, operation.amount, operation.platform_operation_id) == (state, 700, f"{PAYMENT}_1")
    assert till.platform.sent == []


def test_what_the_status_says_is_no_reason_to_believe_a_refusal(database: Database) -> None:
    """Our own cancellation made the payment cancelled, and its list lags: the platform's no is not yet the end."""
    till = Till(database, FakePlatform())
    till.platform.lost.append(OutcomeUnknown("cancel_payment: HTTP 504"))
    operation_key = till.ask(CANCEL)
    till.sender.operation(operation_key)
    till.look()
    till.sender.operation(operation_key)
    till.platform.truth[PAYMENT] = view_of(PAYMENT, code=6, amount=1000)

    till.look()
    till.platform.refusals.append(NotAllowed("cancel_payment: HTTP 400 50001127"))
    till.sender.operation(operation_key)
    till.look()

    operation = till.row(operation_key)
    assert len(till.platform.sent) == 2
    assert (operation.state, operation.negative_looks) == ("unknown", 0)


def test_a_look_that_read_no_list_shows_nothing(database: Database) -> None:
    """While the platform calls a payment pending its lists are not read, so nothing is missed in them."""
    till = Till(database, FakePlatform())
    till.platform.lost.append(OutcomeUnknown("capture_payment: HTTP 504"))
    operation_key = till.ask(CAPTURE)
    till.sender.operation(operation_key)
    till.look()
    till.sender.operation(operation_key)
    till.platform.truth[PAYMENT] = view_of(PAYMENT, code=51, amount=1000)

    till.look()

    operation = till.row(operation_key)
    assert (operation.state, operation.last_looked_at) == ("unknown", None)


def an_hour_ago(database: Database) -> None:
    """Let the one attempt there is have been made more than a settling time ago."""
    with database.transaction() as connection:
        connection.exec_driver_sql(
            "UPDATE attempts SET started_at = '2026-01-01 00:00:00.000'"
            if database.is_sqlite
            else "UPDATE attempts SET started_at = '2026-01-01 00:00:00Z'"
        )
        connection.execute(update(Operation).values(last_sent_at=now()))
