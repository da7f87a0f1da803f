"""Aliases: other names of collections. A row stays when its alias is removed, so that readers learn of it."""

from alembic import op

revision = "r0004"
down_revision = "r0003"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    CREATE TABLE aliases (
        tenant        text        NOT NULL,
        name          text        COLLATE "C" NOT NULL,
        collection_id uuid        NOT NULL,
        version       int         NOT NULL,
        position      bigint      NOT NULL,
        updated_at    timestamptz NOT NULL,
        removed_at    timestamptz,
        PRIMARY KEY (tenant, name)
    )
    """,
    "CREATE INDEX aliases_position ON aliases (position)",
    "CREATE INDEX aliases_collection ON aliases (collection_id) WHERE removed_at IS NULL",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
