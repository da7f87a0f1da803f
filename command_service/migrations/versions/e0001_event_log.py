"""The event database: the append-only log, its identity, idempotency keys, relay leases."""

from alembic import op

revision = "e0001"
down_revision = None
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    CREATE TABLE events (
        position       bigint      PRIMARY KEY,
        event_id       uuid        NOT NULL UNIQUE,
        tenant         text        NOT NULL,
        collection_id  uuid        NOT NULL,
        aggregate_id   uuid        NOT NULL,
        aggregate_type text        NOT NULL,
        version        int         NOT NULL CHECK (version >= 1),
        event_type     text        NOT NULL,
        schema_version smallint    NOT NULL,
        event_data     jsonb       NOT NULL,
        metadata       jsonb       NOT NULL,
        timestamp      timestamptz NOT NULL,
        UNIQUE (aggregate_id, version)
    ) WITH (fillfactor = 100, toast_tuple_target = 8160)
    """,
    # Base64 does not compress: trying costs the append time, and an uncompressed size can be read without the value.
    "ALTER TABLE events ALTER COLUMN event_data SET STORAGE EXTERNAL",
    "CREATE INDEX events_collection ON events (collection_id, position)",
    """
    CREATE FUNCTION refuse_change_of_the_log() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'the event log is append-only: % is refused', TG_OP USING ERRCODE = 'restrict_violation';
    END $$
    """,
    """
    CREATE TRIGGER events_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_the_log()
    """,
    "ALTER TABLE events ENABLE ALWAYS TRIGGER events_are_append_only",
    """
    CREATE TABLE log_identity (
        only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
        log_id   uuid    NOT NULL DEFAULT gen_random_uuid()
    )
    """,
    "INSERT INTO log_identity DEFAULT VALUES",
    """
    CREATE TABLE idempotency_keys (
        tenant       text        NOT NULL,
        key          text        NOT NULL,
        request_hash bytea       NOT NULL,
        response     jsonb       NOT NULL,
        created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (tenant, key)
    )
    """,
    "CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at)",
    """
    CREATE TABLE relay_leases (
        feed                int         PRIMARY KEY,
        epoch               bigint      NOT NULL DEFAULT 0,
        holder              text,
        expires_at          timestamptz,
        position            bigint      NOT NULL DEFAULT 0,
        event_id            uuid,
        partition_positions bigint[]    NOT NULL DEFAULT '{}'
    )
    """,
    """
    DO $$
    DECLARE reader text;
    BEGIN
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'aindusdb_command') THEN
            GRANT USAGE ON SCHEMA public TO aindusdb_command;
            GRANT SELECT, INSERT ON events TO aindusdb_command;
            GRANT SELECT ON log_identity TO aindusdb_command;
            GRANT SELECT, INSERT, DELETE ON idempotency_keys TO aindusdb_command;
            GRANT SELECT, INSERT, UPDATE ON relay_leases TO aindusdb_command;
        END IF;
        FOREACH reader IN ARRAY ARRAY['aindusdb_query', 'aindusdb_projector'] LOOP
            IF EXISTS (SELECT FROM pg_roles WHERE rolname = reader) THEN
                EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', reader);
                EXECUTE format('GRANT SELECT ON events, log_identity, relay_leases TO %I', reader);
            END IF;
        END LOOP;
    END $$
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
