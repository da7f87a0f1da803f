"""Events that older releases wrote are read as if they had been written today, by everything that reads the log."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID, uuid5

import orjson
import pytest

from events_schema.aliases import AliasSet
from events_schema.base import RecordedEvent
from events_schema.collections import CollectionCreated, CollectionUpdated
from events_schema.registry import EVENT_TYPES, decode_event
from events_schema.schemas import SAMPLES, told_by
from events_schema.streams import collection_stream, vector_stream
from events_schema.upcasters import UPCASTERS, Upcaster
from events_schema.vectors import VectorCreated, VectorUpdated
from query_service.event_reader import EventReader
from query_service.feed import FeedPosition, Feeds, Selection
from query_service.models import DEFAULT_PARTS, include_of
from query_service.settings import QuerySettings
from shared.postgres import create_pool
from tests.flow.conftest import running_flow
from tests.projector.log_writer import TENANT, LogWriter
from tests.projector.projecting import Projection, until
from tests.projector.read_model import ReadModel, empty, fold, read_log
from tests.query.conftest import SIGNING_KEY
from tests.replay.commanding import answer
from tests.servers import DatabaseFactory, Databases, connected

_EMBEDDING = {
    "spec": {"provider": "client", "model": None, "dimension": 3},
    "encoding": "float32-le-base64",
    "data": "zczMPc3MTD6amZk+",
}


def _read_as_today(event: RecordedEvent) -> RecordedEvent:
    if event.aggregate_type == "skip":
        return event
    decoded = decode_event(event.event_type, event.schema_version, event.event_data)
    return replace(event, event_data=decoded.event_data())


async def _expected(projection: Projection, without: set[int]) -> ReadModel:
    """The fold of the log as it would be if today's release had written all of it."""
    return fold([_read_as_today(one) for one in await read_log(projection.log) if one.position not in without])


async def _assert_read_by_every_fold(projection: Projection, without: set[int] | None = None) -> None:
    """By the projector, from zero and with everything delivered again, by replays and by comparisons."""
    expected = await _expected(projection, without or set())
    assert await projection.stored() == expected
    await empty(projection.read)
    await projection.catch_up(redelivering=True, batch_max_events=5)
    assert await projection.stored() == expected
    assert await projection.parked() == {}
    assert (await answer(projection.databases, "verify"))["ok"]
    replayed = await answer(projection.databases, "replay", "--all")
    assert all(one["checks"]["passed"] for one in replayed["collections"])
    assert await projection.stored() == expected


class Release:
    """Writes the rows that some release wrote: in the form of that version, whatever today's is."""

    def __init__(self, log: LogWriter, name: str, collection_id: UUID) -> None:
        self._log = log
        self.name = name
        self.collection_id = collection_id

    async def collection(self, event_type: str, version: int, data: Mapping[str, Any]) -> int:
        return await self._append("collection", collection_stream(TENANT, self.name), event_type, version, data)

    async def alias(self, event_type: str, version: int, alias: str, data: Mapping[str, Any]) -> int:
        return await self._append("alias", collection_stream(TENANT, alias), event_type, version, data)

    async def vector(self, event_type: str, version: int, data: Mapping[str, Any]) -> int:
        return await self._append("vector", vector_stream(self.collection_id, data["id"]), event_type, version, data)

    async def _append(self, kind: str, stream: UUID, event_type: str, version: int, data: Mapping[str, Any]) -> int:
        return await self._log.append(self.collection_id, stream, kind, event_type, dict(data), schema_version=version)


Samples: TypeAlias = dict[str, list[tuple[int, str, dict[str, Any]]]]


def _samples() -> Samples:
    """Event type -> (version, name, data) of every golden sample."""
    found: dict[str, list[tuple[int, str, dict[str, Any]]]] = {}
    for path in sorted(Path(SAMPLES).glob("*.json")):
        event_type, version = told_by(path)
        found.setdefault(event_type, []).append((version, path.stem, json.loads(path.read_text())))
    assert found.keys() == EVENT_TYPES.keys()
    return found


async def _write_all_samples(log: LogWriter) -> tuple[int, set[int]]:
    """A log that has every golden sample of every version, each where it makes sense; only names and ids are made to
    fit one another. How many rows are of samples, and which events are passed over."""
    samples = _samples()
    written, passed_over = 0, set()
    for number, (version, name, created) in enumerate(samples["CollectionCreated"]):
        release = Release(log, f"c{number}", uuid5(UUID(int=7), name))
        owner = {"name": release.name, "collection_id": str(release.collection_id)}
        await release.collection("CollectionCreated", version, created | owner)
        written += 1
        for made, (vector_version, _, vector) in enumerate(samples["VectorCreated"]):
            identity = {"id": f"{vector['id']}-{made}"}
            await release.vector("VectorCreated", vector_version, vector | identity)
            for update_version, _, update in samples["VectorUpdated"]:
                await release.vector("VectorUpdated", update_version, update | identity)
            for delete_version, _, deletion in samples["VectorDeleted"]:
                await release.vector("VectorDeleted", delete_version, deletion | identity)
                await release.vector("VectorCreated", vector_version, vector | identity)
            written += 1 + len(samples["VectorUpdated"]) + 2 * len(samples["VectorDeleted"])
        for changed_version, changed_name, changed in samples["CollectionUpdated"]:
            # What rebuilds the tables has a test of its own; a few rows are no work for an index of a hundred lists.
            if changed_name.rpartition(".")[2] not in {"tables", "embedding_spec", "reembedded"}:
                await release.collection("CollectionUpdated", changed_version, changed)
                written += 1
        written += await _write_move(release, samples, created["embedding_spec"])
        for alias_version, _, alias in samples["AliasSet"]:
            named = {"name": f"{alias['name']}-{number}", "collection_id": owner["collection_id"]}
            await release.alias("AliasSet", alias_version, named["name"], alias | named | {"collection": release.name})
            for removed_version, _, removed in samples["AliasRemoved"]:
                await release.alias("AliasRemoved", removed_version, named["name"], removed | named)
                written += 1
            written += 1
        for skip_version, _, skip in samples["ProjectionSkipDecided"]:
            unknown = await release.vector("VectorPraised", 1, {"id": "a-1-0"})
            [row] = await log.connection.fetch("SELECT event_id, aggregate_id FROM events WHERE position = $1", unknown)
            decided = skip | {
                "skipped_event_id": str(row["event_id"]), "skipped_position": unknown,
                "skipped_aggregate_id": str(row["aggregate_id"]), "skipped_event_type": "VectorPraised",
            }  # fmt: skip
            await log.append(
                release.collection_id, uuid5(row["event_id"], "skip"), "skip", "ProjectionSkipDecided", decided,
                schema_version=skip_version,
            )  # fmt: skip
            passed_over.add(unknown)
            written += 1
    for version, _, deletion in samples["CollectionDeleted"]:
        gone = Release(log, f"gone-{version}", uuid5(UUID(int=8), str(version)))
        owner = {"name": gone.name, "collection_id": str(gone.collection_id)}
        created_version, _, created = samples["CollectionCreated"][0]
        await gone.collection("CollectionCreated", created_version, created | owner)
        await gone.collection("CollectionDeleted", version, deletion | owner)
        written += 2
    return written, passed_over


async def _write_move(release: Release, samples: Samples, before: dict[str, Any]) -> int:
    """Of the release's collection and its vectors to another model, and back again, for else the projection would wait
    until there are other tables; how many rows that takes."""
    updates = {name: (version, data) for version, name, data in samples["CollectionUpdated"]}
    version, announcement = updates["CollectionUpdated.v1.embedding_spec"]
    await release.collection("CollectionUpdated", version, announcement | {"other_specs": [before]})
    ids = [f"{vector['id']}-{made}" for made, (_, _, vector) in enumerate(samples["VectorCreated"])]
    for vector_id in ids:
        for vector_version, _, reembedded in samples["VectorReembedded"]:
            await release.vector("VectorReembedded", vector_version, reembedded | {"id": vector_id})
    for completed_version, _, completed in samples["CollectionReembedded"]:
        await release.collection("CollectionReembedded", completed_version, completed)
    back = {"embedding_spec": before, "other_specs": [announcement["embedding_spec"]]}
    await release.collection("CollectionUpdated", version, back)
    version, end = updates["CollectionUpdated.v1.reembedded"]
    await release.collection("CollectionUpdated", version, end)
    return 3 + len(ids) * len(samples["VectorReembedded"]) + len(samples["CollectionReembedded"])


async def test_a_log_of_every_golden_sample_is_read_by_everything(database_factory: DatabaseFactory) -> None:
    async with (
        database_factory.pair() as databases,
        connected(databases.events_dsn) as written,
        connected(databases.events_dsn) as log,
        connected(databases.read_dsn) as read,
    ):
        projection = Projection(databases, log, read)
        rows, passed_over = await _write_all_samples(LogWriter(written))
        head = await projection.head()
        assert head == rows + len(passed_over)
        async with running_flow(databases) as flow:
            await until(projection.caught_up, "the projector did not catch up")
            assert await projection.stored() == await _expected(projection, passed_over)
            listed = (await flow.found("GET", "/collections"))["items"]
            assert len(listed) == len(_samples()["CollectionCreated"])
            for collection in listed:
                path = f"/collections/{collection['name']}/vectors"
                for vector in (await flow.found("GET", path))["items"]:
                    items = (await flow.found("GET", f"{path}/{vector['id']}/history"))["items"]
                    unreadable = [item for item in items if item.get("unreadable")]
                    assert [item["event_type"] for item in unreadable] == ["VectorPraised"] * len(unreadable)
                    assert all(item["skipped"]["position"] for item in unreadable)
            fed = await _fed(databases, head)
            assert {one["event_type"] for one in fed} == {*EVENT_TYPES, "VectorPraised"}
            # The write side folds the same streams.
            await flow.written("PATCH", "/collections/c0/vectors/a-1-1", {"metadata": {"patched": True}})
            await until(projection.caught_up, "the projector did not catch up")
        await _assert_read_by_every_fold(projection, passed_over)


async def _fed(databases: Databases, count: int) -> Sequence[dict[str, Any]]:
    """The first messages of the change feed, as they go over the wire."""
    settings = QuerySettings(read_dsn=databases.read_reader_dsn, signing_keys=SIGNING_KEY)
    pool = await create_pool(databases.events_reader_dsn, settings, max_size=1)
    try:
        selection = Selection(TENANT, None, None, include_of(list(DEFAULT_PARTS), "numbers"))
        messages = await Feeds(EventReader(pool), settings).open(selection, FeedPosition(0), "after")
        found: list[dict[str, Any]] = []
        async for message in messages:
            found += [
                orjson.loads(line.removeprefix("data: "))
                for line in message.decode().splitlines()
                if line.startswith("data: ")
            ]
            if len(found) == count:
                return found
    finally:
        pool.terminate()
    raise AssertionError("the feed ended")


def _renamed(old: str, new: str) -> Upcaster:
    return lambda data: {new if key == old else key: value for key, value in data.items()}


CHAINS: Mapping[type[Any], Sequence[Upcaster]] = {
    CollectionCreated: (
        lambda data: {
            **{key: value for key, value in data.items() if key != "dimension"},
            "embedding_spec": {"provider": "client", "model": None, "dimension": data["dimension"]},
        },
        lambda data: {**data, "index": {"kind": "hnsw", "m": None, "ef_construction": None, "lists": None}},
    ),
    CollectionUpdated: (_renamed("note", "remark"), _renamed("remark", "description")),
    VectorCreated: (
        lambda data: {**_renamed("vectors", "embeddings")(data), "metadata": {}},
        _renamed("text", "content"),
    ),
    VectorUpdated: (_renamed("text", "body"), _renamed("body", "content")),
    AliasSet: (_renamed("alias", "label"), _renamed("label", "name")),
}
"""As if each of these had been told in two other ways before: what takes version 1 to 2, and 2 to 3."""


@pytest.fixture
def third_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release whose events are of version 3, and which reads versions 1 and 2."""
    registered = UPCASTERS
    assert isinstance(registered, dict)
    for model, steps in CHAINS.items():
        monkeypatch.setattr(model, "schema_version", 3)
        for version, step in enumerate(steps, start=1):
            monkeypatch.setitem(registered, (model.event_type, version), step)


async def _write_three_versions(log: LogWriter) -> Release:
    release = Release(log, "articles", uuid5(UUID(int=9), "articles"))
    owner = {"name": "articles", "collection_id": str(release.collection_id)}
    await release.collection("CollectionCreated", 1, {**owner, "metric": "cosine", "type": "vector", "dimension": 3})
    await release.vector("VectorCreated", 1, {"id": "a", "vectors": [_EMBEDDING], "text": "first"})
    await release.vector("VectorCreated", 2, {"id": "b", "embeddings": [_EMBEDDING], "metadata": {"n": 2}, "text": "b"})
    await release.vector("VectorUpdated", 1, {"id": "a", "text": "second"})
    await release.collection("CollectionUpdated", 1, {"note": "told long ago"})
    await release.vector("VectorUpdated", 2, {"id": "a", "body": "third"})
    await release.vector("VectorDeleted", 1, {"id": "b"})
    await release.vector(
        "VectorCreated", 3, {"id": "b", "embeddings": [_EMBEDDING], "metadata": {"n": 3}, "content": "again"}
    )
    await release.vector("VectorUpdated", 3, {"id": "a", "content": "fourth", "metadata": {"n": 4}})
    await release.collection("CollectionUpdated", 2, {"remark": "told lately"})
    await release.alias("AliasSet", 1, "current", {"alias": "current", "collection": "articles",
                                                   "collection_id": owner["collection_id"]})  # fmt: skip
    return release


@pytest.mark.usefixtures("third_versions")
async def test_three_versions_of_one_event_are_one_history(
    database_factory: DatabaseFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        database_factory.pair() as databases,
        connected(databases.events_dsn) as written,
        connected(databases.events_dsn) as log,
        connected(databases.read_dsn) as read,
    ):
        projection = Projection(databases, log, read)
        release = await _write_three_versions(LogWriter(written))
        async with running_flow(databases) as flow:
            await until(projection.caught_up, "the projector did not catch up")
            assert await projection.stored() == await _expected(projection, set())
            shown = await flow.found("GET", "/collections/current")
            assert (shown["description"], shown["dimension"]) == ("told lately", 3)
            items = (await flow.found("GET", "/collections/articles/vectors/a/history"))["items"]
            assert [item["data"].get("content") for item in items] == ["first", "second", "third", "fourth"]
            for version, content in enumerate(("first", "second", "third", "fourth"), start=1):
                past = await flow.found("GET", "/collections/articles/vectors/a", params={"version": version})
                assert past["content"] == content
            fed = await _fed(databases, await projection.head())
            contents = [one["data"]["content"] for one in fed if "content" in one["data"]]
            assert contents == ["first", "b", "second", "third", "again", "fourth"]

            # Today's release goes on with what it found: it knows the state, and writes in today's form.
            same = await flow.written("PATCH", "/collections/articles/vectors/a", {"content": "fourth"})
            assert same["version"] == 4
            await flow.written("PATCH", "/collections/articles/vectors/b", {"metadata": {"m": 1}})
            await flow.written("PUT", "/collections/articles/vectors/c", {"embedding": [1, 2, 3], "content": "new"})
            assert (await flow.found("GET", "/collections/articles/vectors/b"))["metadata"] == {"n": 3, "m": 1}
            versions = await log.fetch("SELECT schema_version FROM events ORDER BY position DESC LIMIT 2")
            assert [row["schema_version"] for row in versions] == [3, 3]
            await until(projection.caught_up, "the projector did not catch up")
        await _assert_read_by_every_fold(projection)

        # A release that lacks a step of the chain stops at what it cannot read, and at nothing else.
        registered = UPCASTERS
        assert isinstance(registered, dict)
        monkeypatch.delitem(registered, ("VectorUpdated", 1))
        await empty(projection.read)
        await projection.catch_up()
        parked = await projection.parked()
        stream = vector_stream(release.collection_id, "a")
        later = [one.position for one in await read_log(projection.log) if one.aggregate_id == stream][1:]
        assert list(parked) == later
        assert "VectorUpdated has no upcaster from schema version 1" in parked[later[0]]
