"""Which texts of the metadata are dates, as a function that filters and indexes use.

The rule is that of shared/read_model/dates.py.
"""

from alembic import op

revision = "r0003"
down_revision = "r0002"
branch_labels = None
depends_on = None

# IMMUTABLE, though casts to timestamptz in general are not: with the offset in the text it depends on no setting.
_METADATA_DATE = r"""
CREATE FUNCTION metadata_date(value jsonb) RETURNS timestamptz
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    given text := value #>> '{}';
BEGIN
    IF given !~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,9})?)?(Z|[+-](0[0-9]|1[0-5])(:?[0-5][0-9])?)?)?$'
       OR jsonb_typeof(value) <> 'string' THEN
        RETURN NULL;
    END IF;
    IF length(given) = 10 THEN
        given := given || 'T00:00Z';
    ELSIF substr(given, 17) !~ '[Z+-]' THEN
        given := given || 'Z';
    END IF;
    IF NOT pg_input_is_valid(given, 'timestamptz') THEN
        RETURN NULL;
    END IF;
    RETURN given::timestamptz;
END
$$
"""  # noqa: E501


def upgrade() -> None:
    op.execute(_METADATA_DATE)
