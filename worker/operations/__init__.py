"""Money asked for: requests kept, accepted or refused, promised, and settled. In a transaction, never on the network.

requests.py     from a message to a row, which is the first thing that happens to it
ledger.py       a payment's movements and operations under its row lock, and how much of its money is left
acceptance.py   requested → planned or refused; what policies want
linking.py      which of what the platform lists is which of ours
evidence.py     what the record knows of an operation, as `worker.settlement` asks for it
settling.py     what a look or an answer says of the open operations, carried out as `worker.settlement` decides
moves.py        a change of state: checked, journalled; an anomaly, noted once
people.py       withdrawn, resolved, acknowledged: what a person decides
fingerprint.py  which platform this database belongs to
"""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Row

from worker import journal
from worker.database import Database
from worker.lifecycle import MovementKind
from worker.operations.requests import NamesNoPayment, keep, read


class _UsedBefore(Exception):
    """The request's id is that of another operation, whose key this is."""


class CannotAccept(Exception):
    """A request that nothing can be kept of but its reason; said in the journal too."""


def request(
    database: Database,
    kind: MovementKind,
    given: Mapping[str, Any],
    merchant_ids: Collection[str],
    *,
    unnamed: str,
    actor: str | None = None,
) -> Row[Any]:
    """Keep what somebody asks for as an operation; after this commit the request cannot be lost.

    Args:
        database: our record.
        kind: capture, refund or cancel.
        given: the arguments, as they came.
        merchant_ids: our merchants.
        unnamed: what to call a request that has no id of its own.
        actor: who asks, for the journal; the request's source when nobody knows better.

    Returns:
        The operation's row: new, or the one that the same request has made before.

    Raises:
        CannotAccept: it names no payment, or its id was used for another request.
        DatabaseUnavailable: it is not a row yet; the message must be kept.
    """
    try:
        asked = read(kind, given, merchant_ids, unnamed=unnamed)
        with database.transaction() as connection:
            operation = keep(connection, asked, actor)
            if operation.is_other:
                raise _UsedBefore(operation.operation_key)  # so that nothing stays of what keeping it has touched
            return operation
    except NamesNoPayment as error:
        subject, problem = journal.printable(given.get("payment_id")), str(error)
    except _UsedBefore as error:
        subject = f"{asked.source}/{asked.request_id}"[:160]
        problem = f"request_id was used for another request, operation {error}; nothing has changed"
    why = f"{kind}: {problem}"
    with database.transaction() as connection:
        journal.write(connection, "request", subject, before=None, after="refused", why=why, actor=actor or "task")
    raise CannotAccept(problem)
