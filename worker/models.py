"""The schema on one page. ``*_id`` is the platform's identifier, ``*_key`` is ours.

Money is an integer in the currency's minor unit, beside its currency. ``due_at`` is when the sweep shall ring for a
row, NULL means never; whether there *is* work is told by the row's state.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from worker.database import UtcTime

#: SQLite numbers rows by itself only for INTEGER; PostgreSQL needs the room.
Key = BigInteger().with_variant(Integer, "sqlite")
Json = JSON().with_variant(JSONB, "postgresql")

#: Operations that may have reached the platform: one payment may have only one of them.
IN_FLIGHT = "state IN ('sending', 'unknown')"


#: The fact in which the sweep leaves its sign of life.
SWEEP_FACT = "heartbeat:sweep"

#: What the names of facts begin with, one of each a merchant: whether it is asked, and how much.
CIRCUIT_FACT, BUDGET_FACT = "circuit:", "budget:"

#: What the name of a periodic job's fact begins with.
JOB_FACT = "job:"


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcTime, dict[str, Any]: Json}


def due_index(table: str, *columns: str) -> Index:
    """The one index the sweep and the claims live on: only rows with work ahead are in it, so it stays small."""
    due = text("due_at IS NOT NULL")
    return Index(f"ix_{table}_due", *(columns or ("due_at",)), postgresql_where=due, sqlite_where=due)


def index(name: str, *columns: str, where: str | None = None) -> Index:
    """An index for lists and gauges; with a condition, only the few rows in question are in it."""
    chosen = None if where is None else text(where)
    return Index(name, *columns, postgresql_where=chosen, sqlite_where=chosen)


class WebhookEvent(Base):
    """One row per event received, kept once whatever the platform sends again."""

    __tablename__ = "webhook_events"
    __table_args__ = (
        # By body, not by envelope id: a redelivery may carry a new id, and two partial refunds may look alike but
        # for their bodies. A second row costs one fetch, a dropped one money.
        UniqueConstraint("body_sha256", "position"),
        due_index("webhook_events", "merchant_id", "payment_id", "event_key"),
        index("ix_webhook_events_payment", "merchant_id", "payment_id", "event_key"),
        index("ix_webhook_events_set_aside", "outcome", "event_key", where="outcome IN ('ignored', 'quarantined')"),
        CheckConstraint("outcome IN ('reconciled', 'ignored', 'quarantined')", name="outcome"),
        CheckConstraint("(done_at IS NULL) = (outcome IS NULL)", name="done_with_outcome"),
    )

    event_key: Mapped[int] = mapped_column(Key, primary_key=True)
    body: Mapped[bytes | None] = mapped_column(LargeBinary)  # exact bytes; an array's are kept once, at position 0
    body_sha256: Mapped[bytes] = mapped_column(LargeBinary(32))
    position: Mapped[int] = mapped_column(Integer, default=0)
    merchant_id: Mapped[str | None] = mapped_column(String(64))
    event_id: Mapped[str | None] = mapped_column(String(128))
    type: Mapped[str | None] = mapped_column(String(128))
    payment_id: Mapped[str | None] = mapped_column(String(64))  # canonical
    key_id: Mapped[str] = mapped_column(String(128))
    received_at: Mapped[datetime]
    deliveries: Mapped[int] = mapped_column(Integer, default=1)
    due_at: Mapped[datetime | None]
    done_at: Mapped[datetime | None]
    outcome: Mapped[str | None] = mapped_column(String(16))
    problem: Mapped[str | None] = mapped_column(Text)
    claims: Mapped[int] = mapped_column(SmallInteger, default=0)
    rings: Mapped[int] = mapped_column(SmallInteger, default=0)  # the sweep's, since it was last claimed


class Payment(Base):
    """What we last knew of a payment; the platform has the final say."""

    __tablename__ = "payments"
    __table_args__ = (
        UniqueConstraint("merchant_id", "payment_id"),
        due_index("payments"),
        index("ix_payments_state", "state", "payment_key"),
        index("ix_payments_changed_at", "changed_at"),
        index("ix_payments_problem", "payment_key", where="problem IS NOT NULL"),
        index("ix_payments_expiring", "expires_at", where="state = 'authorised'"),
    )

    payment_key: Mapped[int] = mapped_column(Key, primary_key=True)
    merchant_id: Mapped[str] = mapped_column(String(64))
    payment_id: Mapped[str] = mapped_column(String(64))  # canonical: both id formats fold into one
    merchant_reference: Mapped[str | None] = mapped_column(String(128), index=True)
    state: Mapped[str] = mapped_column(String(16))
    status: Mapped[str | None] = mapped_column(String(64))
    status_code: Mapped[int | None] = mapped_column(Integer)
    status_category: Mapped[str | None] = mapped_column(String(64))
    currency: Mapped[str | None] = mapped_column(String(3))
    amount_authorised: Mapped[int] = mapped_column(BigInteger, default=0)
    amount_captured: Mapped[int] = mapped_column(BigInteger, default=0)
    amount_capture_pending: Mapped[int] = mapped_column(BigInteger, default=0)
    amount_refunded: Mapped[int] = mapped_column(BigInteger, default=0)
    amount_refund_pending: Mapped[int] = mapped_column(BigInteger, default=0)
    amount_cancelled: Mapped[int] = mapped_column(BigInteger, default=0)
    snapshot: Mapped[dict[str, Any] | None]  # redacted
    refreshed_at: Mapped[datetime | None]
    changed_at: Mapped[datetime | None]  # when state or amounts last changed: polling slows down with its age
    authorised_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]  # when the authorisation ends, by our reckoning
    policy_at: Mapped[datetime | None]
    has_operations: Mapped[bool] = mapped_column(default=False, server_default=false())  # a look need not ask for them
    wanted: Mapped[int] = mapped_column(BigInteger, default=0)  # hints so far
    applied: Mapped[int] = mapped_column(BigInteger, default=0)  # hints answered: there is work while wanted > applied
    claims: Mapped[int] = mapped_column(SmallInteger, default=0)  # counted when claiming, so it survives SIGKILL
    failures: Mapped[int] = mapped_column(SmallInteger, default=0)  # looks in a row that gave no answer
    rings: Mapped[int] = mapped_column(SmallInteger, default=0)  # the sweep's, since it was last claimed
    claim_token: Mapped[str | None] = mapped_column(String(32))
    claimed_until: Mapped[datetime | None]  # nobody claims before: the lease, afterwards the gap or the back-off
    turn_at: Mapped[datetime | None]  # when the platform may be asked for it: its slots of the budget are taken
    due_at: Mapped[datetime | None]
    problem: Mapped[str | None] = mapped_column(Text)


class Operation(Base):
    """Money somebody asked us to move, promised before it is moved."""

    __tablename__ = "operations"
    __table_args__ = (
        UniqueConstraint("merchant_id", "source", "request_id"),
        UniqueConstraint("idempotence_key"),
        Index(
            "uq_operations_one_in_flight",
            "payment_key",
            unique=True,
            postgresql_where=text(IN_FLIGHT),
            sqlite_where=text(IN_FLIGHT),
        ),
        due_index("operations"),
        index(
            "ix_operations_open",
            "state",
            "operation_key",
            where="state NOT IN ('succeeded', 'refused', 'withdrawn')",
        ),
        index("ix_operations_state", "state", "operation_key"),
        index("ix_operations_anomaly", "operation_key", where="anomaly IS NOT NULL"),
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint("kind IN ('capture', 'refund', 'cancel')", name="kind"),
        CheckConstraint(
            "state IN ('requested', 'planned', 'sending', 'accepted', 'succeeded', 'refused',"
            " 'unknown', 'withdrawn', 'review')",
            name="state",
        ),
        CheckConstraint(
            "state IN ('requested', 'refused') OR (amount IS NOT NULL AND currency IS NOT NULL)", name="amount_known"
        ),
    )

    operation_key: Mapped[int] = mapped_column(Key, primary_key=True)
    operation_uuid: Mapped[str] = mapped_column(String(36), unique=True)  # our reference, sent to the platform
    merchant_id: Mapped[str | None] = mapped_column(String(64))
    payment_id: Mapped[str] = mapped_column(String(64))  # as it was asked for
    payment_key: Mapped[int | None] = mapped_column(ForeignKey("payments.payment_key"), index=True)
    kind: Mapped[str] = mapped_column(String(8))
    amount: Mapped[int | None] = mapped_column(BigInteger)
    currency: Mapped[str | None] = mapped_column(String(3))
    is_final: Mapped[bool] = mapped_column(default=False)
    source: Mapped[str] = mapped_column(String(64))
    request_id: Mapped[str] = mapped_column(String(128))
    request_sha256: Mapped[bytes] = mapped_column(LargeBinary(32))
    terms: Mapped[dict[str, Any] | None]  # what else was asked for: reference, reason, on_captured
    request_body: Mapped[bytes | None] = mapped_column(LargeBinary)  # the exact bytes sent
    state: Mapped[str] = mapped_column(String(16))
    planned_at: Mapped[datetime | None]  # when it was promised: a payment's operations are sent in this order
    idempotence_key: Mapped[str | None] = mapped_column(String(40))
    generation: Mapped[int] = mapped_column(SmallInteger, default=0)
    platform_operation_id: Mapped[str | None] = mapped_column(String(64))
    first_sent_at: Mapped[datetime | None]
    last_sent_at: Mapped[datetime | None]
    replayed_5xx: Mapped[int] = mapped_column(SmallInteger, default=0)
    negative_looks: Mapped[int] = mapped_column(SmallInteger, default=0)
    last_looked_at: Mapped[datetime | None]
    claims: Mapped[int] = mapped_column(SmallInteger, default=0)
    rings: Mapped[int] = mapped_column(SmallInteger, default=0)
    claim_token: Mapped[str | None] = mapped_column(String(32))
    claimed_until: Mapped[datetime | None]
    due_at: Mapped[datetime | None]
    reason: Mapped[str | None] = mapped_column(Text)
    anomaly: Mapped[str | None] = mapped_column(Text)  # what the platform shows against a state that is final
    trace: Mapped[str | None] = mapped_column(String(55))  # W3C traceparent of what it followed from
    created_at: Mapped[datetime]


class Attempt(Base):
    """One request that may have left, written before it leaves; ``finished_at`` NULL means possibly sent."""

    __tablename__ = "attempts"

    attempt_key: Mapped[int] = mapped_column(Key, primary_key=True)
    operation_key: Mapped[int] = mapped_column(ForeignKey("operations.operation_key"), index=True)
    generation: Mapped[int] = mapped_column(SmallInteger)
    idempotence_key: Mapped[str] = mapped_column(String(40))
    claim_token: Mapped[str] = mapped_column(String(32))
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    outcome: Mapped[str | None] = mapped_column(String(32))
    http_status: Mapped[int | None] = mapped_column(SmallInteger)
    error_id: Mapped[str | None] = mapped_column(String(128))
    duration_ms: Mapped[int | None] = mapped_column(Integer)


class Movement(Base):
    """A capture, refund or cancellation as the platform lists it; foreign when no operation of ours asked for it."""

    __tablename__ = "movements"
    __table_args__ = (
        UniqueConstraint("merchant_id", "platform_operation_id"),
        CheckConstraint("kind IN ('capture', 'refund', 'cancel')", name="kind"),
        CheckConstraint("state IN ('pending', 'done', 'refused')", name="state"),
    )

    movement_key: Mapped[int] = mapped_column(Key, primary_key=True)
    merchant_id: Mapped[str] = mapped_column(String(64))
    platform_operation_id: Mapped[str] = mapped_column(String(64))
    payment_key: Mapped[int] = mapped_column(ForeignKey("payments.payment_key"), index=True)
    operation_key: Mapped[int | None] = mapped_column(ForeignKey("operations.operation_key"), unique=True)
    kind: Mapped[str] = mapped_column(String(8))
    state: Mapped[str] = mapped_column(String(8))
    amount: Mapped[int] = mapped_column(BigInteger)  # no CHECK: an oddity of the platform must not poison a payment
    currency: Mapped[str] = mapped_column(String(3))
    status: Mapped[str | None] = mapped_column(String(64))
    status_code: Mapped[int | None] = mapped_column(Integer)
    reference: Mapped[str | None] = mapped_column(String(128))
    first_seen_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]


class JournalEntry(Base):
    """Every change of state of a payment, an operation or a key, written in the change's own transaction."""

    __tablename__ = "journal"
    __table_args__ = (Index("ix_journal_subject", "subject", "subject_id"),)

    journal_key: Mapped[int] = mapped_column(Key, primary_key=True)
    at: Mapped[datetime]
    actor: Mapped[str] = mapped_column(String(64))  # who
    subject: Mapped[str] = mapped_column(String(16))  # payment, operation, event, key, request
    subject_id: Mapped[str] = mapped_column(String(160))
    from_state: Mapped[str | None] = mapped_column(String(64))
    to_state: Mapped[str | None] = mapped_column(String(64))
    why: Mapped[str] = mapped_column(Text)


class WebhookKey(Base):
    """A webhook secret, encrypted; the key id is inside the ciphertext too, so that swapped rows are refused."""

    __tablename__ = "webhook_keys"

    webhook_key: Mapped[int] = mapped_column(Key, primary_key=True)
    key_id: Mapped[str] = mapped_column(String(128), unique=True)
    merchant_id: Mapped[str | None] = mapped_column(String(64))  # NULL: any of ours
    encrypted_secret: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime]
    retired_at: Mapped[datetime | None]
    not_after: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class Fact(Base):
    """What is true of the installation as a whole: fingerprint, circuits, budgets, heartbeats, periodic jobs."""

    __tablename__ = "facts"
    __table_args__ = (due_index("facts"),)

    fact_key: Mapped[int] = mapped_column(Key, primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    value: Mapped[dict[str, Any] | None]
    due_at: Mapped[datetime | None]
