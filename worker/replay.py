"""Events worked on once more, whatever became of them: their counts begin anew, their history stays in the journal.

What was set aside is understood again from its body, by the rules of this version and for the merchants of today.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Connection, Row, String, Text, bindparam, null, select, update

from worker import inbox, journal
from worker.database import Database, insert_into, now
from worker.inbox import OTHERS_KEY, Hint
from worker.models import WebhookEvent, WebhookKey
from worker.reconciliation.claims import raise_hint

#: Events replayed in one transaction, which holds as many payments' rows at most.
BATCH = 200

ERASED = "its body has been erased, and it names no payment"
KEY_GONE = f"{OTHERS_KEY}, and the key is no longer there to say whose it was"


@dataclass(frozen=True)
class Admission:
    """Whose events are acted on."""

    merchant_ids: Collection[str] | None  # ours, None when this process does not know them
    key_merchants: Mapping[str, str | None]  # of every webhook key there is: the merchant it belongs to, None for any


@dataclass(frozen=True)
class Verdict:
    """What a replay makes of an event."""

    event_key: int
    former: str  # waiting, reconciled, ignored or quarantined
    problem: str | None  # why, until now
    hint: Hint  # what it says, as it is understood now
    refused: str | None = None  # why nothing can follow from it; None: it will be due
    unread: tuple[Hint, ...] = ()  # the further events of its array, which has been one row so far


@dataclass(frozen=True)
class Replayed:
    """What a batch came to."""

    verdicts: tuple[Verdict, ...]
    payment_keys: tuple[int, ...]  # to be rung for

    @property
    def due(self) -> int:
        """How many events are due now."""
        return sum(verdict.refused is None for verdict in self.verdicts)


def judge(connection: Connection, event_keys: Sequence[int], admission: Admission) -> tuple[Verdict, ...]:
    """What a replay would make of events; those that are not there are left out."""
    chosen = select(WebhookEvent.__table__).where(WebhookEvent.event_key.in_(event_keys))
    rows = connection.execute(chosen.order_by(WebhookEvent.event_key)).all()
    shared = {row.body_sha256 for row in rows if row.position > 0}
    first = select(WebhookEvent.body_sha256, WebhookEvent.body).where(
        WebhookEvent.body_sha256.in_(shared), WebhookEvent.position == 0
    )
    bodies = {row.body_sha256: row.body for row in connection.execute(first)} if shared else {}
    return tuple(_verdict(row, bodies.get(row.body_sha256, row.body), admission) for row in rows)


def replay(
    database: Database,
    event_keys: Sequence[int],
    admission: Admission,
    *,
    gap_seconds: float,
    why: str,
    actor: str = journal.OURSELVES,
) -> Replayed:
    """Make events due, and their payments wanted, with every back-off and park forgotten; one transaction.

    Args:
        database: our record.
        event_keys: some `BATCH` of them at most.
        admission: whose are acted on.
        gap_seconds: no payment is fetched twice within it.
        why: for the journal, which keeps what had become of each.
        actor: who does it.

    Returns:
        What became of each. None of them has been looked at yet: they are due.

    Raises:
        DatabaseUnavailable: it is not known whether they are due; to do it again does no harm.
    """
    with database.transaction() as connection:
        verdicts = judge(connection, event_keys, admission)
        again = [verdict for verdict in verdicts if verdict.refused is None]
        # The payments first, in the one order in which anybody waits for several, and then their events, as a look
        # does: the other way round the two would wait for each other.
        payments = sorted({(str(one.hint.merchant_id), str(one.hint.payment_id)) for one in again})
        payment_keys = tuple(raise_hint(connection, *payment, gap_seconds) for payment in payments)
        _make_due(connection, again)
        aside = _set_aside(connection, verdicts)
        _keep_unread(connection, verdicts, admission)
        lines = [(one.event_key, one.former, "waiting", _why(why, one)) for one in again]
        lines += [(one.event_key, one.former, str(one.hint.outcome), _why(why, one)) for one in aside]
        journal.write_replays(connection, lines, actor=actor)
    return Replayed(verdicts, payment_keys)


def key_merchants(connection: Connection) -> dict[str, str | None]:
    """The merchant of every webhook key in the database."""
    keys = connection.execute(select(WebhookKey.key_id, WebhookKey.merchant_id))
    return {row.key_id: row.merchant_id for row in keys}


def _verdict(row: Row[Any], body: bytes | None, admission: Admission) -> Verdict:
    event_key, former, problem = row.event_key, row.outcome or "waiting", row.problem
    hint = Hint(row.merchant_id, row.event_id, row.type, row.payment_id)
    unread: tuple[Hint, ...] = ()
    if former in ("ignored", "quarantined"):
        if body is None and (row.payment_id is None or former == "ignored"):
            return Verdict(event_key, former, problem, hint, refused=ERASED if row.payment_id is None else problem)
        if body is not None:
            hint, unread = _understood(row, body)
    if problem == OTHERS_KEY and row.key_id not in admission.key_merchants:
        return Verdict(event_key, former, problem, hint, refused=KEY_GONE)
    hint = inbox.admitted(hint, admission.key_merchants.get(row.key_id), admission.merchant_ids)
    return Verdict(event_key, former, problem, hint, refused=hint.problem if hint.outcome else None, unread=unread)


def _understood(row: Row[Any], body: bytes) -> tuple[Hint, tuple[Hint, ...]]:
    """What an event says as it is understood now, and the others of an array of which nothing was understood."""
    hints = inbox.understand(body)
    was_read = any((row.merchant_id, row.event_id, row.type))
    unread = () if was_read or row.position > 0 else tuple(hints[1:])
    return hints[row.position if row.position < len(hints) else 0], unread


def _why(why: str, verdict: Verdict) -> str:
    return f"{why}; it was {verdict.former}" + (f": {verdict.problem}" if verdict.problem else "")


def _make_due(connection: Connection, verdicts: Sequence[Verdict]) -> None:
    if verdicts:
        connection.execute(_DUE, [_given(verdict) for verdict in verdicts])


def _set_aside(connection: Connection, verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Note of what is set aside why that is by now; those of which something else is said than before."""
    changed = [
        verdict
        for verdict in verdicts
        if verdict.former in ("ignored", "quarantined")
        and verdict.hint.outcome is not None
        and (verdict.hint.outcome, verdict.hint.problem) != (verdict.former, verdict.problem)
    ]
    if changed:
        told = [{"with_outcome": one.hint.outcome, "with_problem": one.hint.problem} for one in changed]
        connection.execute(_ASIDE, [{**_given(one), **two} for one, two in zip(changed, told, strict=True)])
    return changed


def _keep_unread(connection: Connection, verdicts: Sequence[Verdict], admission: Admission) -> None:
    """Give each event of an array that is understood by now a row of its own, as if it had been from the first."""
    for verdict in verdicts:
        if not verdict.unread:
            continue
        chosen = select(WebhookEvent.__table__).where(WebhookEvent.event_key == verdict.event_key)
        row = connection.execute(chosen).one()
        for position, unread in enumerate(verdict.unread, start=1):
            hint = inbox.admitted(unread, admission.key_merchants.get(row.key_id), admission.merchant_ids)
            statement = insert_into(WebhookEvent, connection).values(
                body_sha256=row.body_sha256,
                position=position,
                key_id=row.key_id,
                received_at=row.received_at,
                deliveries=row.deliveries,
                due_at=now() if hint.outcome is None else null(),
                done_at=null() if hint.outcome is None else now(),
                **vars(hint),
            )
            connection.execute(statement.on_conflict_do_nothing(index_elements=["body_sha256", "position"]))


def _given(verdict: Verdict) -> dict[str, Any]:
    hint = verdict.hint
    return {
        "of_event": verdict.event_key,
        "of_merchant": hint.merchant_id,
        "with_id": hint.event_id,
        "of_type": hint.type,
        "of_payment": hint.payment_id,
    }


_OF_EVENT = (
    update(WebhookEvent)
    .where(WebhookEvent.event_key == bindparam("of_event", type_=BigInteger))
    .values(
        merchant_id=bindparam("of_merchant", type_=String),
        event_id=bindparam("with_id", type_=String),
        type=bindparam("of_type", type_=String),
        payment_id=bindparam("of_payment", type_=String),
    )
)
_DUE = _OF_EVENT.values(due_at=now(), done_at=null(), outcome=null(), problem=null(), claims=0, rings=0)
_ASIDE = _OF_EVENT.values(
    outcome=bindparam("with_outcome", type_=String), problem=bindparam("with_problem", type_=Text), done_at=now()
)
