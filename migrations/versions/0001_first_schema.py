"""first schema."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# As they were when this was written: a migration does not follow the models when they change.
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True).with_variant(sa.String(23), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
DUE = {name: sa.text("due_at IS NOT NULL") for name in ("postgresql_where", "sqlite_where")}
IN_FLIGHT = {name: sa.text("state IN ('sending', 'unknown')") for name in ("postgresql_where", "sqlite_where")}


def upgrade() -> None:
    op.create_table(
        "facts",
        sa.Column("fact_key", KEY, nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("value", JSON, nullable=True),
        sa.Column("due_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("fact_key", name=op.f("pk_facts")),
        sa.UniqueConstraint("name", name=op.f("uq_facts_name")),
    )
    op.create_index("ix_facts_due", "facts", ["due_at"], unique=False, **DUE)

    op.create_table(
        "journal",
        sa.Column("journal_key", KEY, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=16), nullable=False),
        sa.Column("subject_id", sa.String(length=160), nullable=False),
        sa.Column("from_state", sa.String(length=64), nullable=True),
        sa.Column("to_state", sa.String(length=64), nullable=True),
        sa.Column("why", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("journal_key", name=op.f("pk_journal")),
    )
    op.create_index("ix_journal_subject", "journal", ["subject", "subject_id"], unique=False)

    op.create_table(
        "payments",
        sa.Column("payment_key", KEY, nullable=False),
        sa.Column("merchant_id", sa.String(length=64), nullable=False),
        sa.Column("payment_id", sa.String(length=64), nullable=False),
        sa.Column("merchant_reference", sa.String(length=128), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=64), nullable=True),
        sa.Column("status_code", sa.Integer(), nullable=True),
        sa.Column("status_category", sa.String(length=64), nullable=True),
        sa.Column("currency", sa.String(length=3), nullable=True),
        sa.Column("amount_authorised", sa.BigInteger(), nullable=False),
        sa.Column("amount_captured", sa.BigInteger(), nullable=False),
        sa.Column("amount_capture_pending", sa.BigInteger(), nullable=False),
        sa.Column("amount_refunded", sa.BigInteger(), nullable=False),
        sa.Column("amount_refund_pending", sa.BigInteger(), nullable=False),
        sa.Column("amount_cancelled", sa.BigInteger(), nullable=False),
        sa.Column("snapshot", JSON, nullable=True),
        sa.Column("refreshed_at", TIME, nullable=True),
        sa.Column("changed_at", TIME, nullable=True),
        sa.Column("authorised_at", TIME, nullable=True),
        sa.Column("policy_at", TIME, nullable=True),
        sa.Column("wanted", sa.BigInteger(), nullable=False),
        sa.Column("applied", sa.BigInteger(), nullable=False),
        sa.Column("claims", sa.SmallInteger(), nullable=False),
        sa.Column("failures", sa.SmallInteger(), nullable=False),
        sa.Column("rings", sa.SmallInteger(), nullable=False),
        sa.Column("claim_token", sa.String(length=32), nullable=True),
        sa.Column("claimed_until", TIME, nullable=True),
        sa.Column("due_at", TIME, nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("payment_key", name=op.f("pk_payments")),
        sa.UniqueConstraint("merchant_id", "payment_id", name=op.f("uq_payments_merchant_id_payment_id")),
    )
    op.create_index("ix_payments_due", "payments", ["due_at"], unique=False, **DUE)
    op.create_index(op.f("ix_payments_merchant_reference"), "payments", ["merchant_reference"], unique=False)

    op.create_table(
        "webhook_events",
        sa.Column("event_key", KEY, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("body_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("merchant_id", sa.String(length=64), nullable=True),
        sa.Column("event_id", sa.String(length=128), nullable=True),
        sa.Column("type", sa.String(length=128), nullable=True),
        sa.Column("payment_id", sa.String(length=64), nullable=True),
        sa.Column("key_id", sa.String(length=128), nullable=False),
        sa.Column("received_at", TIME, nullable=False),
        sa.Column("deliveries", sa.Integer(), nullable=False),
        sa.Column("due_at", TIME, nullable=True),
        sa.Column("done_at", TIME, nullable=True),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("claims", sa.SmallInteger(), nullable=False),
        sa.Column("rings", sa.SmallInteger(), nullable=False),
        sa.CheckConstraint(
            "outcome IN ('reconciled', 'ignored', 'quarantined')", name=op.f("ck_webhook_events_outcome")
        ),
        sa.CheckConstraint("(done_at IS NULL) = (outcome IS NULL)", name=op.f("ck_webhook_events_done_with_outcome")),
        sa.PrimaryKeyConstraint("event_key", name=op.f("pk_webhook_events")),
        sa.UniqueConstraint("body_sha256", "position", name=op.f("uq_webhook_events_body_sha256_position")),
    )
    op.create_index(
        "ix_webhook_events_due", "webhook_events", ["merchant_id", "payment_id", "event_key"], unique=False, **DUE
    )

    op.create_table(
        "webhook_keys",
        sa.Column("webhook_key", KEY, nullable=False),
        sa.Column("key_id", sa.String(length=128), nullable=False),
        sa.Column("merchant_id", sa.String(length=64), nullable=True),
        sa.Column("encrypted_secret", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("retired_at", TIME, nullable=True),
        sa.Column("not_after", TIME, nullable=True),
        sa.Column("last_used_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("webhook_key", name=op.f("pk_webhook_keys")),
        sa.UniqueConstraint("key_id", name=op.f("uq_webhook_keys_key_id")),
    )
    op.create_table(
        "operations",
        sa.Column("operation_key", KEY, nullable=False),
        sa.Column("operation_uuid", sa.String(length=36), nullable=False),
        sa.Column("merchant_id", sa.String(length=64), nullable=True),
        sa.Column("payment_id", sa.String(length=64), nullable=False),
        sa.Column("payment_key", KEY, nullable=True),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=True),
        sa.Column("currency", sa.String(length=3), nullable=True),
        sa.Column("is_final", sa.Boolean(), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("request_id", sa.String(length=128), nullable=False),
        sa.Column("request_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("request_body", sa.LargeBinary(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("idempotence_key", sa.String(length=40), nullable=True),
        sa.Column("generation", sa.SmallInteger(), nullable=False),
        sa.Column("platform_operation_id", sa.String(length=64), nullable=True),
        sa.Column("first_sent_at", TIME, nullable=True),
        sa.Column("last_sent_at", TIME, nullable=True),
        sa.Column("replayed_5xx", sa.SmallInteger(), nullable=False),
        sa.Column("negative_looks", sa.SmallInteger(), nullable=False),
        sa.Column("last_looked_at", TIME, nullable=True),
        sa.Column("claims", sa.SmallInteger(), nullable=False),
        sa.Column("rings", sa.SmallInteger(), nullable=False),
        sa.Column("claim_token", sa.String(length=32), nullable=True),
        sa.Column("claimed_until", TIME, nullable=True),
        sa.Column("due_at", TIME, nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.CheckConstraint("kind IN ('capture', 'refund', 'cancel')", name=op.f("ck_operations_kind")),
        sa.CheckConstraint(
            "state IN ('requested', 'planned', 'sending', 'accepted', 'succeeded', 'refused',"
            " 'unknown', 'withdrawn', 'review')",
            name=op.f("ck_operations_state"),
        ),
        sa.CheckConstraint(
            "state IN ('requested', 'refused') OR (amount IS NOT NULL AND currency IS NOT NULL)",
            name=op.f("ck_operations_amount_known"),
        ),
        sa.CheckConstraint("amount > 0", name=op.f("ck_operations_amount_positive")),
        sa.ForeignKeyConstraint(
            ["payment_key"], ["payments.payment_key"], name=op.f("fk_operations_payment_key_payments")
        ),
        sa.PrimaryKeyConstraint("operation_key", name=op.f("pk_operations")),
        sa.UniqueConstraint("idempotence_key", name=op.f("uq_operations_idempotence_key")),
        sa.UniqueConstraint(
            "merchant_id", "source", "request_id", name=op.f("uq_operations_merchant_id_source_request_id")
        ),
        sa.UniqueConstraint("operation_uuid", name=op.f("uq_operations_operation_uuid")),
    )
    op.create_index("ix_operations_due", "operations", ["due_at"], unique=False, **DUE)
    op.create_index(op.f("ix_operations_payment_key"), "operations", ["payment_key"], unique=False)
    op.create_index("uq_operations_one_in_flight", "operations", ["payment_key"], unique=True, **IN_FLIGHT)

    op.create_table(
        "attempts",
        sa.Column("attempt_key", KEY, nullable=False),
        sa.Column("operation_key", KEY, nullable=False),
        sa.Column("generation", sa.SmallInteger(), nullable=False),
        sa.Column("idempotence_key", sa.String(length=40), nullable=False),
        sa.Column("claim_token", sa.String(length=32), nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("finished_at", TIME, nullable=True),
        sa.Column("outcome", sa.String(length=32), nullable=True),
        sa.Column("http_status", sa.SmallInteger(), nullable=True),
        sa.Column("error_id", sa.String(length=128), nullable=True),
        sa.Column("duration_ms", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["operation_key"], ["operations.operation_key"], name=op.f("fk_attempts_operation_key_operations")
        ),
        sa.PrimaryKeyConstraint("attempt_key", name=op.f("pk_attempts")),
    )
    op.create_index(op.f("ix_attempts_operation_key"), "attempts", ["operation_key"], unique=False)

    op.create_table(
        "movements",
        sa.Column("movement_key", KEY, nullable=False),
        sa.Column("merchant_id", sa.String(length=64), nullable=False),
        sa.Column("platform_operation_id", sa.String(length=64), nullable=False),
        sa.Column("payment_key", KEY, nullable=False),
        sa.Column("operation_key", KEY, nullable=True),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("status", sa.String(length=64), nullable=True),
        sa.Column("status_code", sa.Integer(), nullable=True),
        sa.Column("reference", sa.String(length=128), nullable=True),
        sa.Column("first_seen_at", TIME, nullable=False),
        sa.Column("last_seen_at", TIME, nullable=False),
        sa.CheckConstraint("kind IN ('capture', 'refund', 'cancel')", name=op.f("ck_movements_kind")),
        sa.CheckConstraint("state IN ('pending', 'done', 'refused')", name=op.f("ck_movements_state")),
        sa.ForeignKeyConstraint(
            ["operation_key"], ["operations.operation_key"], name=op.f("fk_movements_operation_key_operations")
        ),
        sa.ForeignKeyConstraint(
            ["payment_key"], ["payments.payment_key"], name=op.f("fk_movements_payment_key_payments")
        ),
        sa.PrimaryKeyConstraint("movement_key", name=op.f("pk_movements")),
        sa.UniqueConstraint(
            "merchant_id", "platform_operation_id", name=op.f("uq_movements_merchant_id_platform_operation_id")
        ),
        sa.UniqueConstraint("operation_key", name=op.f("uq_movements_operation_key")),
    )
    op.create_index(op.f("ix_movements_payment_key"), "movements", ["payment_key"], unique=False)


def downgrade() -> None:
    for table in (
        "movements",
        "attempts",
        "operations",
        "webhook_keys",
        "webhook_events",
        "payments",
        "journal",
        "facts",
    ):
        op.drop_table(table)
