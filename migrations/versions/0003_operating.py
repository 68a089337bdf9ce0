"""operating: when an authorisation ends, what a capture followed from, and the indexes of lists and gauges."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True).with_variant(sa.String(23), "sqlite")

#: Name, table, columns, and which rows are in it.
INDEXES = (
    ("ix_webhook_events_payment", "webhook_events", ["merchant_id", "payment_id", "event_key"], None),
    (
        "ix_webhook_events_set_aside",
        "webhook_events",
        ["outcome", "event_key"],
        "outcome IN ('ignored', 'quarantined')",
    ),
    ("ix_payments_state", "payments", ["state", "payment_key"], None),
    ("ix_payments_changed_at", "payments", ["changed_at"], None),
    ("ix_payments_problem", "payments", ["payment_key"], "problem IS NOT NULL"),
    ("ix_payments_expiring", "payments", ["expires_at"], "state = 'authorised'"),
    (
        "ix_operations_open",
        "operations",
        ["state", "operation_key"],
        "state NOT IN ('succeeded', 'refused', 'withdrawn')",
    ),
    ("ix_operations_state", "operations", ["state", "operation_key"], None),
    ("ix_operations_anomaly", "operations", ["operation_key"], "anomaly IS NOT NULL"),
)

DUE_COLUMNS = ["merchant_id", "payment_id", "event_key"]


def upgrade() -> None:
    op.add_column("payments", sa.Column("expires_at", TIME, nullable=True))
    op.add_column("payments", sa.Column("turn_at", TIME, nullable=True))
    op.add_column("operations", sa.Column("trace", sa.String(55), nullable=True))
    for name, table, columns, where in INDEXES:
        chosen = None if where is None else sa.text(where)
        op.create_index(name, table, columns, postgresql_where=chosen, sqlite_where=chosen)
    if op.get_bind().dialect.name == "sqlite":
        # Of two indexes that seem equal to it SQLite takes the younger; of a payment's events only the open ones are
        # in this one, and every claim asks for those.
        due = sa.text("due_at IS NOT NULL")
        op.drop_index("ix_webhook_events_due", "webhook_events")
        op.create_index("ix_webhook_events_due", "webhook_events", DUE_COLUMNS, sqlite_where=due)


def downgrade() -> None:
    for name, table, _columns, _where in reversed(INDEXES):
        op.drop_index(name, table)
    op.drop_column("operations", "trace")
    op.drop_column("payments", "turn_at")
    op.drop_column("payments", "expires_at")
