"""How far the moves of collections to another embedding spec are. Where it is lost, they begin again."""

from alembic import op

revision = "e0007"
down_revision = "e0006"
branch_labels = None
depends_on = None

_STATEMENTS = (
    "CREATE INDEX events_collection_changes ON events (position) WHERE aggregate_type = 'collection'",
    # since: the position of the event that began the move. Vectors that were created up to the position `place` have
    # been looked at. vectors: so many were created before the move; null: not counted.
    """
    CREATE TABLE reembeddings (
        collection_id uuid   PRIMARY KEY,
        since         bigint NOT NULL,
        place         bigint NOT NULL DEFAULT 0,
        vectors       bigint,
        looked_at     bigint NOT NULL DEFAULT 0,
        embedded      bigint NOT NULL DEFAULT 0,
        reason        text
    )
    """,
    # Vectors that cannot be embedded, by the position of their creation. why: null where they have no content.
    """
    CREATE TABLE reembeddings_blocked (
        collection_id uuid   NOT NULL REFERENCES reembeddings ON DELETE CASCADE,
        position      bigint NOT NULL,
        vector_id     text   NOT NULL,
        why           text,
        PRIMARY KEY (collection_id, position)
    )
    """,
    """
    DO $$
    BEGIN
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'aindusdb_command') THEN
            GRANT SELECT, INSERT, UPDATE, DELETE ON reembeddings, reembeddings_blocked TO aindusdb_command;
        END IF;
    END $$
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
