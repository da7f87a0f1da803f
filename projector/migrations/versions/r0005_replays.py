"""Generations that end at a position, and what their checks have found."""

from alembic import op

revision = "r0005"
down_revision = "r0004"
branch_labels = None
depends_on = None

# until_position: the generation is a snapshot and goes no further. checked: the last verification's report.
_ADD = """
ALTER TABLE generations
    ADD COLUMN until_position bigint,
    ADD COLUMN checked        jsonb
"""


def upgrade() -> None:
    op.execute(_ADD)
