"""Finding the aliases of a collection: there are few of their events, and only those are in the index."""

from alembic import op

revision = "e0004"
down_revision = "e0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE INDEX events_alias ON events (collection_id) WHERE aggregate_type = 'alias'")
