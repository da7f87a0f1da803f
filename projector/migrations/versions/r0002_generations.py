"""Generations: how each pair of a collection's tables was made, and what is done with it.

`collections` says what a collection is to be, `generations` what its tables are. Those that were there before are
each collection's first.
"""

from alembic import op

revision = "r0002"
down_revision = "r0001"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    ALTER TABLE collections
        ADD COLUMN month_partitions boolean NOT NULL DEFAULT false,
        ADD COLUMN last_generation  int     NOT NULL DEFAULT 1
    """,
    # checkpoints: where a generation that is being made stands, by partition; one that is written with the batches of
    # the projection stands where the projection does, and has none.
    """
    CREATE TABLE generations (
        collection_id    uuid        NOT NULL,
        generation       int         NOT NULL,
        embedding_spec   jsonb       NOT NULL,
        metric           text        NOT NULL,
        type             text        NOT NULL,
        index            jsonb       NOT NULL,
        month_partitions boolean     NOT NULL,
        state            text        NOT NULL CHECK (state IN ('building', 'ready', 'active', 'kept', 'stale')),
        indexed          boolean     NOT NULL DEFAULT false,
        lists            int,
        indexed_rows     bigint,
        checkpoints      bigint[],
        automatic        boolean     NOT NULL DEFAULT true,
        reason           text,
        created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
        updated_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (collection_id, generation)
    ) WITH (fillfactor = 50)
    """,
    "CREATE UNIQUE INDEX generations_active ON generations (collection_id) WHERE state = 'active'",
    """
    INSERT INTO generations (collection_id, generation, embedding_spec, metric, type, index, month_partitions, state,
                             indexed)
    SELECT c.collection_id, s.generation, c.embedding_spec, c.metric, c.type, c.index, false, 'active',
           c.index ->> 'kind' = 'hnsw'
    FROM collections c JOIN collection_state s USING (collection_id)
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
