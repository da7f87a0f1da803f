"""Both clients and the command line against the running product, killed processes included."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import typer
from typer.testing import CliRunner

from aindusdb.client import (
    AsyncClient,
    Client,
    Event,
    Example,
    FeedEvent,
    SearchQuery,
    Vector,
    frame_of,
    vectors_of,
    vectors_of_frame,
)
from aindusdb.client import errors as refusals
from aindusdb.commands import data
from tests.client.either import PATIENCE, either
from tests.command.tcp_proxy import Cut, cutting_proxy
from tests.projector.projecting import until
from tests.stack.running import REPOSITORY, StackUnderTest

DIMENSION = 8
KINDS = ("synchronous", "asynchronous")
PARTS = ("content", "metadata", "embedding")
SETTLED: dict[str, Any] = {"timeout_ms": 30_000}
"""How long a read waits for what was just written, on a machine that may be busy."""


@pytest.fixture(scope="module")
def stack() -> Iterator[StackUnderTest]:
    with tempfile.TemporaryDirectory(prefix="aindusdb-client-") as folder:
        under_test = StackUnderTest(Path(folder) / "data", module="aindusdb")
        under_test.up()
        yield under_test
        under_test.remove()


@pytest.fixture(scope="module")
def url(stack: StackUnderTest) -> str:
    return f"http://127.0.0.1:{stack.port}"


def numbers(count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(count).standard_normal((count, DIMENSION)).astype(np.float32)


async def listed(items: Any) -> list[Any]:
    return [one async for one in items]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_vector_is_written_read_changed_and_brought_back(kind: str, url: str) -> None:
    [embedding] = numbers(1)
    async with either(kind, url) as client:
        assert (await client.health()).status == "alive"
        assert (await client.ready()).status == "ready"
        created = await client.create_collection(kind, dimension=DIMENSION, index={"kind": "none"})
        with pytest.raises(refusals.CollectionExistsError) as exists:
            await client.create_collection(kind, dimension=DIMENSION)
        assert exists.value.request_id
        session = client.session()
        await session.put(kind, "a", embedding=embedding, content="first", metadata={"lang": "en"})
        await session.patch(kind, "a", content=None, metadata={"year": 1958}, if_version=1)
        found = await session.get(kind, "a", include=["metadata", "embedding", "content"], **SETTLED)
        assert (found.version, found.content, found.metadata) == (2, None, {"lang": "en", "year": 1958})
        assert found.embedding.dtype == np.float32
        assert (found.embedding == embedding).all(), "bit for bit"
        assert (await session.get(kind, "a", version=1)).content == "first"
        assert (await session.snapshots(kind)).items == []
        with pytest.raises(refusals.SnapshotNotFoundError):
            await session.count(kind, as_of={"position": found.position})
        assert (await session.get(kind, "a", as_of={"position": found.position - 1})).content == "first"
        with pytest.raises(refusals.VersionMismatchError) as moved:
            await session.put(kind, "a", embedding=embedding, if_version=1)
        assert (moved.value.expected, moved.value.current) == (1, 2)
        await session.delete(kind, "a")
        with pytest.raises(refusals.VectorNotFoundError):
            await session.get(kind, "a", **SETTLED)
        restored = await session.restore(kind, "a", 1)
        assert restored.version == 4
        assert (await session.get(kind, "a", **SETTLED)).content == "first"
        events: list[Event] = await listed(session.history(kind, "a", include=["embedding"], page_size=1))
        assert [one.version for one in events] == [1, 2, 3, 4]
        brought = events[0].embedding
        assert brought is not None
        assert (brought == embedding).all()
        await session.update_collection(kind, description="described")
        assert (await session.collection(kind, **SETTLED)).description == "described"
        assert kind in [one.name for one in await listed(session.collections())]
        await session.delete_collection(kind)
        back = await session.restore_collection(kind, created.collection_id)
        assert (back.restored, back.next_cursor) == (1, None)
        assert (await session.get(kind, "a", **SETTLED)).content == "first"


@pytest.mark.parametrize("kind", KINDS)
async def test_many_vectors_go_in_and_out_as_arrays_frames_and_lines(kind: str, url: str) -> None:
    name, embeddings = f"many-{kind}", numbers(2_500)
    ids = [f"v{number:04}" for number in range(len(embeddings))]
    metadata = [{"half": number % 2} for number in range(len(embeddings))]
    async with either(kind, url) as client:
        await client.create_collection(name, dimension=DIMENSION, index={"kind": "none"})
        session = client.session()
        for expected in ((2_500, 0), (0, 2_500)):
            done = await session.put_many(name, vectors_of(ids, embeddings, metadata=metadata))
            assert (done.created, done.unchanged) == expected
        found = await listed(session.vectors(name, include=["embedding"], page_size=1_000, **SETTLED))
        assert [one.id for one in found] == ids
        assert (np.stack([one.embedding for one in found]) == embeddings).all()
        answer = await session.search(name, embedding=embeddings[7], k=3, filter={"half": 1}, explain=True)
        assert answer.hits[0].id == "v0007"
        assert answer.explain is not None
        assert "v0007" not in [one.id for one in (await session.search(name, id="v0007", k=3)).hits]
        assert (await session.count(name, filter={"half": 0})).count == 1_250
        contents: list[Any] = ["a", None, "c"]
        frame = frame_of(found[:3]).assign(content=contents, lang="en")
        rows = list(vectors_of_frame(frame, metadata=["lang"]))
        assert (await session.put_many(name, rows)).updated == 3
        assert (await session.get(name, "v0000", **SETTLED)).metadata == {"lang": "en"}
        lines = [Vector("new", embeddings[0]), {"id": "bad"}, b'{"embedding": "AAAA"}']
        report = await session.import_lines(name, lines)
        assert (report.created, report.failed) == (1, 2)
        assert (await session.get(name, "new", **SETTLED)).version == 1, "the session covers what it imported"


@pytest.mark.parametrize("kind", KINDS)
async def test_vectors_are_found_listed_and_changed_by_what_they_have(kind: str, url: str) -> None:
    name, alias, embeddings = f"found-{kind}", f"alias-{kind}", numbers(40)
    ids = [f"v{number:02}" for number in range(40)]
    metadata = [{"lang": "en" if number % 2 else "fr", "n": number} for number in range(40)]
    async with either(kind, url) as client:
        await client.create_collection(name, dimension=DIMENSION, index={"kind": "none"}, month_partitions=True)
        session = client.session()
        await session.put_many(name, vectors_of(ids, embeddings, metadata=metadata))
        assert (await session.set_alias(alias, name)).version == 1
        found = await session.collection(alias, **SETTLED)
        assert (found.name, found.month_partitions, found.change) == (name, True, None)
        backwards = {"filter": {"lang": "en"}, "direction": "desc", "include": ["embedding"], "page_size": 8}
        first = await anext(session.scroll_pages(alias, **backwards))
        rest = await listed(session.scroll_pages(alias, **backwards, cursor=first.next_cursor))
        scrolled = [one.id for page in (first, *rest) for one in page.items]
        assert scrolled == ids[::-2] == [one.id for one in await listed(session.scroll(alias, **backwards))]
        batch = await session.search_batch(alias, [SearchQuery(embeddings[3], k=1), SearchQuery(id="v03", k=2)])
        assert batch.results[0].hits[0].id == "v03" not in [one.id for one in batch.results[1].hits]
        grouped = await session.search_groups(alias, "metadata.lang", embedding=embeddings[3], per_group=2)
        assert [(one.value, len(one.hits)) for one in grouped.groups] == [("en", 2), ("fr", 2)]
        near = await session.recommend(alias, ["v03", embeddings[5]], [Example(id="v04")], k=40)
        assert {one.id for one in near.hits} == {*ids} - {"v03", "v04"}
        assert near.collection == name
        few = {"n": {"$lt": 10}}
        assert (await session.delete_matching(alias, few, dry_run=True)).matched == 10
        assert (await session.delete_matching(alias, few, **SETTLED)).deleted == 10
        assert (
            await session.patch_matching(alias, {"lang": "fr"}, {"lang": None, "seen": True}, **SETTLED)
        ).changed == 15
        assert (await session.patch_matching(alias, {"seen": True}, {"seen": True}, **SETTLED)).unchanged == 15
        assert (await session.count(alias, filter={"seen": True}, **SETTLED)).count == 15
        assert [(one.name, one.collection) for one in await listed(session.aliases(collection=name))] == [(alias, name)]
        with pytest.raises(refusals.CollectionAliasedError):
            await session.delete_collection(name)
        await session.remove_alias(alias, if_version=1)
        with pytest.raises(refusals.AliasNotFoundError):
            await session.alias(alias)


async def test_a_feed_goes_on_where_it_was_when_the_service_is_killed(stack: StackUnderTest, url: str) -> None:
    async with AsyncClient(url, retries=PATIENCE) as client:
        created = await client.create_collection("fed", dimension=DIMENSION)
        heard: list[FeedEvent] = []
        async for event in client.events(after=created.position - 1, collection_id=created.collection_id):
            heard.append(event)
            if len(heard) == 20:
                break
            if len(heard) == 8:
                psutil.Process(stack.pid("Query service")).kill()
            await client.put("fed", f"v{len(heard)}", embedding=numbers(1)[0])
        assert [one.id for one in heard] == [None, *(f"v{number}" for number in range(1, 20))]
        resumed = client.events(after=heard[-2].message_id, collection_id=created.collection_id)
        assert (await anext(resumed)).position == heard[-1].position


async def test_writes_are_repeated_through_kills_and_nothing_is_doubled(stack: StackUnderTest, url: str) -> None:
    [embedding] = numbers(1)
    async with AsyncClient(url, retries=PATIENCE) as client:
        await client.create_collection("killed", dimension=DIMENSION)
        session = client.session()

        async def write(worker: int) -> list[str]:
            return [
                (await session.create("killed", embedding=embedding, metadata={"worker": worker, "n": n})).id
                for n in range(60)
            ]

        async def are_there(count: int) -> bool:
            found: int = (await session.count("killed", **SETTLED)).count
            return found >= count

        async def kill() -> None:
            for target in (100, 300):
                await until(partial(are_there, target), "they are not written")
                psutil.Process(stack.pid("Command service")).kill()

        *written, _ = await asyncio.gather(*(write(worker) for worker in range(8)), kill())
        ids = [one for each in written for one in each or ()]
        stored = await listed(session.vectors("killed", **SETTLED))
        assert sorted(ids) == [one.id for one in stored], "acknowledged and stored are the same"
        origins = Counter((one.metadata["worker"], one.metadata["n"]) for one in stored)
        assert len(origins) == 8 * 60
        assert set(origins.values()) == {1}


def at_a_shell(url: str, *arguments: str) -> Any:
    """The JSON objects that a command prints, or the only one."""
    app = typer.Typer(pretty_exceptions_enable=False)
    data.register(app)
    done = CliRunner().invoke(app, [*arguments, "--url", url, "--json"])
    assert done.exit_code == 0, done.output
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    return printed[0] if len(printed) == 1 else printed


def test_what_is_exported_is_imported_as_it_was(url: str, tmp_path: Path) -> None:
    shell = partial(at_a_shell, url)
    with Client(url, retries=PATIENCE) as client:
        client.create_collection("exported", dimension=DIMENSION, index={"kind": "none"})
        embeddings = numbers(1_500)
        expiries = (None, datetime(2100, 1, 1, 12, 30, 15, 123_456, tzinfo=UTC))
        vectors = [
            Vector(f"v{n:04}", one, f"text {n}" if n % 3 else None, {"n": n}, expiries[n % 2])
            for n, one in enumerate(embeddings)
        ]
        written = client.put_many("exported", vectors)
        assert written.consistency_token is not None
        before = list(client.vectors("exported", include=PARTS, token=written.consistency_token, **SETTLED))
        for kind, wanted in (("jsonl", {}), ("parquet", {"n": {"$lt": 1_200}})):
            file = str(tmp_path / f"vectors.{kind}")
            shell("export", file, "--collection", "exported", "--filter", json.dumps(wanted))
            report = shell("import", file, "--collection", f"from-{kind}", "--create")
            expected = before[:1_200] if wanted else before
            assert report["created"] == len(expected)
            after = client.vectors(f"from-{kind}", include=PARTS, token=report["consistency_token"], **SETTLED)
            for one, other in zip(expected, after, strict=True):
                assert (one.id, one.content, one.metadata) == (other.id, other.content, other.metadata)
                assert one.expires_at == other.expires_at == expiries[int(one.id[1:]) % 2]
                assert one.embedding is not None
                assert other.embedding is not None
                assert (one.embedding == other.embedding).all()
    assert shell("events", "feed", "--after", "0", "--limit", "1")["position"] == 1


def test_vectors_are_written_found_and_changed_at_a_shell(url: str) -> None:
    shell = partial(at_a_shell, url)
    kites = ("--collection", "kites")
    shell("collections", "create", "kites", "--dimension", "2", "--index", "none", "--month-partitions")
    for n in range(6):
        metadata = json.dumps({"n": n, "odd": bool(n % 2)})
        shell("vectors", "put", f"k{n}", *kites, "--vector", f"[{n}, 1]", "--content", "kite", "--metadata", metadata)
    token = shell("aliases", "set", "current", *kites)["consistency_token"]
    assert [one["name"] for one in shell("aliases", "list", *kites, "--token", token)] == ["current"]
    assert shell("aliases", "show", "current")["collection"] == "kites"
    of_alias = ("--collection", "current")
    odd = ("vectors", "list", *of_alias, "--filter", '{"odd": true}', "--desc", "--limit", "2")
    page = shell(*odd)
    rest = shell(*odd, "--cursor", page["next_cursor"])
    assert [one["id"] for one in (*page["items"], *rest["items"])] == ["k5", "k3", "k1"]
    hits = shell("search", *of_alias, "--id", "k5", "--min-score", "0.9", "--include", "metadata.n")["hits"]
    assert [(one["id"], one["metadata"]) for one in hits] == [(f"k{n}", {"n": n}) for n in (4, 3, 2)]
    grouped = shell("search", *of_alias, "--vector", "[1, 9]", "--group-by", "metadata.odd", "--per-group", "1")
    assert [(one["value"], one["hits"][0]["id"]) for one in grouped["groups"]] == [(False, "k0"), (True, "k1")]
    assert shell("recommend", *of_alias, "--positive", "k5", "--negative", "k0", "-k", "1")["hits"][0]["id"] == "k4"

    few = ("--filter", '{"n": {"$lt": 2}}')
    assert shell("vectors", "delete", *of_alias, *few, "--dry-run")["matched"] == 2
    patched = shell("vectors", "patch", *of_alias, *few, "--metadata", '{"odd": null}')
    again = ("--token", patched["consistency_token"])
    assert (patched["changed"], shell("vectors", "get", "k0", *kites, *again)["metadata"]) == (2, {"n": 0})
    deleted = shell("vectors", "delete", *of_alias, *few, "--limit", "1")
    assert (deleted["deleted"], deleted["limit_reached"]) == (1, True)
    deleted = shell("vectors", "delete", *of_alias, *few, "--token", deleted["consistency_token"])
    assert deleted["deleted"] == 1
    assert shell("vectors", "get", "k0", *kites, "--as-of", str(patched["first_position"] - 1))["version"] == 1
    later = shell("vectors", "patch", "k5", *kites, "--no-content", "--expires-at", "2100-01-01T00:00:00Z",
                  "--if-version", "1")  # fmt: skip
    shown = shell("vectors", "get", "k5", *kites, "--token", later["consistency_token"])
    assert shown["expires_at"] == "2100-01-01T00:00:00Z"
    shell("vectors", "patch", "k5", *kites, "--no-expiry")
    last = shell("vectors", "delete", "k4", *kites)
    assert shell("vectors", "count", *of_alias, "--token", last["consistency_token"])["count"] == 3

    events = shell("vectors", "history", "k0", *kites)
    assert [one["version"] for one in events] == [1, 2, 3]
    assert shell("restore", events[-1]["request_id"])["restored"] == 1
    assert shell("vectors", "restore", "k4", *kites, "--version", "1")["version"] == 3
    shell("aliases", "remove", "current")


def test_a_collection_is_changed_deleted_and_brought_back_at_a_shell(url: str) -> None:
    shell = partial(at_a_shell, url)
    created = shell("collections", "create", "described", "--dimension", "3", "--description", "first")
    assert shell("collections", "update", "described", "--description", "second")["description"] == "second"
    changed = shell("collections", "update", "described", "--no-description", "--metric", "l2", "--wait")
    assert (changed["active"]["metric"], changed["change"], changed["description"]) == ("l2", None, None)
    assert shell("collections", "update", "described", "--month-partitions")["month_partitions"]
    [index] = shell("collections", "update", "described", "--metadata-index", "price:number")["metadata_indexes"]
    assert index["field"] == "price"
    assert shell("collections", "update", "described", "--no-metadata-indexes")["metadata_indexes"] == []
    assert shell("collections", "update", "described", "--retention-seconds", "3600")["retention_seconds"] == 3600
    assert shell("collections", "update", "described", "--no-retention")["retention_seconds"] is None
    assert shell("collections", "delete", "described", "--if-version", "8")["version"] == 9
    back = shell("collections", "restore", "described", "--collection-id", created["collection_id"])
    shown = shell(
        "collections",
        "show",
        "described",
        "--token",
        shell("aliases", "set", "a", "--collection", "described")["consistency_token"],
    )
    assert shown["collection_id"] == back["collection_id"] != created["collection_id"]


def test_what_people_are_shown_is_text(url: str) -> None:
    app = typer.Typer(pretty_exceptions_enable=False)
    data.register(app)
    with Client(url, retries=PATIENCE) as client:
        client.create_collection("shown", dimension=2)
        client.put("shown", "a", embedding=[1, 2], content="a text", metadata={"lang": "en"})
        token = client.set_alias("seen", "shown").consistency_token
        client.collection("shown", token=token, **SETTLED)
    shown = ("--collection", "shown")
    for arguments, said in (
        (("collections", "list"), "shown"),
        (("collections", "show", "shown"), "the tables are what the collection is to be"),
        (("collections", "snapshots", "seen"), "shown has no snapshots."),
        (("aliases", "list"), "seen"),
        (("aliases", "show", "seen"), "shown"),
        (("vectors", "list", *shown), "a text"),
        (("vectors", "list", *shown, "--filter", '{"lang": "fr"}'), "No vector matches."),
        (("vectors", "count", *shown), "1"),
        (("search", *shown, "--vector", "[1, 2]", "--explain"), "scan: "),
        (("search", *shown, "--vector", "[1, 2]", "--group-by", "metadata.lang"), "1 group "),
        (("recommend", *shown, "--positive", "a"), "0 hits"),
        (("vectors", "delete", *shown, "--filter", "{}", "--dry-run"), "1 vector of shown matches"),
        (("vectors", "patch", *shown, "--filter", "{}", "--metadata", '{"lang": "en"}'), "1 were so already"),
        (("vectors", "patch", "a", *shown, "--content", "another"), "a is changed; it has version 2 now"),
        (("vectors", "delete", *shown, "--filter", "{}", "--limit", "1"), "others may match"),
        (("aliases", "remove", "seen"), "Removed seen; shown stays"),
        (("collections", "delete", "shown"), "aindusdb collections restore shown --collection-id"),
    ):
        done = CliRunner().invoke(app, [*arguments, "--url", url])
        assert (done.exit_code, said in done.output) == (0, True), done.output


def test_a_killed_import_is_completed_by_the_same_command(url: str, tmp_path: Path) -> None:
    lines = 4_000
    vectors = np.random.default_rng(4).standard_normal((lines, 32)).round(4)
    file = tmp_path / "vectors.jsonl"
    file.write_text("".join(json.dumps({"embedding": vector.tolist()}) + "\n" for vector in vectors))
    options = ["--collection", "killed-import", "--create", "--dimension", "32", "--batch-size", "50", "--json"]
    command = [sys.executable, "-m", "aindusdb", "import", str(file), *options, "--url", url]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}

    first = subprocess.Popen(command, env=environment)
    progress_file = tmp_path / "vectors.jsonl.killed-import.aindusdb-progress"
    while not progress_file.exists() or json.loads(progress_file.read_text())["line"] < lines // 10:
        assert first.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    first.kill()
    first.wait()

    second = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=100)
    report = json.loads(second.stdout)
    assert report["created"] + report["unchanged"] == lines
    with Client(url, retries=PATIENCE) as client:
        listed = [one.id for one in client.vectors("killed-import", token=report["consistency_token"], **SETTLED)]
    assert len(listed) == len(set(listed)) == lines


async def test_a_write_whose_answer_is_lost_takes_effect_once(url: str) -> None:
    [embedding] = numbers(1)
    cuts: Iterator[Cut] = cycle(("after", "before", "no"))
    async with (
        AsyncClient(url, retries=PATIENCE) as direct,
        cutting_proxy(url, b"POST /api/v1/collections/lost/vectors ", lambda: next(cuts)) as (through, proxy),
        AsyncClient(through, retries=PATIENCE) as client,
    ):
        await direct.create_collection("lost", dimension=DIMENSION)
        written = [await client.create("lost", embedding=embedding) for _ in range(5)]
        assert proxy.cuts == 10
        stored = await listed(direct.vectors("lost", token=written[-1].consistency_token, **SETTLED))
        assert sorted(one.id for one in written) == [one.id for one in stored]
