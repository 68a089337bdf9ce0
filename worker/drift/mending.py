"""Payments that differ, brought in line by the usual way: a hint, and the look that answers it."""

from collections.abc import Mapping

from sqlalchemy import Connection, select

from worker import journal
from worker.drift.comparing import Compared
from worker.drift.differences import Difference
from worker.models import Payment
from worker.reconciliation.claims import raise_hint

#: So many differences stand in a line of the journal.
MOST_TOLD = 12

#: Keys in one statement.
MOST_KEYS = 500


def mend(connection: Connection, found: Compared, gap_seconds: float, *, actor: str = journal.OURSELVES) -> int:
    """Have a payment looked at again, as when a person asks for it, and say in the journal why.

    Args:
        connection: a transaction of this payment alone.
        found: the payment, and what differs.
        gap_seconds: no payment is fetched twice within it.
        actor: who has it mended.

    Returns:
        How many hints the payment has now: it is in line when a look has answered as many.
    """
    payment, told = found.payment, [_told(one) for one in found.differences]
    if len(told) > MOST_TOLD:
        told[MOST_TOLD:] = [f"and {len(told) - MOST_TOLD} more"]
    payment_key = raise_hint(connection, payment.merchant_id, payment.payment_id, gap_seconds)
    why = f"drift: {'; '.join(told)}; it is looked at again"
    name, state = journal.payment_name(payment.merchant_id, payment.payment_id), payment.state
    journal.write(connection, "payment", name, before=state, after=state, why=why, actor=actor)
    wanted = select(Payment.wanted).where(Payment.payment_key == payment_key)
    return int(connection.execute(wanted).scalar_one())


def unanswered(connection: Connection, hints: Mapping[int, int]) -> set[int]:
    """The payments whose hints no look has answered yet, and for which one is still to come.

    Args:
        connection: to read with.
        hints: how many each payment had when it was mended, by its key.
    """
    keys, left = list(hints), set[int]()
    for at in range(0, len(keys), MOST_KEYS):
        waiting = select(Payment.payment_key, Payment.applied).where(Payment.due_at.is_not(None))
        rows = connection.execute(waiting.where(Payment.payment_key.in_(keys[at : at + MOST_KEYS])))
        left.update(row.payment_key for row in rows if row.applied < hints[row.payment_key])
    return left


def _told(one: Difference) -> str:
    return f"{one.what} was {_side(one.ours)} here, {_side(one.theirs)} there"


def _side(value: str | int | None) -> str:
    return "nothing" if value is None else journal.printable(value)
