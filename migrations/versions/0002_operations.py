"""operations: what else was asked for, when it was promised, and what contradicts its end."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True).with_variant(sa.String(23), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("operations", sa.Column("terms", JSON, nullable=True))
    op.add_column("operations", sa.Column("planned_at", TIME, nullable=True))
    op.add_column("operations", sa.Column("anomaly", sa.Text(), nullable=True))
    op.add_column("payments", sa.Column("has_operations", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    op.drop_column("payments", "has_operations")
    op.drop_column("operations", "anomaly")
    op.drop_column("operations", "planned_at")
    op.drop_column("operations", "terms")
