"""The log is vacuumed after so many events, not after so large a share of it, and frozen at once: nothing changes in it
any more. So the work is the same however long the log is, and never comes due all at once."""

from alembic import op

revision = "e0006"
down_revision = "e0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE events SET (
            autovacuum_vacuum_insert_scale_factor = 0,
            autovacuum_vacuum_insert_threshold = 100000,
            autovacuum_freeze_min_age = 0
        )
        """
    )
