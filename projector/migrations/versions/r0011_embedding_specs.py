"""A collection may move from one embedding spec to another: `embedding_spec` is what its tables are to hold."""

from alembic import op

revision = "r0011"
down_revision = "r0010"
branch_labels = None
depends_on = None

_STATEMENTS = (
    # specs: the live ones, as shared.read_model.specs reads them; null: embedding_spec alone, since the creation.
    # spec_since: since which position embedding_spec is live. served_from: position of the event that made it what
    # tables are to hold.
    """
    ALTER TABLE collections
        ADD COLUMN specs       jsonb,
        ADD COLUMN spec_since  bigint NOT NULL DEFAULT 0,
        ADD COLUMN served_from bigint NOT NULL DEFAULT 0
    """,
    "ALTER TABLE generations ADD COLUMN spec_since bigint NOT NULL DEFAULT 0",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
