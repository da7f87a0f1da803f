"""Typed indexes over fields of the metadata: which ones a collection declares, and which its generations have."""

from alembic import op

revision = "r0007"
down_revision = "r0006"
branch_labels = None
depends_on = None

_STATEMENTS = (
    # In order of the field, each {"field": …, "type": …}.
    "ALTER TABLE collections ADD COLUMN metadata_indexes jsonb NOT NULL DEFAULT '[]'",
    # A row is there before its index, and goes after it.
    """
    CREATE TABLE metadata_indexes (
        collection_id uuid        NOT NULL,
        generation    int         NOT NULL,
        field         text        COLLATE "C" NOT NULL,
        type          text        NOT NULL CHECK (type IN ('string', 'number', 'boolean', 'date')),
        state         text        NOT NULL CHECK (state IN ('building', 'ready', 'failed', 'dropping')),
        reason        text,
        updated_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (collection_id, generation, field, type),
        FOREIGN KEY (collection_id, generation) REFERENCES generations ON UPDATE CASCADE ON DELETE CASCADE
    )
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
