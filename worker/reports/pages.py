"""Lists of any length, a page at a time: the newest rows first, from where the last page ended."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select

from worker.models import Payment

#: A key is taken when its row is written, its time when that statement began: one may overtake the other by so much.
SLACK = timedelta(minutes=1)

#: A row that the sweep has rung for so often since anybody last claimed it (for two and a half minutes) is left alone.
UNHEARD_RINGS = 5

#: The sweep's longest wait between two rings for the same row.
LONGEST_WAIT_SECONDS = 300.0

#: The conditions of a list, any of which a row may meet, each with whether it is met by few rows.
Branches = Sequence[tuple[Sequence[ColumnElement[bool]], bool]]


def newest_keys(connection: Connection, key: Any, branches: Branches, *, before: int | None, limit: int) -> list[int]:
    """The keys of the newest rows that meet the conditions of any branch.

    Each branch is a statement of its own, so that each can use the index that was made for it. Where few rows meet the
    conditions they are gathered and then sorted: a database that walks along the keys instead, expecting to have a
    page soon, reads the whole table.

    Args:
        connection: to read with.
        key: the table's key.
        branches: conditions.
        before: only keys below this one.
        limit: so many at most.
    """
    found: set[int] = set()
    for conditions, is_few in branches:
        chosen = select(key).where(*conditions).order_by((key + 0 if is_few else key).desc()).limit(limit)
        if before is not None:
            chosen = chosen.where(key < before)
        found.update(connection.execute(chosen).scalars())
    return sorted(found, reverse=True)[:limit]


def last_key_before(connection: Connection, key: Any, at: Any, since: datetime) -> int:
    """The highest key of which it is certain that all rows up to it are older than a time.

    Rows are numbered as they come, so that their times need no index: the place is found by halving.

    Args:
        connection: to read with.
        key: the table's key.
        at: the column with the time at which a row was written.
        since: the time.
    """
    since = since - SLACK
    low, high = 0, connection.execute(select(func.max(key))).scalar_one() or 0
    while low < high:
        middle = (low + high) // 2
        row = connection.execute(select(key, at).where(key > middle).order_by(key).limit(1)).one_or_none()
        if row is not None and row[1] < since:
            low = int(row[0])
        else:
            high = middle
    return low


def merchants(connection: Connection, merchant: Any = Payment.merchant_id) -> list[str]:
    """Every merchant in a table, those that are no longer in the settings too: one step of an index each.

    Args:
        connection: to read with.
        merchant: the column, with which an index begins.
    """
    found: list[str] = []
    while True:
        after = [merchant > found[-1]] if found else []
        least: Any = func.min(merchant)
        merchant_id = connection.execute(select(least).where(*after)).scalar_one()
        if merchant_id is None:
            return found
        found.append(merchant_id)
