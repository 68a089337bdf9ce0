"""Whatever our record says and the platform does not is found, and named with both sides."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import update

from tests.worker.conftest import FakePlatform, Paper, moved, view_of
from tests.worker.drift.conftest import CAPTURED, PAYMENT, Compare, Know
from worker.database import Database
from worker.drift import Difference, Verdict
from worker.drift.differences import COMPARED
from worker.gateways.gateway import PaymentView
from worker.lifecycle import MovementKind, MovementState
from worker.models import Movement

CAPTURE, REFUND = MovementKind.CAPTURE, MovementKind.REFUND
OURS = {
    "state": "captured",
    "status_code": 9,
    "currency": "EUR",
    "merchant_reference": "order-1",
    "amount_authorised": 1000,
    "amount_captured": 1000,
}


@pytest.fixture
def database(sqlite: Database) -> Database:
    """One kind is enough: what is compared is values."""
    return sqlite


@pytest.mark.parametrize("column", COMPARED)
def test_a_column_that_was_tampered_with_is_found(know: Know, compare: Compare, paper: Paper, column: str) -> None:
    """Each column by itself, and no other beside it."""
    key, theirs = know(), OURS.get(column, 0)
    false: Any = {"state": "authorised", "currency": "USD", "merchant_reference": None}.get(column, 7)
    paper.change_payment(key, **{column: false})

    (found,) = compare([key])

    assert found.verdict is Verdict.DIFFERENT
    assert found.differences == (Difference(column, false, theirs),)


@pytest.mark.parametrize(
    ("theirs", "told"),
    [
        (
            (moved(f"{PAYMENT}_1", CAPTURE, 1000), moved(f"{PAYMENT}_2", REFUND, 0)),
            (None, "refund of 0 EUR, done"),
        ),
        ((), ("capture of 1000 EUR, done", None)),
        (
            (moved(f"{PAYMENT}_1", CAPTURE, 1000, MovementState.PENDING),),
            ("capture of 1000 EUR, done", "capture of 1000 EUR, pending"),
        ),
        (
            (moved(f"{PAYMENT}_1", CAPTURE, 900),),
            ("capture of 1000 EUR, done", "capture of 900 EUR, done"),
        ),
        (
            (moved(f"{PAYMENT}_1", REFUND, 1000),),
            ("capture of 1000 EUR, done", "refund of 1000 EUR, done"),
        ),
        (
            (replace(moved(f"{PAYMENT}_1", CAPTURE, 1000), currency="USD"),),
            ("capture of 1000 EUR, done", "capture of 1000 USD, done"),
        ),
    ],
    ids=["missing here", "missing there", "another state", "another amount", "another kind", "another currency"],
)
def test_a_movement_that_is_not_the_same_is_found(
    know: Know, compare: Compare, platform: FakePlatform, theirs: Any, told: tuple[str | None, str | None]
) -> None:
    """One that is missing on a side, or says something else there."""
    key = know()
    platform.truth[PAYMENT] = replace(CAPTURED, movements=theirs)

    (found,) = compare([key])

    (movement,) = [one for one in found.differences if one.what.startswith("movement")]
    operation_id = f"{PAYMENT}_2" if told[0] is None else f"{PAYMENT}_1"
    assert movement == Difference(f"movement {operation_id}", *told)


def test_what_the_platform_was_not_asked_is_no_difference(know: Know, compare: Compare, database: Database) -> None:
    """A look at a payment that was rejected reads no lists: it does not say that nothing had moved."""
    key = know()
    other = know(view_of("1000000001", code=2))
    with database.transaction() as connection:
        connection.execute(update(Movement).where(Movement.payment_key == key).values(payment_key=other))

    assert [one.verdict for one in compare([other])] == [Verdict.EQUAL]


@pytest.mark.parametrize(
    "view",
    [
        view_of(PAYMENT, code=0),
        view_of(PAYMENT, code=2),
        view_of(PAYMENT, code=46),
        view_of(PAYMENT),
        view_of(PAYMENT, moved(f"{PAYMENT}_1", CAPTURE, 400, MovementState.PENDING), code=91),
        view_of(PAYMENT, moved(f"{PAYMENT}_1", CAPTURE, 400, MovementState.REFUSED), code=93),
        view_of(PAYMENT, moved(f"{PAYMENT}_1", MovementKind.CANCEL, 1000), code=6),
        CAPTURED,
        replace(
            CAPTURED, status_code=8, movements=(*CAPTURED.movements, moved(f"{PAYMENT}_2", REFUND, 300)), acquired=700
        ),
        view_of(PAYMENT, code=9, acquired=1000, reference=None),
        view_of(PAYMENT, code=4711),
    ],
    ids=lambda view: f"{view.status_code}, {len(view.movements)}",
)
def test_nothing_differs_where_nothing_has_changed(know: Know, compare: Compare, view: PaymentView) -> None:
    """Whatever state the payment is in: what a look would write is what is compared."""
    assert [one.verdict for one in compare([know(view)])] == [Verdict.EQUAL]
