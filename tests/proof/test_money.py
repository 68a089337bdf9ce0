"""The judgements on money find what they are there to find, where it is known."""

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from tests.proof import money
from worker.models import Base, Movement, Operation, Payment


def operation(state: str = "succeeded", kind: str = "capture", amount: int = 500, uuid: str = "ours") -> dict[str, Any]:
    return {
        "operation_key": 1,
        "operation_uuid": uuid,
        "kind": kind,
        "amount": amount,
        "state": state,
        "reason": "so it is",
    }


def payment(*effects: tuple[str, int, int, str | None], authorised: int = 1000) -> dict[str, Any]:
    """A row of the ledger with these effects: kind, amount, status code, reference."""
    names = ("kind", "amount", "status_code", "reference")
    operations = [dict(zip(names, effect, strict=True)) for effect in effects]
    return {"payment_id": "3000000001", "amount_authorised": authorised, "operations": operations}


def test_money_that_moved_twice_is_told() -> None:
    """Pending counts as moved, refused does not, and neither does what somebody else did."""
    once = payment(("capture", 500, 9, "ours"), ("capture", 500, 93, "ours"), ("capture", 500, 9, None))
    twice = payment(("capture", 500, 9, "ours"), ("capture", 500, 91, "ours"))

    assert money.moved_twice([operation()], [once]) == []
    assert money.moved_twice([operation()], [twice]) == ["operation 1, capture of 500, succeeded moved 2 times"]


@pytest.mark.parametrize("state", ["requested", "planned", "sending", "unknown", "accepted"])
def test_an_operation_that_has_not_ended_is_told(state: str) -> None:
    """Whatever its reason."""
    assert money.unended([operation(state)]) == [f"operation 1, capture of 500, {state}"]


def test_an_end_without_a_reason_is_told() -> None:
    """In each of the ends."""
    assert money.unended([operation(state) for state in money.ENDS]) == []
    assert len(money.unended([{**operation(state), "reason": None} for state in money.ENDS])) == len(money.ENDS)


@pytest.mark.parametrize(
    ("state", "effects"),
    [
        ("succeeded", []),
        ("succeeded", [("capture", 500, 91, "ours")]),
        ("succeeded", [("capture", 500, 93, "ours")]),
        ("succeeded", [("capture", 499, 9, "ours")]),
        ("succeeded", [("cancel", 500, 6, "ours")]),
        ("succeeded", [("capture", 500, 9, "ours"), ("capture", 500, 9, "ours")]),
        ("refused", [("capture", 500, 91, "ours")]),
        ("refused", [("capture", 500, 9, "ours")]),
        ("withdrawn", [("capture", 500, 9, "ours")]),
    ],
)
def test_a_record_that_is_untrue_is_told(state: str, effects: list[tuple[str, int, int, str]]) -> None:
    """A success is the very effect that was asked for, confirmed; a refusal is none that lives."""
    assert len(money.untrue([operation(state)], [payment(*effects)])) == 1


@pytest.mark.parametrize(
    ("state", "effects"),
    [
        ("succeeded", [("capture", 500, 9, "ours"), ("capture", 500, 9, None)]),
        ("refused", [("capture", 500, 93, "ours")]),
        ("refused", []),
        ("accepted", [("capture", 500, 91, "ours")]),
    ],
)
def test_a_record_that_is_true_is_not(state: str, effects: list[tuple[str, int, int, str | None]]) -> None:
    """Whatever else was done in the portal."""
    assert money.untrue([operation(state)], [payment(*effects)]) == []


def test_a_payment_that_is_overspent_is_told() -> None:
    """Captures and cancellations share what is authorised, refunds have what is captured; refused ones take nothing."""
    taken = (("capture", 600, 91, "a"), ("cancel", 400, 6, "b"), ("capture", 1, 93, "c"))
    within = payment(*taken, ("refund", 600, 8, "d"))
    above = payment(("capture", 600, 91, "a"), ("cancel", 401, 61, "b"))
    refunded = payment(("capture", 600, 9, "a"), ("refund", 601, 81, "b"))

    assert money.overspent([within]) == []
    assert len(money.overspent([above, refunded])) == 2


def test_what_took_how_long_is_counted() -> None:
    """Each once, up to an edge that belongs below it."""
    assert money.histogram([0.5, 1.0, 1.1, 7.0], (1, 5)) == "≤ 1: 2, ≤ 5: 1, more: 1"


@pytest.mark.parametrize(
    ("state", "movement", "authorised", "is_told"),
    [
        ("planned", None, 1000, False),
        ("planned", None, 999, True),
        ("refused", None, 999, False),
        ("accepted", "of the operation", 1000, False),
        ("accepted", "of nobody", 1000, True),
    ],
)
def test_a_record_that_promises_too_much_is_told(
    state: str, movement: str | None, authorised: int, is_told: bool
) -> None:
    """An operation counts until it is refused, and not beside the movement it came to."""
    engine, at = create_engine("sqlite://"), datetime(2026, 1, 1, tzinfo=UTC)
    Base.metadata.create_all(engine)
    ours = {"merchant_id": "m", "payment_id": "3000000001", "payment_key": 1}
    capture = {"kind": "capture", "currency": "EUR", "source": "s", "request_sha256": b"", "created_at": at}
    with Session(engine) as session, session.begin():
        session.add(Payment(**ours, state="authorised", amount_authorised=authorised))
        for key, amount, its_state in ((1, 600, state), (2, 400, "succeeded")):
            named = {"operation_key": key, "operation_uuid": str(key), "request_id": str(key)}
            session.add(Operation(**ours, **capture, **named, amount=amount, state=its_state))
        if movement is not None:
            session.add(
                Movement(
                    merchant_id="m",
                    platform_operation_id="3000000001_1",
                    payment_key=1,
                    operation_key=1 if movement == "of the operation" else None,
                    kind="capture",
                    state="done",
                    amount=600,
                    currency="EUR",
                    first_seen_at=at,
                    last_seen_at=at,
                )
            )

    with engine.connect() as connection:
        found = connection.execute(text(money.OVERSPENT)).all()

    assert bool(found) is is_told
