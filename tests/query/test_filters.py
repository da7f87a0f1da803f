"""The filter language: what every operator means through the HTTP route, and how what is wrong is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import pytest_asyncio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from events_schema.collections import MetadataIndexType
from tests.query import filter_material as material
from tests.query.conftest import running_service
from tests.query.plain_filter import Vector, matches
from tests.query.read_model import ReadModel, Row
from tests.servers import Databases, connected

_ANY_FIXTURE = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]

_SET_COLUMNS = """
UPDATE {records} r SET updated_at = v.updated_at, version = v.version
FROM unnest($1::text[], $2::timestamptz[], $3::int[]) AS v(id, updated_at, version)
WHERE r.id = v.id
"""

_TYPES: tuple[MetadataIndexType, ...] = ("string", "number", "boolean", "date")
_TURNS = len(_TYPES)


def _declared(turn: int) -> dict[str, MetadataIndexType]:
    """An index over every field; by turns, each field has one of each type."""
    return {name: _TYPES[(number + turn) % _TURNS] for number, name in enumerate(material.PATHS)}


_vectors = st.lists(
    st.tuples(material.contents, material.instants, material.instants, st.integers(1, 3), material.metadata),
    min_size=1,
    max_size=30,
)


@pytest_asyncio.fixture(scope="module")
async def every_shape(read_model: ReadModel) -> list[Vector]:
    collections = [
        await read_model.create(name, 2, month_partitions=name == "every-shape-by-month")
        for name in ("every-shape", "every-shape-by-month")
    ]
    collections += [
        await read_model.create(
            f"every-shape-indexed-{turn}", 2, month_partitions=turn == 0, metadata_indexes=_declared(turn)
        )
        for turn in range(_TURNS)
    ]
    instants = material.INSTANTS
    vectors = [
        Vector(
            f"r{n:02}",
            value if isinstance(value, str) else None,
            instants[n % len(instants)],
            instants[n * 3 % len(instants)],
            n % 3 + 1,
            material.every_shape(n, value),
        )
        for n, value in enumerate(material.SCALARS)
    ]
    for collection_id in collections:
        await _replace(read_model, collection_id, vectors)
    return vectors


@pytest_asyncio.fixture(scope="module")
async def filtered(read_model: ReadModel) -> dict[str, UUID]:
    return {
        "filtered": await read_model.create("filtered", 2),
        "filtered-by-month": await read_model.create("filtered-by-month", 2, month_partitions=True),
        "filtered-indexed": await read_model.create("filtered-indexed", 2, metadata_indexes=_declared(0)),
        "filtered-indexed-by-month": await read_model.create(
            "filtered-indexed-by-month", 2, month_partitions=True, metadata_indexes=_declared(1)
        ),
    }


@pytest_asyncio.fixture(scope="module")
async def by_index(databases: Databases, read_model: ReadModel) -> AsyncIterator[httpx.AsyncClient]:
    """A service whose statements use an index wherever one can be used."""
    database = urlsplit(databases.read_reader_dsn).path.lstrip("/")
    async with connected(databases.read_admin_dsn) as admin:
        await admin.execute(f'ALTER ROLE aindusdb_query IN DATABASE "{database}" SET enable_seqscan = off')
        async with running_service(databases.read_reader_dsn) as client:
            # Its connections begin with the setting; later ones of other services do not.
            await client.post("/api/v1/collections/none/vectors/count", json={})
            yield client
        await admin.execute(f'ALTER ROLE aindusdb_query IN DATABASE "{database}" RESET enable_seqscan')


@given(turn=st.integers(0, _TURNS - 1), document=material.conditions())
@example(turn=0, document={"id": {"$in": [9.1e18 + 1024, 9100000000000001024, *range(9)]}})  # equal only to Python
@example(turn=1, document={"id": {"$like": "\U0010ffff%"}})
@example(turn=1, document={"id": {"$like": r"a\_b"}})
@example(turn=1, document={"id": {"$gt": "z"}})  # as a key, a text beyond all other texts
@example(turn=0, document={"a.b": {"$contains": ["a", None]}})
@example(turn=0, document={"id": {"$like": "a_b%"}})
@example(turn=0, document={"$id": {"$ilike": "R0%"}})
@settings(max_examples=300, deadline=None, suppress_health_check=_ANY_FIXTURE)
async def test_every_operator_means_what_a_plain_evaluation_means(
    service: httpx.AsyncClient,
    by_index: httpx.AsyncClient,
    every_shape: list[Vector],
    turn: int,
    document: dict[str, Any],
) -> None:
    await _agree("every-shape", every_shape, document, service, by_index)
    await _agree(f"every-shape-indexed-{turn}", every_shape, document, by_index)


@given(by_month=st.booleans(), turn=st.integers(0, _TURNS - 1), document=material.filters)
@settings(max_examples=100, deadline=None, suppress_health_check=_ANY_FIXTURE)
async def test_conditions_are_joined_as_a_plain_evaluation_joins_them(
    service: httpx.AsyncClient,
    by_index: httpx.AsyncClient,
    every_shape: list[Vector],
    by_month: bool,
    turn: int,
    document: dict[str, Any],
) -> None:
    name = "every-shape-by-month" if by_month else "every-shape"
    await _agree(name, every_shape, document, service, by_index)
    await _agree(f"every-shape-indexed-{turn}", every_shape, document, by_index)


@given(by_month=st.booleans(), drawn=_vectors, filters=st.lists(material.filters, min_size=1, max_size=8))
@settings(max_examples=25, deadline=None, suppress_health_check=_ANY_FIXTURE)
async def test_a_filter_means_the_same_over_any_vectors(
    service: httpx.AsyncClient,
    by_index: httpx.AsyncClient,
    read_model: ReadModel,
    filtered: dict[str, UUID],
    by_month: bool,
    drawn: Sequence[tuple[str | None, datetime, datetime, int, dict[str, Any]]],
    filters: list[dict[str, Any]],
) -> None:
    vectors = [Vector(f"r{n:02}", *columns) for n, columns in enumerate(drawn)]
    suffix = "-by-month" if by_month else ""
    for name, clients in ((f"filtered{suffix}", (service, by_index)), (f"filtered-indexed{suffix}", (by_index,))):
        await _replace(read_model, filtered[name], vectors)
        for document in filters:
            await _agree(name, vectors, document, *clients)


async def _agree(
    collection: str, vectors: Sequence[Vector], document: dict[str, Any], *clients: httpx.AsyncClient
) -> None:
    expected = [vector.id for vector in vectors if matches(vector, document, material.PATHS)]
    path = f"/api/v1/collections/{collection}/vectors"
    for client in clients:
        body = {"filter": document, "max_staleness_ms": 0}
        counted = await client.post(f"{path}/count", json=body)
        assert counted.status_code == 200, (document, counted.text)
        assert (counted.json()["count"], counted.json()["exact"]) == (len(expected), True), document
        found = await client.post(f"{path}/search", json={"embedding": [1, 1], "k": 1000, **body})
        assert found.status_code == 200, (document, found.text)
        assert [hit["id"] for hit in found.json()["hits"]] == expected, document
        assert found.json()["complete"] is True


async def _replace(read_model: ReadModel, collection_id: UUID, vectors: Sequence[Vector]) -> None:
    await read_model.delete(collection_id, [f"r{n:02}" for n in range(100)])
    rows = [Row(vector.id, [1.0, 1.0], vector.metadata, vector.content, vector.created_at) for vector in vectors]
    await read_model.put(collection_id, rows)
    await read_model.connection.execute(
        _SET_COLUMNS.format(records=f"records_{collection_id.hex}_g1"),
        [vector.id for vector in vectors],
        [vector.updated_at for vector in vectors],
        [vector.version for vector in vectors],
    )
