"""A new version of the projection is rebuilt beside the old one, checked, and promoted."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count

import numpy as np
import pytest

from events_schema.base import RecordedEvent
from events_schema.collections import IndexSpec
from projector.vectors import Under, VectorEffect, fold_vectors
from projector.versions import FOLDS
from tests.projector.log_writer import LogWriter, NewCollection
from tests.projector.projecting import Projection, projector_settings, running_consumer, running_upkeep, until
from tests.projector.rebuilding import generation, states
from tests.replay.commanding import answer, run


def _loud(events: Iterable[RecordedEvent], under: Under) -> dict[str, VectorEffect]:
    """Contents in capitals."""
    effects = fold_vectors(events, under)
    for effect in effects.values():
        effect.content = effect.content.upper() if effect.content else effect.content
    return effects


async def _contents(projection: Projection, collection: NewCollection) -> dict[str, str | None]:
    vectors = (await projection.stored())[collection.collection_id].vectors
    return {vector_id: row.content for vector_id, row in vectors.items()}


async def test_a_new_version_is_built_beside_the_old_one_which_is_written_by_its_own_until_it_goes(
    projection: Projection, log: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    articles = await log.create_collection()
    await log.create(articles, "a", content="first")
    await projection.catch_up()
    monkeypatch.setitem(FOLDS, 2, _loud)
    await log.create(articles, "b", content="second")
    books = await log.create_collection("books")
    await log.create(books, "c", content="third")
    await projection.catch_up()
    assert await _contents(projection, articles) == {"a": "first", "b": "second"}
    assert await _contents(projection, books) == {"c": "THIRD"}
    status = await answer(projection.databases, "replay", "status")
    assert {
        one["collection"]: [made["projection_version"] for made in one["generations"]] for one in status["collections"]
    } == {"articles": [1], "books": [2]}

    settings = projector_settings(projection.databases)
    async with running_consumer(settings), running_upkeep(settings):

        async def promoted() -> bool:
            return await states(projection, articles) == {2: "active"}

        await until(promoted, "the new version is not promoted")
        made = await generation(projection, articles, 2)
        assert made.projection_version == 2
        assert made.checked is not None
        assert made.checked["passed"]
        await log.update(articles, "a", content="changed")
        await until(projection.caught_up, "the projector did not catch up")
    assert await _contents(projection, articles) == {"a": "CHANGED", "b": "SECOND"}
    assert await states(projection, books) == {1: "active"}
    assert (await answer(projection.databases, "verify"))["ok"]


async def test_a_projector_of_an_older_release_applies_nothing_to_what_a_newer_one_made(
    projection: Projection, log: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as newer:
        newer.setitem(FOLDS, 2, _loud)
        articles = await log.create_collection()
        await log.create(articles, "a", content="first")
        await projection.catch_up()
    await log.create(articles, "b", content="second")
    settings = projector_settings(projection.databases)
    async with running_consumer(settings) as consumer, running_upkeep(settings):
        await until(
            lambda: "was made by version 2 of the projection, and this projector knows 1" in (consumer.fault or ""),
            "it does not say why it stops",
        )
    assert await states(projection, articles) == {1: "active"}
    assert await _contents(projection, articles) == {"a": "FIRST"}
    assert await projection.parked() == {}
    assert not await projection.caught_up()
    monkeypatch.setitem(FOLDS, 2, _loud)
    await projection.catch_up()
    assert await _contents(projection, articles) == {"a": "FIRST", "b": "SECOND"}


async def test_a_version_that_is_not_what_the_log_says_is_not_promoted(
    projection: Projection, log: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = count()

    def unsteady(events: Iterable[RecordedEvent], under: Under) -> dict[str, VectorEffect]:
        effects = fold_vectors(events, under)
        for effect in effects.values():
            effect.content = str(next(numbers))
        return effects

    articles = await log.create_collection()
    await log.create(articles, "a", content="first")
    await projection.catch_up()
    monkeypatch.setitem(FOLDS, 2, unsteady)
    settings = projector_settings(projection.databases)

    async def given_up() -> bool:
        return await states(projection, articles) == {1: "active", 2: "stale"}

    async with running_upkeep(settings):
        await until(given_up, "it is not given up")
    assert "failed its checks" in ((await generation(projection, articles, 2)).reason or "")
    assert await _contents(projection, articles) == {"a": "first"}


async def test_a_new_version_is_promoted_however_little_the_collections_index_finds(
    projection: Projection, log: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    poor = IndexSpec(kind="hnsw", m=2, ef_construction=4, lists=None)
    articles = await log.create_collection(dimension=64, index=poor)
    random = np.random.default_rng(1)
    for number in range(600):
        await log.create(articles, f"v{number}", random.standard_normal(64).tolist())
    await projection.catch_up()
    said = await answer(projection.databases, "verify", exit_code=3)
    [found] = said["collections"][0]["generations"]
    assert (found["differing"], found["recall_at_10"] < found["min_recall"]) == ({}, True)
    assert ", less than 0.800" in (await run(projection.databases, "verify")).stdout
    monkeypatch.setitem(FOLDS, 2, _loud)

    async def is_promoted() -> bool:
        return await states(projection, articles) == {2: "active"}

    async with running_upkeep(projector_settings(projection.databases)):
        await until(is_promoted, "it is not promoted")
