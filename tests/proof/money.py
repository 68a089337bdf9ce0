"""The judgements on money: our operations beside the platform's ledger. Each returns what speaks against a promise.

An operation is joined to what the platform did by the reference it was sent with, which is its ``operation_uuid``.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

#: The platform's codes of an effect that came to nothing, and of one that is confirmed.
REFUSED = frozenset({93, 83, 63})
DONE = frozenset({9, 8, 6})

#: States that nothing follows without a person.
ENDS = frozenset({"succeeded", "refused", "withdrawn", "review"})


def effects(ledger: Iterable[Row]) -> dict[str | None, list[Row]]:
    """What moved, by the reference it was sent with; None for what was done in the portal."""
    found: dict[str | None, list[Row]] = defaultdict(list)
    for payment in ledger:
        for effect in payment["operations"]:
            if effect["status_code"] not in REFUSED:
                found[effect["reference"]].append(effect)
    return found


def moved_twice(operations: Iterable[Row], ledger: Iterable[Row]) -> list[str]:
    """G2: operations with more than one effect."""
    moved = effects(ledger)
    return [
        f"{_named(operation)} moved {len(moved[operation['operation_uuid']])} times"
        for operation in operations
        if len(moved[operation["operation_uuid"]]) > 1
    ]


def unended(operations: Iterable[Row]) -> list[str]:
    """G3: operations that have not ended, or without a reason."""
    return [_named(one) for one in operations if one["state"] not in ENDS or not one["reason"]]


def untrue(operations: Iterable[Row], ledger: Iterable[Row]) -> list[str]:
    """G4: operations that succeeded without just the effect they were for, or were refused and have one."""
    moved, found = effects(ledger), []
    for operation in operations:
        seen = [
            (effect["kind"], effect["amount"], effect["status_code"] in DONE)
            for effect in moved[operation["operation_uuid"]]
        ]
        wanted = [(operation["kind"], operation["amount"], True)]
        if operation["state"] == "succeeded" and seen != wanted:
            found.append(f"{_named(operation)}, and the platform has {seen}")
        if operation["state"] in ("refused", "withdrawn") and seen:
            found.append(f"{_named(operation)}, and the platform has {seen}")
    return found


def overspent(ledger: Iterable[Row]) -> list[str]:
    """G5 on the ledger: payments with more captured or cancelled than authorised, or more refunded than captured."""
    found = []
    for payment in ledger:
        spent: dict[str, int] = defaultdict(int)
        for effect in payment["operations"]:
            spent[effect["kind"]] += effect["amount"] * (effect["status_code"] not in REFUSED)
        if spent["capture"] + spent["cancel"] > payment["amount_authorised"] or spent["refund"] > spent["capture"]:
            found.append(f"{payment['payment_id']}: {dict(spent)} of {payment['amount_authorised']}")
    return found


#: G5 on our record, as of one moment: what the platform lists and what is promised beside it.
OVERSPENT = """
WITH spent AS (
    SELECT payment_key, kind, amount FROM movements WHERE state <> 'refused'
    UNION ALL
    SELECT payment_key, kind, amount FROM operations
    WHERE state IN ('planned', 'sending', 'unknown', 'accepted', 'succeeded', 'review')
    AND NOT EXISTS (SELECT 1 FROM movements WHERE movements.operation_key = operations.operation_key)
), sums AS (
    SELECT payment_key,
        sum(CASE WHEN kind <> 'refund' THEN amount ELSE 0 END) AS taken,
        sum(CASE WHEN kind = 'capture' THEN amount ELSE 0 END) AS captured,
        sum(CASE WHEN kind = 'refund' THEN amount ELSE 0 END) AS refunded
    FROM spent GROUP BY payment_key
)
SELECT payment_id, amount_authorised, taken, captured, refunded FROM sums JOIN payments USING (payment_key)
WHERE taken > amount_authorised OR refunded > captured
"""


def histogram(seconds: Iterable[float], edges: Sequence[float]) -> str:
    """How many took up to so many seconds, for people."""
    found, counts = list(seconds), []
    for low, high in zip((0.0, *edges), (*edges, float("inf")), strict=True):
        count = sum(low < one <= high for one in found)
        counts.append(f"≤ {high:g}: {count}" if high < float("inf") else f"more: {count}")
    return ", ".join(counts)


def _named(operation: Row) -> str:
    return f"operation {operation['operation_key']}, {operation['kind']} of {operation['amount']}, {operation['state']}"
