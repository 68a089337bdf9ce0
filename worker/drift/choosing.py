"""Which payments are compared: all, those of a while, or some drawn by lot."""

import random
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, select

from worker.models import Payment
from worker.reconciliation import turns

#: Keys are drawn so many at a time, and so many times; where that finds too few, the payments wanted are few, and read.
DRAWN = 500
DRAWS = 20

NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Wanted:
    """Which payments; by default every one."""

    merchant_ids: Collection[str]
    payment_id: str | None = None  # canonical
    since: datetime | None = None  # those whose state or amounts changed since
    sample: int | None = None  # so many of them, drawn by lot


@dataclass(frozen=True)
class Chosen:
    """The payments, and what it takes to look at them once."""

    payment_keys: tuple[int, ...]  # the one whose last look is longest ago comes first
    calls: Mapping[str, int] = field(default_factory=dict)  # requests, by merchant


def choose(connection: Connection, wanted: Wanted) -> Chosen:
    """Choose payments, the one whose last look is longest ago first."""
    conditions = _conditions(wanted)
    if wanted.sample is None:
        rows: list[Row[Any]] = list(connection.execute(_SHOWN.where(*conditions)))
    else:
        drawn = _drawn(connection, conditions, wanted.sample)
        parts = [drawn[at : at + DRAWN] for at in range(0, len(drawn), DRAWN)]
        rows = [row for part in parts for row in connection.execute(_SHOWN.where(Payment.payment_key.in_(part)))]
    rows.sort(key=lambda row: (row.refreshed_at or NEVER, row.payment_key))
    calls = Counter[str]()
    for row in rows:
        calls[row.merchant_id] += turns.calls_of(row)
    return Chosen(tuple(row.payment_key for row in rows), calls)


def at_rest(connection: Connection, merchant_ids: Collection[str], count: int) -> list[int]:
    """So many payments at rest, drawn by lot: those that nobody looks at any more unless an event comes."""
    rests = (Payment.due_at.is_(None), Payment.wanted <= Payment.applied, Payment.refreshed_at.is_not(None))
    return _drawn(connection, [*_conditions(Wanted(merchant_ids)), *rests], count)


def _conditions(wanted: Wanted) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [Payment.merchant_id.in_(sorted(wanted.merchant_ids))]
    if wanted.payment_id is not None:
        conditions.append(Payment.payment_id == wanted.payment_id)
    if wanted.since is not None:
        conditions.append(Payment.changed_at >= wanted.since)
    return conditions


def _drawn(connection: Connection, conditions: list[Any], count: int) -> list[int]:
    """Keys of payments drawn by lot, each as likely as any other.

    Keys are drawn and those that are there taken: to sort the whole table by chance would read all of it.
    """
    ends = select(func.coalesce(func.min(Payment.payment_key), 0), func.coalesce(func.max(Payment.payment_key), 0))
    first, last = connection.execute(ends).one()
    found: dict[int, None] = {}
    for _ in range(DRAWS if last - first >= count else 0):
        if len(found) >= count:
            break
        drawn = [random.randint(first, last) for _ in range(DRAWN)]  # noqa: S311 - spreads looks, guards nothing
        rows = connection.execute(select(Payment.payment_key).where(Payment.payment_key.in_(drawn), *conditions))
        there = set(rows.scalars())
        found.update(dict.fromkeys(key for key in drawn if key in there))
    if len(found) < count:
        every = list(connection.execute(select(Payment.payment_key).where(*conditions)).scalars())
        return random.sample(every, min(count, len(every)))
    return list(found)[:count]


_SHOWN = select(
    *(Payment.__table__.c[name] for name in ("payment_key", "merchant_id", "state", "status_code", "refreshed_at"))
)
