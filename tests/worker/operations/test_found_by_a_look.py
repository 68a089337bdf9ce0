"""Money that moved and that no answer named: a look finds it, by our reference or because it can be nothing else."""

from dataclasses import replace

import pytest

from tests.worker.conftest import FakePlatform, moved, view_of
from tests.worker.till import PAYMENT, Till
from worker.database import Database
from worker.gateways.gateway import Movement, NotAllowed, Order, OutcomeUnknown, Receipt
from worker.lifecycle import MovementKind
from worker.settings import Settings

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


@pytest.fixture
def taciturn(database: Database, settings: Settings) -> Till:
    """A till at a platform that says little."""
    return Till(database, Taciturn(), settings)


def test_what_was_accepted_without_a_name_is_the_only_movement_it_can_be(taciturn: Till) -> None:
    """Sent once; the one cancellation of this amount that appeared since is it."""
    operation_key = taciturn.sent(CANCEL, 400)

    taciturn.look()

    operation = taciturn.row(operation_key)
    assert (operation.state, operation.platform_operation_id) == ("accepted", f"{PAYMENT}_1")
    assert len(taciturn.platform.sent) == 1


def test_of_two_that_it_can_be_neither_is_taken(taciturn: Till) -> None:
    """Somebody cancelled the same amount in the portal meanwhile: it stays accepted, and is not sent again."""
    operation_key = taciturn.sent(CANCEL, 400)
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
    operation_key = taciturn.sent(CANCEL, 400)
    taciturn.platform.truth[PAYMENT] = view_of(PAYMENT)
    taciturn.pass_time(taciturn.settings.settling_seconds + 1)

    taciturn.look()

    operation = taciturn.row(operation_key)
    assert operation.state == "review"
    assert operation.reason.startswith("Has this cancel been made?")
    assert len(taciturn.platform.sent) == 1


def test_what_the_status_says_is_no_reason_to_believe_a_refusal(till: Till) -> None:
    """Our own cancellation made the payment cancelled, and its list lags: the platform's no is not yet the end."""
    till.platform.lost.append(OutcomeUnknown("cancel_payment: HTTP 504"))
    operation_key = till.sent(CANCEL)
    till.platform.truth[PAYMENT] = view_of(PAYMENT, code=6)

    till.look()
    till.platform.refusals.append(NotAllowed("cancel_payment: HTTP 400 50001127"))
    till.step(operation_key)
    till.look()

    operation = till.row(operation_key)
    assert len(till.platform.sent) == 2
    assert (operation.state, operation.negative_looks) == ("unknown", 0)


def test_a_look_that_read_no_list_shows_nothing(till: Till) -> None:
    """While the platform calls a payment pending its lists are not read, so nothing is missed in them."""
    till.platform.lost.append(OutcomeUnknown("capture_payment: HTTP 504"))
    operation_key = till.sent(CAPTURE)
    till.platform.truth[PAYMENT] = view_of(PAYMENT, code=51)

    till.look()

    operation = till.row(operation_key)
    assert (operation.state, operation.last_looked_at) == ("unknown", None)
