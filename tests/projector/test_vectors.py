"""What vectors' events do to the rows of their collection."""

from __future__ import annotations

import asyncpg
import pytest

from events_schema.collections import IndexSpec
from projector.vectors import Under, fold_vectors
from shared.read_model.tables import embeddings_table, records_table
from tests.projector.log_writer import LogWriter, NewCollection
from tests.projector.projecting import Projection
from tests.projector.read_model import read_log


async def test_created_updated_and_deleted_vectors_are_the_fold_of_the_log(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection()
    await log.create(articles, "kept", content="first", metadata={"lang": "en", "tags": [1, {"deep": None}]})
    await log.create(articles, "gone")
    await log.update(articles, "kept", content=None)
    await log.update(articles, "kept", metadata={}, embedding=(4, 3, 2, 1))
    await log.delete(articles, "gone")
    await projection.assert_projected()


@pytest.mark.parametrize("batch", [1, 2, 3, 1000])
async def test_a_vector_deleted_and_created_again_keeps_nothing_of_its_old_self(
    projection: Projection, log: LogWriter, batch: int
) -> None:
    articles = await log.create_collection()
    await log.create(articles, "a", content="old", metadata={"old": True})
    await log.delete(articles, "a")
    await log.create(articles, "a", values=(9, 9, 9, 9))
    await log.update(articles, "a", content="new")
    await projection.assert_projected(batch_max_events=batch)
    row = (await projection.stored())[articles.collection_id].vectors["a"]
    assert (row.content, row.metadata, row.version) == ("new", {}, 4)
    assert row.created_at < row.updated_at


async def test_the_same_id_in_two_collections_is_two_vectors(projection: Projection, log: LogWriter) -> None:
    articles, books = await log.create_collection("articles"), await log.create_collection("books")
    await log.create(articles, "same", content="an article")
    await log.create(books, "same", content="a book")
    await log.delete(articles, "same")
    await projection.assert_projected()
    model = await projection.stored()
    assert model[articles.collection_id].vectors == {}
    assert model[books.collection_id].vectors["same"].content == "a book"


async def _row_version(connection: asyncpg.Connection, table: str, vector_id: str) -> tuple[str, str]:
    row = await connection.fetchrow(f"SELECT xmin::text, ctid::text FROM {table} WHERE id = $1", vector_id)
    assert row is not None
    return row["xmin"], row["ctid"]


async def test_an_update_of_metadata_alone_does_not_touch_the_embedding(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection()
    await log.create(articles, "a")
    await projection.catch_up()
    records, embeddings = records_table(articles.collection_id, 1), embeddings_table(articles.collection_id, 1)
    record_before = await _row_version(projection.read, records, "a")
    embedding_before = await _row_version(projection.read, embeddings, "a")
    await log.update(articles, "a", metadata={"new": 1}, content="new")
    await projection.catch_up()
    assert await _row_version(projection.read, records, "a") != record_before
    assert await _row_version(projection.read, embeddings, "a") == embedding_before
    await projection.assert_projected()


async def test_a_halfvec_collection_holds_what_float16_can(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection(type="halfvec")
    await log.create(articles, "a", values=(0.5, -0.25, 1, 2))
    await projection.assert_projected()


async def test_embeddings_too_large_for_a_page_are_projected_without_an_index(
    projection: Projection, log: LogWriter
) -> None:
    articles = await log.create_collection(
        dimension=16_000, index=IndexSpec(kind="none", m=None, ef_construction=None, lists=None)
    )
    await log.create(articles, "a", values=[1.5] * 16_000)
    await projection.assert_projected()


async def test_the_largest_indexed_embedding_fits_beside_the_longest_id(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection(dimension=2_000)
    await log.create(articles, "\U00010348" * 128, values=[0.5] * 2_000)
    await projection.assert_projected()


async def _plan(connection: asyncpg.Connection, collection: NewCollection) -> str:
    async with connection.transaction():
        await connection.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
        table = embeddings_table(collection.collection_id, 1)
        rows = await connection.fetch(f"EXPLAIN SELECT id FROM {table} ORDER BY embedding <=> '[1,2,3,4]' LIMIT 3")
    return "\n".join(row[0] for row in rows)


async def test_a_search_by_distance_can_use_the_hnsw_index(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection()
    await log.create_many(articles, ("a", "b", "c"))
    await projection.catch_up()
    assert f"Index Scan using {embeddings_table(articles.collection_id, 1)}_hnsw" in await _plan(
        projection.read, articles
    )


async def test_a_filter_on_metadata_can_use_the_gin_index(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection()
    await projection.catch_up()
    table = records_table(articles.collection_id, 1)
    async with projection.read.transaction():
        await projection.read.execute("SET LOCAL enable_seqscan = off")
        rows = await projection.read.fetch(f"""EXPLAIN SELECT id FROM {table} WHERE metadata @> '{{"a": 1}}'""")
    assert f"{table}_metadata" in "\n".join(row[0] for row in rows)


async def test_a_fold_has_one_effect_for_each_vector(projection: Projection, log: LogWriter) -> None:
    articles = await log.create_collection()
    await log.create(articles, "a", metadata={"n": 1})
    await log.update(articles, "a", metadata={"n": 2})
    await log.create(articles, "b")
    await log.delete(articles, "b")
    effects = fold_vectors((await read_log(projection.log))[1:], Under(articles.spec))
    assert effects["a"].metadata == {"n": 2}
    assert effects["a"].version == 2
    assert effects["b"].deleted
