"""Finds what is due: rings that were lost, claims of processes that died, polls whose time has come."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, case, or_, select, update

from worker.database import Database, insert_into, least, now, seconds_from_now
from worker.models import JOB_FACT, SWEEP_FACT, Fact, Operation, Payment, WebhookEvent
from worker.traffic.budget import merchants_behind

#: A backlog is not rung again and again: a row's next ring comes after 5 s, doubling to 5 min.
RING_AGAIN_SECONDS = (5, 10, 20, 40, 80, 160, 300)

#: The same for periodic jobs: whoever does one says when it is due next.
JOB_AGAIN_SECONDS = 60.0


@dataclass(frozen=True)
class Due:
    """Rows to be rung for; each of ``alone`` in a message of its own, for it may be what killed its last worker."""

    event_keys: list[int]
    payment_keys: list[int]
    operation_keys: list[int]
    events_alone: list[int]
    payments_alone: list[int]
    operations_alone: list[int]
    job_keys: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(map(len, vars(self).values()))


def sweep(database: Database, limit: int) -> Due:
    """Find what is due and move its ``due_at`` on in the same statement; any number of sweeps at once is harmless.

    A payment that is due with every hint answered is due for a poll: the sweep raises a hint of its own. An event whose
    payment is rung for alone is not rung for besides: one look answers both, and each of the two would keep a process
    to itself.

    Args:
        database: where.
        limit: how many rows at most of each table.
    """
    with database.transaction() as connection:
        events = _move_on(connection, WebhookEvent, WebhookEvent.event_key, limit, {})
        poll = {"wanted": case((Payment.wanted == Payment.applied, Payment.wanted + 1), else_=Payment.wanted)}
        payments = _move_on(connection, Payment, Payment.payment_key, limit, poll, *_not_behind(connection))
        operations = _move_on(connection, Operation, Operation.operation_key, limit, {})
        jobs = connection.execute(_DUE_JOBS).scalars().all()
        _beat(connection)
    suspects = {(row.merchant_id, row.payment_id) for row in payments if row.claims > 1}
    return Due(
        event_keys=[row.key for row in events if row.claims <= 1],
        payment_keys=[row.key for row in payments if row.claims <= 1],
        operation_keys=[row.key for row in operations if row.claims <= 1],
        events_alone=[
            row.key for row in events if row.claims > 1 and (row.merchant_id, row.payment_id) not in suspects
        ],
        payments_alone=[row.key for row in payments if row.claims > 1],
        operations_alone=[row.key for row in operations if row.claims > 1],
        job_keys=list(jobs),
    )


def _not_behind(connection: Connection) -> list[ColumnElement[bool]]:
    """Of a merchant whose looks wait for their turns already, only what was asked for: its polls stay due, the longest
    due first, so that an event never waits behind all of them."""
    behind = merchants_behind(connection)
    return [or_(Payment.merchant_id.not_in(behind), Payment.wanted > Payment.applied)] if behind else []


def _move_on(
    connection: Connection, table: Any, key: Any, limit: int, more: dict[str, Any], *only: ColumnElement[bool]
) -> Sequence[Row[Any]]:
    # A CTE is read once; a subquery may be planned as a loop, which would lock and skip anew on every turn.
    due = (
        select(key.label("key"))
        .where(table.due_at <= now(), *only)
        .order_by(table.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    wait = case(dict(enumerate(RING_AGAIN_SECONDS)), value=table.rings, else_=RING_AGAIN_SECONDS[-1])
    return connection.execute(
        update(table)
        .where(key.in_(select(due.c.key)))
        .values(due_at=seconds_from_now(wait), rings=least(table.rings + 1, len(RING_AGAIN_SECONDS)), **more)
        .returning(key.label("key"), table.claims, table.merchant_id, table.payment_id)
    ).all()


def _beat(connection: Connection) -> None:
    """Leave a sign that a sweep ran, for readiness."""
    at = connection.execute(select(now())).scalar_one()
    statement = insert_into(Fact, connection).values(name=SWEEP_FACT, value={"at": at.isoformat()})
    connection.execute(
        statement.on_conflict_do_update(index_elements=["name"], set_={"value": statement.excluded.value})
    )


_DUE_JOBS = (
    update(Fact)
    .where(Fact.name.startswith(JOB_FACT), Fact.due_at <= now())
    .values(due_at=seconds_from_now(JOB_AGAIN_SECONDS))
    .returning(Fact.fact_key)
)
