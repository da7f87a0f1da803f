"""`aindusdb verify` also finds what the read model lacks altogether, and what keeps one collection from being compared
keeps no other."""

from __future__ import annotations

from uuid import uuid4

import pytest

from projector import replay_session
from projector.claims import claimed
from shared.read_model.tables import records_table
from tests.projector.log_writer import LogWriter
from tests.projector.projecting import Projection, projector_settings
from tests.replay.commanding import answer, refusal


async def _told(projection: Projection, *arguments: str) -> tuple[list[str], list[str]]:
    """What is said of collections and of aliases."""
    said = await answer(projection.databases, "verify", *arguments, exit_code=3)
    assert not said["ok"]
    faults = [f"{one['collection']}: {fault['detail']}" for one in said["collections"] for fault in one["faults"]]
    return faults, [f"{fault['alias']}: {fault['detail']}" for fault in said["aliases"]]


async def test_a_collection_or_an_alias_that_is_not_there_or_should_not_be_is_told(
    projection: Projection, log: LogWriter
) -> None:
    articles, books = [await log.create_collection(name) for name in ("articles", "books")]
    gone = await log.create_collection("gone")
    await log.delete_collection(gone)
    await log.create_collection("gone")
    await log.set_alias("texts", articles)
    set_at = await log.set_alias("texts", books)
    await log.set_alias("papers", articles)
    removed_at = await log.remove_alias("papers", articles)
    await projection.catch_up()
    assert (await answer(projection.databases, "verify"))["aliases"] == []

    one = f"collection_id = '{articles.collection_id}'"
    for statement, expected in (
        (f"DELETE FROM collections WHERE {one}", "articles: the read model does not have it"),
        (f"UPDATE collections SET deleted_at = now() WHERE {one}", "articles: the read model takes it for deleted"),
        (
            f"UPDATE collections SET collection_id = '{uuid4()}', name = 'x' WHERE {one}",
            "x: the log does not have it",
        ),
    ):
        await projection.read.execute(f"CREATE TABLE before AS SELECT * FROM collections WHERE {one}")
        await projection.read.execute(statement)
        faults, aliases = await _told(projection)
        assert expected in faults
        assert aliases == []
        assert expected.startswith("x") or (await _told(projection, "--collection", "articles"))[0] == [expected]
        assert (await answer(projection.databases, "verify", "--collection", "books"))["ok"]
        await projection.read.execute(
            f"DELETE FROM collections WHERE {one} OR name = 'x';"
            "INSERT INTO collections SELECT * FROM before; DROP TABLE before"
        )
    for statement, expected in (
        (
            f"UPDATE aliases SET {one} WHERE name = 'texts'",
            f"texts: it stands for {articles.collection_id}, its event at position {set_at} says {books.collection_id}",
        ),
        (
            "UPDATE aliases SET version = version - 1 WHERE name = 'texts'",
            f"texts: the read model lacks its event at position {set_at}",
        ),
        ("DELETE FROM aliases WHERE name = 'texts'", f"texts: the read model lacks its event at position {set_at}"),
        (
            "UPDATE aliases SET removed_at = NULL WHERE name = 'papers'",
            f"papers: its event at position {removed_at} is AliasRemoved",
        ),
        ("UPDATE aliases SET name = 'more' WHERE name = 'papers'", "more: the log has no version 2 of it"),
    ):
        await projection.read.execute("CREATE TABLE before AS SELECT * FROM aliases")
        await projection.read.execute(statement)
        faults, aliases = await _told(projection)
        assert faults == []
        assert expected in aliases
        assert (await answer(projection.databases, "verify", "--collection", "articles"))["ok"]
        await projection.read.execute(
            "DELETE FROM aliases; INSERT INTO aliases SELECT * FROM before; DROP TABLE before"
        )
    assert (await answer(projection.databases, "verify"))["ok"]


async def test_what_is_being_worked_on_keeps_no_other_collection_from_being_repaired(
    projection: Projection, log: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    articles, books = [await log.create_collection(name) for name in ("articles", "books")]
    await log.create(books, "b")
    await log.update(books, "never created", content="x")
    await projection.catch_up()
    monkeypatch.setattr(replay_session, "CLAIM_WITHIN_SECONDS", 0.3)
    async with claimed(articles.collection_id, projector_settings(projection.databases)) as claim:
        assert claim is not None
        await projection.read.execute(f"UPDATE {records_table(books.collection_id, 1)} SET content = 'no'")
        said = await answer(projection.databases, "verify", "--repair", exit_code=4)
    [busy, repaired] = said["collections"]
    assert busy["error"].startswith("Another process works on the tables of 'articles'")
    assert (repaired["error"], repaired["generations"][0]["repaired"], said["parked_events"]) == (None, 1, 1)
    assert await projection.stored() == await projection.expected(without=set(await projection.parked()))
    assert "no collection 'nothing'" in await refusal(projection.databases, "verify", "--collection", "nothing")
