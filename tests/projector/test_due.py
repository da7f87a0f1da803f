"""What is due for a collection, decided from plain facts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from events_schema.collections import IndexKind, IndexSpec
from events_schema.embedding import EmbeddingSpec
from projector.due import (
    Discard,
    Due,
    Facts,
    IndexMetadata,
    Limits,
    MakeIndex,
    Nothing,
    Rename,
    Replace,
    decide,
    may_wait,
)
from projector.generations import Generation, Shape

LIMITS = Limits(ivfflat_min_rows=100)


def shape(kind: IndexKind = "hnsw", **changed: Any) -> Shape:
    index = IndexSpec(kind=kind, m=None, ef_construction=None, lists=None)
    return replace(Shape(EmbeddingSpec(provider="client", model=None, dimension=3), "l2", "vector", index), **changed)


def made(what: Shape, state: Any = "active", number: int = 1, **fields: Any) -> Generation:
    return Generation(
        UUID(int=1), number, what, state, **{"indexed": what.index.kind != "none", "projection_version": 1, **fields}
    )


LISTED = made(shape("ivfflat"), indexed_rows=1_000, lists=10)
UNLISTED = made(shape("ivfflat"), indexed=False)
BEGUN = made(shape("none"), "building", 2)


@pytest.mark.parametrize(
    ("wanted", "active", "others", "expected"),
    [
        (shape(), made(shape()), {}, Nothing()),
        (shape("none"), made(shape("none")), {"rows": 10**9}, Nothing()),
        # An index that needs rows.
        (shape("ivfflat"), UNLISTED, {"rows": 99}, Nothing()),
        (shape("ivfflat"), UNLISTED, {"rows": 100}, MakeIndex(UNLISTED)),
        # One that its collection has outgrown.
        (shape("ivfflat"), LISTED, {"rows": 1_999}, Nothing()),
        (shape("ivfflat"), LISTED, {"rows": 2_000}, Replace(shape("ivfflat"), search_index=True)),
        (shape(), made(shape(), indexed_rows=1), {"rows": 10**6}, Nothing()),
        # Another version of the projection.
        (shape(), made(shape()), {"version": 2}, Replace(shape(), search_index=True, checked=True)),
        (shape("none"), made(shape("none")), {"version": 2}, Replace(shape("none"), search_index=False, checked=True)),
        (shape(metric="ip"), made(shape("none")), {"version": 2}, Replace(shape(metric="ip"), True, checked=True)),
        (shape(), made(shape(), projection_version=2), {}, Nothing()),
        (shape(metric="ip"), made(shape(), projection_version=2), {}, Nothing()),
        (shape(), made(shape()), {"unfinished": made(shape(), "building", 2, projection_version=2)}, Nothing()),
        (shape("none"), made(shape("none")), {"unfinished": BEGUN, "version": 2}, Discard(BEGUN)),
        (shape(), made(shape()), {"failed": made(shape(), "stale", 2), "version": 2}, Replace(shape(), True, True)),
        (
            shape(),
            made(shape()),
            {"failed": made(shape(), "stale", 2, projection_version=2), "version": 2},
            Nothing(),
        ),
        # Changes.
        (shape(metric="ip"), made(shape()), {}, Replace(shape(metric="ip"), search_index=True)),
        (shape(type="halfvec"), made(shape()), {}, Replace(shape(type="halfvec"), search_index=True)),
        (shape("none"), made(shape()), {}, Replace(shape("none"), search_index=False)),
        (shape("ivfflat"), made(shape()), {"rows": 99}, Replace(shape("ivfflat"), search_index=False)),
        (shape("ivfflat"), made(shape()), {"rows": 100}, Replace(shape("ivfflat"), search_index=True)),
        (shape("ivfflat"), LISTED, {"rows": 500}, Nothing()),
        # Tables without an index are what they are called.
        (shape("none", metric="ip"), made(shape("none")), {}, Rename(made(shape("none")), shape("none", metric="ip"))),
        (shape("hnsw"), UNLISTED, {}, Rename(UNLISTED, shape("hnsw"))),
        (shape("none", metric="cosine"), made(shape("none")), {}, Replace(shape("none", metric="cosine"), False)),
        (shape("none", type="halfvec"), made(shape("none")), {}, Replace(shape("none", type="halfvec"), False)),
        # What was begun goes on, unless something else is wanted by now.
        (shape("none"), made(shape()), {"unfinished": BEGUN}, Replace(shape("none"), search_index=False)),
        (shape(), made(shape()), {"unfinished": BEGUN}, Discard(BEGUN)),
        (shape(metric="ip"), made(shape()), {"unfinished": BEGUN}, Discard(BEGUN)),
        # What failed lately is left alone, what is wanted instead is not.
        (shape("none"), made(shape()), {"failed": replace(BEGUN, state="stale")}, Nothing()),
        (
            shape(metric="ip"), made(shape()), {"failed": replace(BEGUN, state="stale")},
            Replace(shape(metric="ip"), search_index=True),
        ),
        # Indexes over metadata, when nothing else is to be done to the tables.
        (shape(), made(shape()), {"differing": LISTED}, IndexMetadata(LISTED)),
        (shape("ivfflat"), UNLISTED, {"differing": UNLISTED, "rows": 100}, MakeIndex(UNLISTED)),
        (shape("none"), made(shape()), {"differing": LISTED}, Replace(shape("none"), search_index=False)),
        (
            shape("none"), made(shape()), {"failed": replace(BEGUN, state="stale"), "differing": LISTED},
            IndexMetadata(LISTED),
        ),
    ],
)  # fmt: skip
def test_facts_make_due(wanted: Shape, active: Generation, others: dict[str, Any], expected: Due) -> None:
    facts = Facts(wanted, active=active, **{"version": 1, "unfinished": None, "failed": None, "rows": 0, **others})
    assert decide(facts, LIMITS) == expected


def test_only_an_index_for_rows_that_have_come_waits_for_more() -> None:
    def waits(wanted: Shape, active: Generation, **others: Any) -> bool:
        given = {"version": 1, "unfinished": None, "failed": None, "rows": 10_000, **others}
        facts = Facts(wanted, active=active, **given)
        return may_wait(decide(facts, LIMITS), facts)

    assert waits(shape(), made(shape(), indexed=False))
    assert waits(shape("ivfflat"), LISTED)  # outgrown
    assert not waits(shape("ivfflat"), LISTED, unfinished=made(shape("ivfflat"), "building", 2))
    assert not waits(shape(metric="ip"), made(shape()))
    assert not waits(shape(), made(shape()), version=2)
    assert not waits(shape("none"), made(shape("none")))
