"""Received events, each kept once: what a body says of a payment, and the one statement that stores it."""

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from onlinepayments.sdk.domain.web_hooks_event import WebhooksEvent
from sqlalchemy import Float, bindparam
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from worker.database import ConnectionBroke, Database, insert_into, now, seconds_from_now
from worker.lifecycle import TEST_PAYMENT_ID, canonical_payment_id
from worker.metrics import WEBHOOK_EVENTS
from worker.models import WebhookEvent

#: More events than this in one body are not the platform's: the whole body is quarantined as one row.
MOST_EVENTS = 1000

API_VERSION = "v1"
TEST_EVENT = "payment.test"


@dataclass(frozen=True)
class Hint:
    """What one event says: whose payment may have changed, or why nothing follows from it."""

    merchant_id: str | None = None
    event_id: str | None = None
    type: str | None = None
    payment_id: str | None = None
    outcome: str | None = None  # ignored or quarantined when nothing follows
    problem: str | None = None


@dataclass(frozen=True)
class Kept:
    """What a genuine body has become."""

    body_sha256: bytes
    event_keys: list[int]  # of all its events
    due: list[int]  # of those that a ring is due for
    is_new: bool  # it was not here before
    hints: Sequence[Hint]  # what it says


def understand(body: bytes) -> list[Hint]:
    """What a genuine body says, one hint per event; a body that cannot be understood is one quarantined hint.

    The platform's guide shows an array, every SDK of it parses one object: both are taken.

    Raises:
        Nothing, whatever the body: the SDK's marshaller raises anything from TypeError to RecursionError on odd
        input (explicit nulls, arrays, deep nesting), and a genuine event must never be answered with an error.
    """
    try:
        parsed = _JSON.decode(body.decode("utf-8"))
        documents = parsed if isinstance(parsed, list) else [parsed]
        if not 1 <= len(documents) <= MOST_EVENTS:
            raise ValueError("an array of no events, or of too many")
        return [_hint(document) for document in documents]
    except Exception as error:
        return [Hint(outcome="quarantined", problem=f"cannot be understood: {type(error).__name__}")]


def keep(
    database: Database,
    body: bytes,
    key_id: str,
    *,
    key_merchant_id: str | None,
    merchant_ids: Collection[str] | None,
    ring_seconds: float,
) -> Kept:
    """Store what a genuine body says, in one durable statement; the same body again only counts a delivery.

    Args:
        database: where to.
        body: the exact bytes received.
        key_id: the webhook key that signed them.
        key_merchant_id: the merchant that key belongs to, None for any.
        merchant_ids: our merchants, None when this process does not know them.
        ring_seconds: how long an event is left to its ring before the sweep rings for it too.

    Raises:
        DatabaseUnavailable: it is not known to be stored; the platform must send it again.
    """
    hints = [admitted(hint, key_merchant_id, merchant_ids) for hint in understand(body)]
    rows = _rows(body, key_id, hints, ring_seconds)
    try:
        stored = _store(database, rows)
    except ConnectionBroke:  # after the server's restart: the statement is idempotent, and a 503 costs ten minutes
        stored = _store(database, rows)
    return Kept(
        body_sha256=rows[0]["body_sha256"],
        event_keys=[row.event_key for row in stored],
        due=[row.event_key for row in stored if row.due_at is not None],
        is_new=stored[0].deliveries == 1,
        hints=hints,
    )


def _rows(body: bytes, key_id: str, hints: Sequence[Hint], ring_seconds: float) -> list[dict[str, Any]]:
    digest = hashlib.sha256(body).digest()
    return [
        {
            "body": body if position == 0 else None,
            "body_sha256": digest,
            "position": position,
            "merchant_id": hint.merchant_id,
            "event_id": hint.event_id,
            "type": hint.type,
            "payment_id": hint.payment_id,
            "key_id": key_id,
            "outcome": hint.outcome,
            "problem": hint.problem,
            "due_in": ring_seconds if hint.outcome is None else None,
            "done_in": None if hint.outcome is None else 0.0,
        }
        for position, hint in enumerate(hints)
    ]


class _Stored(NamedTuple):
    event_key: int
    due_at: datetime | None
    deliveries: int


def _store(database: Database, rows: list[dict[str, Any]]) -> list[_Stored]:
    if len(rows) == 1 and not database.is_sqlite:
        stored: Sequence[Any] = database.run(_KEEP_ONE.string, {**_KEEP_ONE.params, **rows[0]})
    else:
        with database.statement() as connection:
            stored = connection.execute(_KEEP[connection.dialect.name], rows[0] if len(rows) == 1 else rows).all()
    for row in stored:
        (_FIRST if row[2] == 1 else _AGAIN).inc()
    return [_Stored(*row) for row in stored]


def _statement(dialect: str) -> Any:
    in_seconds = {name: seconds_from_now(bindparam(name, type_=Float)) for name in ("due_in", "done_in")}
    statement = insert_into(WebhookEvent, dialect).values(
        received_at=now(), due_at=in_seconds["due_in"], done_at=in_seconds["done_in"], deliveries=1, claims=0, rings=0
    )
    return statement.on_conflict_do_update(
        index_elements=["body_sha256", "position"], set_={"deliveries": WebhookEvent.deliveries + 1}
    ).returning(WebhookEvent.event_key, WebhookEvent.due_at, WebhookEvent.deliveries)


_FIRST, _AGAIN = WEBHOOK_EVENTS.labels("first"), WEBHOOK_EVENTS.labels("again")


#: Built once: the one statement on a request's path.
_KEEP = {dialect: _statement(dialect) for dialect in ("postgresql", "sqlite")}

#: The same for one row, as the driver of PostgreSQL takes it.
_KEEP_ONE = _KEEP["postgresql"].compile(
    dialect=PGDialect_psycopg(),  # type: ignore[no-untyped-call]
    column_keys=[
        "body",
        "body_sha256",
        "position",
        "merchant_id",
        "event_id",
        "type",
        "payment_id",
        "key_id",
        "outcome",
        "problem",
    ],
)


class _Ambiguous(dict[str, Any]):
    """An object that has a name twice that we go by: whoever else reads the same bytes may have gone by the other."""


#: What is read of an event and of what it is about.
_READ = {"apiVersion", "merchantId", "type", "id", "payment", "refund", "paymentLink", "paymentId"}


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) == len(pairs):
        return content
    names = [name for name, _ in pairs]
    return _Ambiguous(content) if any(names.count(name) > 1 for name in _READ) else content


_JSON = json.JSONDecoder(object_pairs_hook=_object)


def _hint(document: Any) -> Hint:
    try:
        event = WebhooksEvent().from_dictionary(document)
        if any(isinstance(part, _Ambiguous) for part in (document, *map(document.get, _HOLDERS))):
            return Hint(outcome="quarantined", problem="says twice what can be said only once")
        return _read(event)
    except Exception as error:
        return Hint(outcome="quarantined", problem=f"the SDK cannot read it: {type(error).__name__}")


def _read(event: WebhooksEvent) -> Hint:
    said = {
        "merchant_id": _storable(event.merchant_id, 64),
        "event_id": _storable(event.id, 128),
        "type": _storable(event.type, 128),
    }
    if event.api_version != API_VERSION:
        return Hint(**said, outcome="quarantined", problem="not of API version v1")
    raw_id = _payment_id(event)
    if said["type"] == TEST_EVENT or raw_id is None:
        why = "the platform's test event" if said["type"] == TEST_EVENT else "names no payment"
        return Hint(**said, outcome="ignored", problem=why)
    payment_id = canonical_payment_id(raw_id) if isinstance(raw_id, str) else None
    if payment_id is None or said["merchant_id"] is None:
        return Hint(**said, outcome="quarantined", problem="its payment id or merchant id is malformed")
    if payment_id == TEST_PAYMENT_ID:
        return Hint(**said, payment_id=payment_id, outcome="ignored", problem="the platform's test payment")
    return Hint(**said, payment_id=payment_id)


#: What an event may be about, as the body has it.
_HOLDERS = ("payment", "refund", "paymentLink")


def _payment_id(event: WebhooksEvent) -> Any:
    """The id the event is about; ``payment.refunded`` carries a refund, and either may come beside an empty other."""
    for holder, name in ((event.payment, "id"), (event.refund, "id"), (event.payment_link, "payment_id")):
        value = getattr(holder, name, None)
        if value is not None:
            return value
    return None


def admitted(hint: Hint, key_merchant_id: str | None, merchant_ids: Collection[str] | None) -> Hint:
    """The hint, or why it is not acted on: genuine, but of a merchant that is not ours or not its key's."""
    if hint.outcome is not None:
        return hint
    problem = None
    if key_merchant_id is not None and hint.merchant_id != key_merchant_id:
        problem = OTHERS_KEY
    elif merchant_ids is not None and hint.merchant_id not in merchant_ids:
        problem = NOT_OURS
    if problem is None:
        return hint
    return Hint(hint.merchant_id, hint.event_id, hint.type, hint.payment_id, "quarantined", problem)


NOT_OURS = "of a merchant that is not ours"
OTHERS_KEY = "signed with the key of another merchant"


def _storable(value: object, longest: int) -> str | None:
    """Text that every database takes and that fits its column; None for anything else (the SDK checks no types)."""
    if not isinstance(value, str) or len(value) > longest or "\0" in value:
        return None
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate
        return None
    return value
