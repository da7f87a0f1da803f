"""By which version of the projection a generation was made; those that are there by the first."""

from alembic import op

revision = "r0010"
down_revision = "r0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE generations ADD COLUMN projection_version int NOT NULL DEFAULT 1")
