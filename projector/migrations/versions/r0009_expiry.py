"""When vectors expire: at an instant of their own, or by the retention of their collection."""

from alembic import op

revision = "r0009"
down_revision = "r0008"
branch_labels = None
depends_on = None

_STATEMENTS = (
    # may_expire: a vector of it has, or had, an instant of its own.
    """
    ALTER TABLE collections
        ADD COLUMN retention_seconds bigint,
        ADD COLUMN may_expire        boolean NOT NULL DEFAULT false
    """,
    # The tables of collections that are there already; later ones are made with it (projector/tables.py).
    """
    DO $$
    DECLARE records text;
    BEGIN
        FOR records IN
            SELECT format('records_%s_g%s', replace(collection_id::text, '-', ''), generation) FROM generations
        LOOP
            IF to_regclass(records) IS NOT NULL THEN
                EXECUTE format('ALTER TABLE %I ADD COLUMN expires_at timestamptz', records);
                EXECUTE format('CREATE INDEX %I ON %I (expires_at, id) WHERE expires_at IS NOT NULL',
                               records || '_expiry', records);
            END IF;
        END LOOP;
    END $$
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
