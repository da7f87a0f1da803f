"""The read database: checkpoints, the catalogue of collections, parked events.

Each collection's own tables are created by the projector when it meets the collection.
"""

from alembic import op

revision = "r0001"
down_revision = None
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    CREATE TABLE projection_checkpoints (
        projection      text        NOT NULL,
        partition       int         NOT NULL,
        position        bigint      NOT NULL,
        event_id        uuid,
        log_id          uuid        NOT NULL,
        feed            int         NOT NULL DEFAULT 0,
        partition_count int         NOT NULL,
        updated_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (projection, partition)
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE TABLE collections (
        collection_id  uuid        PRIMARY KEY,
        tenant         text        NOT NULL,
        name           text        COLLATE "C" NOT NULL,
        metric         text        NOT NULL,
        type           text        NOT NULL,
        index          jsonb       NOT NULL,
        embedding_spec jsonb       NOT NULL,
        description    text,
        version        int         NOT NULL,
        position       bigint      NOT NULL,
        created_at     timestamptz NOT NULL,
        updated_at     timestamptz NOT NULL,
        deleted_at     timestamptz
    )
    """,
    "CREATE UNIQUE INDEX collections_live_name ON collections (tenant, name) WHERE deleted_at IS NULL",
    "CREATE INDEX collections_position ON collections (position)",
    """
    CREATE TABLE collection_state (
        collection_id uuid   PRIMARY KEY,
        generation    int    NOT NULL,
        revision      uuid   NOT NULL,
        position      bigint NOT NULL
    )
    """,
    "CREATE INDEX collection_state_position ON collection_state (position)",
    """
    CREATE TABLE collection_changes (
        collection_id uuid   NOT NULL,
        partition     int    NOT NULL,
        last_changed  bigint NOT NULL,
        PRIMARY KEY (collection_id, partition)
    ) WITH (fillfactor = 50)
    """,
    "CREATE INDEX collection_changes_last_changed ON collection_changes (last_changed)",
    """
    CREATE TABLE parked_events (
        position       bigint      PRIMARY KEY,
        partition      int         NOT NULL,
        event_id       uuid        NOT NULL,
        collection_id  uuid        NOT NULL,
        aggregate_id   uuid        NOT NULL,
        aggregate_type text        NOT NULL,
        event_type     text        NOT NULL,
        reason         text        NOT NULL,
        attempts       int         NOT NULL,
        parked_at      timestamptz NOT NULL DEFAULT clock_timestamp()
    )
    """,
    "CREATE INDEX parked_events_aggregate ON parked_events (aggregate_id)",
    "CREATE INDEX parked_events_collection ON parked_events (collection_id)",
    """
    CREATE TABLE retired_tables (
        table_name text        PRIMARY KEY,
        retired_at timestamptz NOT NULL DEFAULT clock_timestamp()
    )
    """,
    # Readers see every table of this database, those of collections to come included.
    """
    DO $$
    DECLARE reader text;
    BEGIN
        FOREACH reader IN ARRAY ARRAY['aindusdb_query', 'aindusdb_command'] LOOP
            IF EXISTS (SELECT FROM pg_roles WHERE rolname = reader) THEN
                EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', reader);
                EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA public TO %I', reader);
                EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO %I', reader);
            END IF;
        END LOOP;
    END $$
    """,
)


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS vector")
    for statement in _STATEMENTS:
        op.execute(statement)
