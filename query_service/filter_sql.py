"""A filter as SQL text with asyncpg's positional parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import literal_column
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql.asyncpg import dialect

from shared.read_model.filters import Filter, compile_filter

_ASYNCPG = dialect()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class FilterSql:
    """`values[0]` is $1; the statement's own parameters follow behind."""

    condition: str
    values: tuple[Any, ...]


def filter_sql(parsed: Filter, column: str) -> FilterSql:
    """`column` is the metadata column as the statement names it."""
    compiled = compile_filter(parsed, literal_column(column, JSONB)).compile(dialect=_ASYNCPG)
    values = []
    for name in compiled.positiontup or ():
        value = compiled.params[name]
        is_json = isinstance(compiled.binds[name].type, JSONB)
        values.append(orjson.dumps(value).decode() if is_json else value)
    return FilterSql(str(compiled), tuple(values))
