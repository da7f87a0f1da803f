"""Parked events that are to be passed over: the position of the log's decision, until it has taken effect."""

from alembic import op

revision = "r0008"
down_revision = "r0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE parked_events ADD COLUMN skip_position bigint")
