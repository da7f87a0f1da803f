"""Embeddings of texts that were computed once. A cache: it may be emptied at any time."""

from alembic import op

revision = "e0002"
down_revision = "e0001"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    CREATE TABLE text_embeddings (
        tenant       text        NOT NULL,
        spec         text        NOT NULL,
        content_hash bytea       NOT NULL,
        embedding    bytea       NOT NULL,
        truncated    boolean     NOT NULL,
        used_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (tenant, spec, content_hash)
    )
    """,
    "ALTER TABLE text_embeddings ALTER COLUMN embedding SET STORAGE EXTERNAL",
    "CREATE INDEX text_embeddings_used_at ON text_embeddings (used_at)",
    """
    DO $$
    BEGIN
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'aindusdb_command') THEN
            GRANT SELECT, INSERT, UPDATE, DELETE ON text_embeddings TO aindusdb_command;
        END IF;
    END $$
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
