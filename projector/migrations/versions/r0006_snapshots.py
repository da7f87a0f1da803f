"""Snapshots have names, a time, and an end; those that were made without are made anew when somebody asks for them."""

from alembic import op

revision = "r0006"
down_revision = "r0005"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    INSERT INTO retired_tables (table_name)
    SELECT format('%s_%s_g%s', kind, replace(collection_id::text, '-', ''), generation)
    FROM generations, unnest(ARRAY['records', 'embeddings']) AS kind
    WHERE until_position IS NOT NULL
    ON CONFLICT DO NOTHING
    """,
    "DELETE FROM generations WHERE until_position IS NOT NULL",
    # until_time: of the event at until_position. revision: kept answers are of this generation, and of no other that
    # bore its number in a read model before this one.
    """
    ALTER TABLE generations
        ADD COLUMN snapshot_name text        COLLATE "C",
        ADD COLUMN until_time    timestamptz,
        ADD COLUMN expires_at    timestamptz,
        ADD COLUMN revision      uuid        NOT NULL DEFAULT gen_random_uuid(),
        ADD CONSTRAINT generations_snapshot
            CHECK (num_nulls(snapshot_name, until_position, until_time, expires_at) IN (0, 4))
    """,
    "CREATE UNIQUE INDEX generations_snapshot_name ON generations (collection_id, snapshot_name)",
    "CREATE INDEX generations_expires_at ON generations (expires_at)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
