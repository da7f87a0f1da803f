"""Finding the decisions to pass over events: there are few, and only those are in the index."""

from alembic import op

revision = "e0005"
down_revision = "e0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE INDEX events_skip ON events (position) WHERE aggregate_type = 'skip'")
