"""What the next version might need: a column that this version neither writes nor reads, and an index.

An expansion as docs/deployment.md asks for: it adds, it takes nothing away, it gives no row a value, it locks one
table, and it waits only briefly for the lock, so that nothing queues behind it for long.
"""

import sqlalchemy as sa
from alembic import op

revision = "9001"
down_revision = "THE_ONE_BEFORE"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET lock_timeout = '2s'")
    op.add_column("webhook_events", sa.Column("note", sa.String(64), nullable=True))
    with op.get_context().autocommit_block():
        op.create_index(
            "ix_webhook_events_note", "webhook_events", ["note"], postgresql_concurrently=True, if_not_exists=True
        )
