"""What our record of a payment says, and what the platform says instead."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from worker.gateways.gateway import PaymentView
from worker.lifecycle import lists_are_read
from worker.reconciliation.records import columns_of

#: The columns that are compared; the words beside the status code follow from it, and the snapshot is no statement of
#: ours.
COMPARED = (
    "state",
    "status_code",
    "currency",
    "amount_authorised",
    "amount_captured",
    "amount_capture_pending",
    "amount_refunded",
    "amount_refund_pending",
    "amount_cancelled",
    "merchant_reference",
)


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same on both sides; None is what a side does not have."""

    what: str  # a column of the record, or a movement by its id at the platform
    ours: str | int | None
    theirs: str | int | None


def differences(payment: Row[Any], movements: Iterable[Row[Any]], view: PaymentView) -> tuple[Difference, ...]:
    """Where our record and the platform differ, in the order in which a person reads a payment.

    Args:
        payment: its row.
        movements: its movements' rows.
        view: a look at it.
    """
    seen = columns_of(view)
    found = [
        Difference(name, getattr(payment, name), seen[name])
        for name in COMPARED
        if getattr(payment, name) != seen[name]
    ]
    ours = {one.platform_operation_id: _told(one) for one in movements}
    theirs = {one.platform_operation_id: _told(one) for one in view.movements}
    if not lists_are_read(view.state, view.status_code):
        ours = {}  # the platform was not asked what moved: it has not said that nothing did
    found += [
        Difference(f"movement {operation_id}", ours.get(operation_id), theirs.get(operation_id))
        for operation_id in sorted({*ours, *theirs})
        if ours.get(operation_id) != theirs.get(operation_id)
    ]
    return tuple(found)


def _told(movement: Any) -> str:
    """A movement, ours or the platform's, in words that are alike when the two are."""
    return f"{movement.kind} of {movement.amount} {movement.currency}, {movement.state}"
