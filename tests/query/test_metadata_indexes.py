"""Filters on fields that have an index of their own use it, also in plans that were made for any value."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import httpx
import orjson
import pytest
import pytest_asyncio

from query_service.polls import take_poll
from shared.read_model.filter_sql import filter_sql
from shared.read_model.filters import parse_filter
from shared.read_model.indexed_filters import indexed_part
from tests.query.read_model import TENANT, ReadModel, Row
from tests.servers import Databases, connected

NUMBER = 6_000

_DECLARED: dict[str, Any] = {"price": "number", "author.name": "string", "published": "date", "sold": "boolean"}

_BAD_VALUES = ("12", None, True, {"amount": 12}, [12, "12"], "x" * 10_000)

# Each matches a few vectors of thousands.
_SELECTIVE: list[dict[str, Any]] = [
    {"price": {"$gte": 1_000, "$lt": 1_006}},
    {"$and": [{"price": {"$gt": 2_999}}, {"lang": "en"}, {"$and": [{"price": {"$lte": 3_004}}]}]},
    {"price": {"$lt": 5}},
    {"price": {"$gt": NUMBER - 5}},
    {"price": 1_234},
    {"price": {"$in": [1, 2.0, 77]}},
    {"author.name": {"$gt": "name 5995"}},
    {"author.name": {"$like": "name 012_"}},
    {"published": {"$lt": {"$date": "1970-01-01T00:00:05Z"}}},
    {"sold": True, "lang": "en"},
    {"$or": [{"price": {"$lt": 3}}, {"author.name": "name 0444"}]},
]


def _row(n: int) -> Row:
    metadata: dict[str, Any] = {"lang": "en", "price": n, "author": {"name": f"name {n:04}"}, "sold": n % 1_000 == 0}
    metadata["published"] = f"1970-01-01T{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}Z"
    return Row(f"v{n:04}", [1.0, n / NUMBER], metadata)


def _bad_row(n: int) -> Row:
    bad = _BAD_VALUES[n % len(_BAD_VALUES)]
    return Row(f"bad{n:02}", [1.0, 0.5], {"price": bad, "author": bad, "published": bad, "sold": bad})


@pytest_asyncio.fixture(scope="module", params=[False, True], ids=["one table", "by month"])
async def priced(request: pytest.FixtureRequest, read_model: ReadModel) -> AsyncIterator[UUID]:
    collection_id = await read_model.create("priced", 2, month_partitions=request.param, metadata_indexes=_DECLARED)
    await read_model.put(collection_id, [*map(_row, range(NUMBER)), *map(_bad_row, range(30))])
    await read_model.connection.execute("ANALYZE")
    await asyncio.sleep(0.03)
    yield collection_id
    await read_model.delete_collection(collection_id)
    await asyncio.sleep(0.03)


@pytest.mark.usefixtures("priced")
@pytest.mark.parametrize("document", _SELECTIVE)
async def test_a_selective_filter_on_a_declared_field_is_looked_up_in_its_index(
    service: httpx.AsyncClient, databases: Databases, document: dict[str, Any]
) -> None:
    body = {"embedding": [1, 0], "k": 100, "filter": document, "include": [], "explain": True}
    found = (await service.post("/api/v1/collections/priced/vectors/search", json=body)).json()
    assert found["explain"]["scan"] == "exact"
    assert any("_m" in name.removesuffix("_metadata") for name in found["explain"]["indexes"]), document
    assert not any(name.endswith("_metadata") for name in found["explain"]["indexes"]), document
    counted = (await service.post("/api/v1/collections/priced/vectors/count", json={"filter": document})).json()
    assert counted["count"] == len(found["hits"]) > 0
    # What the index brings is what matches, and what it cannot tell: not one bound's half of it after the other's.
    assert await _rows_from_indexes(databases, document) <= 2 * counted["count"] + 40, document


async def _rows_from_indexes(databases: Databases, document: dict[str, Any]) -> int:
    async with connected(databases.read_reader_dsn) as connection:
        poll = await take_poll(connection, None, 5)
        collection = poll.catalogue.find(TENANT, "priced")
        assert collection is not None
        condition = filter_sql(parse_filter(document), "r", collection.metadata_indexes)
        counting = f"SELECT count(*) FROM {collection.records} r WHERE {condition.condition}"
        for_these = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {counting}", *condition.values)
        await connection.execute(f"SET plan_cache_mode = force_generic_plan; PREPARE counting AS {counting}")
        unknown = ", ".join(["NULL"] * len(condition.values))
        for_any = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE counting({unknown})")
    for plan in (for_these, for_any):
        nodes = list(_nodes(orjson.loads(plan)[0]["Plan"]))
        assert all("Seq Scan" not in node["Node Type"] for node in nodes), document
        scans = [node for node in nodes if "Index Name" in node]
        # A plan for any value expects few as well; of true and false it cannot.
        assert "sold" in document or all(node["Plan Rows"] < NUMBER / 10 for node in scans), document
    brought = [one for one in _nodes(orjson.loads(for_these)[0]["Plan"]) if "Index Name" in one]
    return sum(round(one["Actual Rows"] * one["Actual Loops"]) for one in brought)


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from _nodes(inner)


@pytest.mark.usefixtures("priced")
async def test_a_broad_filter_on_a_declared_field_goes_through_the_vector_index(service: httpx.AsyncClient) -> None:
    body = {"embedding": [1, 0.5], "filter": {"price": {"$gte": 10}}, "include": [], "explain": True}
    found = (await service.post("/api/v1/collections/priced/vectors/search", json=body)).json()
    assert (found["explain"]["scan"], len(found["hits"])) == ("index", 10)


async def test_only_what_an_index_can_answer_is_counted_on(databases: Databases, priced: UUID) -> None:
    async with connected(databases.read_reader_dsn) as connection:
        collection = (await take_poll(connection, None, 5)).catalogue.by_id[priced]
    indexes = collection.metadata_indexes
    assert len(indexes) == len(_DECLARED)
    for answered in _SELECTIVE:
        assert indexed_part(parse_filter(answered), indexes) != indexed_part(parse_filter({}))
    for other in (
        {"price": {"$gt": "1"}}, {"author.name": {"$gt": 1}}, {"published": {"$gt": "1970"}}, {"price": {"$ne": 1}},
        {"author.name": {"$like": "%1"}}, {"author.name": {"$ilike": "name%"}}, {"price": {"$exists": True}},
        {"other": {"$gt": 1}}, {"$or": [{"price": {"$gt": 1}}, {"other": {"$gt": 1}}]},
    ):  # fmt: skip
        assert indexed_part(parse_filter(other), indexes) == indexed_part(parse_filter({})), other
