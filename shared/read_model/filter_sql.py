"""A filter as SQL text with asyncpg's positional parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy.dialects.postgresql.asyncpg import dialect

from shared.read_model.conditions import Filter
from shared.read_model.filter_compiler import compile_filter
from shared.read_model.metadata_indexes import NO_INDEXES, MetadataIndexes

# Parameters by name, so that they can be numbered from where the statement's others end.
_ASYNCPG = dialect(paramstyle="pyformat")  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class FilterSql:
    """`values[0]` is the parameter numbered `first`; the statement's other parameters stand before and behind."""

    condition: str
    values: tuple[Any, ...]


def filter_sql(parsed: Filter, table: str, indexes: MetadataIndexes = NO_INDEXES, *, first: int = 1) -> FilterSql:
    """`table` is the records table's name within the statement."""
    compiled = compile_filter(parsed, table, indexes).compile(dialect=_ASYNCPG)
    names = {name: f"${number}" for number, name in enumerate(compiled.params, start=first)}
    return FilterSql(str(compiled) % names, tuple(compiled.params.values()))
