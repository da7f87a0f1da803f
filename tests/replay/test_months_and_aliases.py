"""Replays and verifications of collections whose tables are divided by month, and that have other names."""

from __future__ import annotations

from datetime import timedelta

from shared.read_model.tables import embeddings_table
from tests.projector.log_writer import LogWriter, NewCollection
from tests.projector.projecting import Projection
from tests.projector.rebuilding import generation, states
from tests.query.conftest import running_service
from tests.replay.commanding import answer, refusal
from tests.servers import connected


async def _articles(projection: Projection, log: LogWriter) -> NewCollection:
    """Over some months; a third of the vectors are updated, some deleted, and one comes again in another month."""
    log.pace, log.month_partitions = timedelta(days=2), True
    articles = await log.create_collection()
    for number in range(30):
        await log.create(articles, f"v{number}", (number, 1, 2, 3), content=f"content {number}", metadata={"n": number})
    for number in range(0, 30, 3):
        await log.update(articles, f"v{number}", metadata={"n": 0}, embedding=(1, number, 0, 1))
    for number in range(0, 30, 5):
        await log.delete(articles, f"v{number}")
    await log.create(articles, "v0", content="again")
    await projection.catch_up()
    return articles


async def test_month_partitions_are_verified_and_repaired(projection: Projection, log: LogWriter) -> None:
    databases = projection.databases
    articles = await _articles(projection, log)
    expected = await projection.expected()
    active = await generation(projection, articles, 1)
    leaves = await projection.read.fetchval("SELECT count(*) FROM pg_inherits WHERE inhparent = to_regclass($1)",
                                            active.embeddings)  # fmt: skip
    assert leaves > 2
    for sampled in ((), ("--sample", "100")):
        well = await answer(databases, "verify", *sampled)
        [found] = well["collections"][0]["generations"]
        assert (well["ok"], found["vectors"], found["recall_at_10"]) == (True, 25, 1.0)
    copied = """
        INSERT INTO {records}
        SELECT id, content, metadata, created_at + interval '70 days', updated_at, version, position
        FROM {records} WHERE id = 'v1';
        INSERT INTO {embeddings} SELECT id, embedding, created_at + interval '70 days' FROM {embeddings} WHERE id = 'v1'
    """
    for planted, kinds in (
        ("DELETE FROM {records} WHERE id = 'v1'; DELETE FROM {embeddings} WHERE id = 'v1'", {"missing": 1}),
        ("UPDATE {records} SET content = 'no' WHERE id = 'v2'", {"content": 1}),
        ("UPDATE {embeddings} SET created_at = created_at + interval '70 days' WHERE id = 'v1'", {"missing": 1}),
        ("UPDATE {records} SET updated_at = now() WHERE id = 'v4'", {"timestamps": 1}),
        (copied, {"timestamps": 1}),
    ):
        await projection.read.execute(planted.format(records=active.records, embeddings=active.embeddings))
        said = await answer(databases, "verify", exit_code=3)
        [found] = said["collections"][0]["generations"]
        assert found["differing"] == kinds, planted
        repaired = await answer(databases, "verify", "--collection", "articles", "--repair")
        [found] = repaired["collections"][0]["generations"]
        assert (repaired["ok"], found["repaired"]) == (True, 1), planted
        assert await projection.stored() == expected, planted
    leaf = await projection.read.fetchval(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = to_regclass($1) LIMIT 1", active.embeddings
    )
    await projection.read.execute(f"DROP INDEX {leaf}_hnsw")
    await projection.read.execute("UPDATE collections SET month_partitions = false")
    said = await answer(databases, "verify", exit_code=3)
    [row, index] = said["collections"][0]["faults"]
    assert (row["kind"], row["detail"]) == ("collection", "month_partitions is False, its events say True")
    assert (index["kind"], index["detail"]) == ("index", f"the index {leaf}_hnsw is not there, or not valid")


async def test_an_aliased_collection_in_months_is_replayed_and_searched_under_its_other_name(
    projection: Projection, log: LogWriter
) -> None:
    databases = projection.databases
    books = await log.create_collection("books")
    await log.set_alias("texts", books)
    await log.create(books, "b")
    articles = await _articles(projection, log)
    await log.set_alias("texts", articles)
    await log.set_alias("papers", articles)
    await log.remove_alias("papers", articles)
    await projection.catch_up()
    assert "no collection 'papers'" in await refusal(databases, "replay", "--collection", "papers")
    [done] = (await answer(databases, "replay", "--collection", "texts"))["collections"]
    assert (done["collection"], done["generation"], done["state"]) == ("articles", 2, "active")
    assert (done["checks"]["passed"], done["checks"]["recall_at_10"]) == (True, 1.0)
    assert await states(projection, articles) == {1: "kept", 2: "active"}
    assert await states(projection, books) == {1: "active"}
    new = embeddings_table(articles.collection_id, 2)
    async with connected(databases.read_admin_dsn) as admin:
        leaves = await admin.fetch(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = $1::regclass", new
        )
        indexed = await admin.fetch("SELECT tablename FROM pg_indexes WHERE indexdef LIKE '%USING hnsw%'")
        assert {row[0] for row in leaves} <= {row[0] for row in indexed}
    async with running_service(databases.read_reader_dsn) as service:
        found = await service.post("/api/v1/collections/texts/vectors/search", json={"embedding": [1, 2, 3, 4], "k": 3})
        assert found.json()["hits"][0]["id"] == "v0"
    await log.update(articles, "v1", content="later")
    await projection.catch_up()
    assert (await answer(databases, "verify", "--collection", "texts"))["ok"]
    assert await projection.stored() == await projection.expected()
