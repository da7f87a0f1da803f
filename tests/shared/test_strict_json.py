"""What is storable takes no more room than is reckoned for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest_asyncio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.postgres import Connection
from shared.strict_json import check_storable, stored_size
from tests.servers import Databases, connected

_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])),
)
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text("abé", max_size=3), inner, max_size=5),
    max_leaves=20,
)


@pytest_asyncio.fixture(scope="module")
async def postgres(databases: Databases) -> AsyncIterator[Connection]:
    async with connected(databases.read_dsn) as connection:
        yield connection


@given(_values)
@example([1e308, -1e308, 1.5e-308, 5e-324, 1e16, 0.0001])
@settings(deadline=None)
async def test_stored_value_is_no_larger_than_its_stored_size(postgres: Connection, value: Any) -> None:
    check_storable(value)
    stored = await postgres.fetchval("SELECT octet_length($1::jsonb::text)", orjson.dumps(value).decode())
    assert stored - _separators(value) <= stored_size(value)


def _separators(value: Any) -> int:
    """Commas and colons, behind each of which jsonb writes a space."""
    match value:
        case dict():
            return max(len(value) - 1, 0) + len(value) + sum(map(_separators, value.values()))
        case list():
            return max(len(value) - 1, 0) + sum(map(_separators, value))
        case _:
            return 0
