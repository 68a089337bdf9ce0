"""The journal: every change of state, who made it and why, written in the change's own transaction."""

from collections.abc import Iterable

from sqlalchemy import Connection, insert

from worker.database import now
from worker.models import JournalEntry

#: Who changes what no person and no other system asked for.
OURSELVES = "payhook"

#: What the reason of a line begins with that tells of no change: something seen that contradicts what was final, and a
#: person who has seen to it.
ANOMALY, ACKNOWLEDGED = "anomaly: ", "acknowledged: "


def write(
    connection: Connection,
    subject: str,
    subject_id: str,
    *,
    before: str | None,
    after: str | None,
    why: str,
    actor: str = OURSELVES,
) -> None:
    """Add a line.

    Args:
        connection: the transaction of the change itself.
        subject: payment, operation, event, key or request.
        subject_id: which one, as a person would look for it.
        before: the state it left, None when it is new.
        after: the state it is in, None when it is gone.
        why: the reason, for a person; ids and codes only.
        actor: who did it.
    """
    connection.execute(
        _LINE,
        {
            "actor": actor,
            "subject": subject,
            "subject_id": subject_id,
            "from_state": before,
            "to_state": after,
            "why": why,
        },
    )


def write_replays(
    connection: Connection, events: Iterable[tuple[int, str, str, str]], *, actor: str = OURSELVES
) -> None:
    """Add a line for each of many events: its key, the state it was in, the one it is in, and why."""
    lines = [
        {
            "actor": actor,
            "subject": "event",
            "subject_id": str(key),
            "from_state": before,
            "to_state": after,
            "why": why,
        }
        for key, before, after, why in events
    ]
    if lines:
        connection.execute(_LINE, lines)


def payment_name(merchant_id: str, payment_id: str) -> str:
    """A payment as the journal's lines name it: ids are unique within a merchant."""
    return f"{merchant_id}/{payment_id}"


def printable(given: object) -> str:
    """What somebody gave for a name, as a journal line can hold it."""
    return "".join(sign if sign.isascii() and sign.isprintable() else "?" for sign in str(given)[:64])


#: Built once: a line of every change is written with it.
_LINE = insert(JournalEntry).values(at=now())
