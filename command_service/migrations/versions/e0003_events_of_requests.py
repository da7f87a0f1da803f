"""Finding the events of one request. A filter for each few pages: it costs an append next to nothing."""

from alembic import op

revision = "e0003"
down_revision = "e0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE INDEX events_request ON events USING brin ((metadata ->> 'request_id') text_bloom_ops)"
        " WITH (pages_per_range = 32, autosummarize = on)"
    )
