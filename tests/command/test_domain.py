"""Given events, when a command comes, then events: the rules of the domain without any server."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command_service.domain import aliases, collections, vectors
from command_service.domain.collections import CollectionState
from command_service.domain.commands import (
    AliasCommand,
    CommandContext,
    CreateCollection,
    CreateVector,
    DeleteCollection,
    DeleteExpired,
    DeleteVector,
    PatchVector,
    RemoveAlias,
    SetAlias,
    UpdateCollection,
    UpsertVector,
    VectorOperation,
)
from command_service.domain.json_values import merge_patch, same_json
from command_service.domain.refusals import (
    AliasExistsError,
    AliasNotFoundError,
    CollectionAliasedError,
    CollectionExistsError,
    CollectionNotFoundError,
    ExpiresInPastError,
    MetadataTooLargeError,
    RefusalError,
    VectorExistsError,
    VectorNotFoundError,
    VersionMismatchError,
)
from command_service.domain.vectors import VectorState
from events_schema.aliases import AliasEvent, AliasRemoved, AliasSet
from events_schema.base import EventMetadata
from events_schema.collections import (
    CollectionCreated,
    CollectionDeleted,
    CollectionEvent,
    CollectionUpdated,
    IndexSpec,
)
from events_schema.embedding import EmbeddingSpec, StoredEmbedding
from events_schema.specs import EmbeddingSpecs
from events_schema.vectors import VectorCreated, VectorDeleted, VectorEvent, VectorUpdated

CONTEXT = CommandContext("default", EventMetadata(actor="a", request_id="r"))
SPEC = EmbeddingSpec(provider="client", model=None, dimension=3)
ID = uuid4()
WRITTEN = datetime(2026, 1, 1, tzinfo=UTC)
NOW = WRITTEN + timedelta(seconds=60)
CREATE = CreateCollection(CONTEXT, "c", ID, "cosine", "vector", IndexSpec(), SPEC, "text")
CREATED = CollectionCreated(
    name="c", collection_id=ID, metric="cosine", type="vector", index=IndexSpec(), embedding_spec=SPEC,
    description="text",
)  # fmt: skip
SPECS = EmbeddingSpecs.created(CREATED)


def given_collection(*events: CollectionEvent | AliasEvent) -> CollectionState:
    state = CollectionState()
    for position, event in enumerate(events, start=1):
        state = collections.evolve(state, event, version=position, position=position, timestamp=WRITTEN)
    return state


def given_vector(*events: VectorEvent) -> VectorState:
    state = VectorState()
    for position, event in enumerate(events, start=1):
        state = vectors.evolve(state, event, version=position, position=position, timestamp=WRITTEN)
    return state


def vector_created(**fields: Any) -> VectorCreated:
    return created(fields, content=fields.pop("content", None), embedding=fields.pop("embedding", "AAAA"))


def stored(data: str, spec: EmbeddingSpec = SPEC) -> StoredEmbedding:
    return StoredEmbedding(spec=spec, data=data)


def created(metadata: dict[str, Any], **fields: Any) -> VectorCreated:
    embeddings = (stored(fields.get("embedding", "AAAA")),)
    return vectors.created("v", embeddings, fields.get("content"), metadata, fields.get("expires_at"))


DELETED = CollectionDeleted(name="c", collection_id=ID)


@pytest.mark.parametrize(
    ("events", "command", "expected"),
    [
        ((), CREATE, CREATED),
        ((CREATED,), CREATE, CollectionExistsError),
        ((CREATED, DELETED), CREATE, CREATED),
        ((CREATED,), UpdateCollection(CONTEXT, "c", {"description": "new"}), CollectionUpdated(description="new")),
        ((CREATED,), UpdateCollection(CONTEXT, "c", {"description": None}), CollectionUpdated(description=None)),
        ((CREATED,), UpdateCollection(CONTEXT, "c", {"description": "text"}), None),
        ((CREATED,), UpdateCollection(CONTEXT, "c", {}), None),
        ((), UpdateCollection(CONTEXT, "c", {}), CollectionNotFoundError),
        ((CREATED,), UpdateCollection(CONTEXT, "c", {}, if_version=2), VersionMismatchError),
        ((CREATED,), DeleteCollection(CONTEXT, "c", if_version=1), DELETED),
        ((CREATED, DELETED), DeleteCollection(CONTEXT, "c"), CollectionNotFoundError),
    ],
)
def test_collection_command_on_history_gives_event_or_refusal(
    events: tuple[CollectionEvent, ...], command: Any, expected: CollectionEvent | type[RefusalError] | None
) -> None:
    if isinstance(expected, type):
        with pytest.raises(expected):
            collections.decide(given_collection(*events), "c", command)
    else:
        event = collections.decide(given_collection(*events), "c", command)
        assert event == expected
        assert event is None or expected is None or event.event_data().keys() <= expected.model_dump().keys()


SET = AliasSet(name="c", collection="d", collection_id=ID)
OTHER = AliasSet(name="c", collection="e", collection_id=uuid4())
REMOVED = AliasRemoved(name="c", collection_id=ID)
D = CollectionCreated(**{**dict(CREATED), "name": "d"})


@pytest.mark.parametrize(
    ("events", "aim", "command", "expected"),
    [
        ((), (D,), SetAlias(CONTEXT, "c", "d"), SET),
        ((), (D,), SetAlias(CONTEXT, "c", "d", if_version=0), SET),
        ((OTHER,), (D,), SetAlias(CONTEXT, "c", "d", if_version=1), SET),
        ((OTHER,), (D,), SetAlias(CONTEXT, "c", "d", if_version=2), VersionMismatchError),
        ((SET,), (D,), SetAlias(CONTEXT, "c", "d"), None),
        ((SET, REMOVED), (D,), SetAlias(CONTEXT, "c", "d"), SET),
        ((SET, REMOVED), (D,), SetAlias(CONTEXT, "c", "d", if_version=2), VersionMismatchError),
        ((CREATED, DELETED), (D,), SetAlias(CONTEXT, "c", "d"), SET),
        ((CREATED,), (D,), SetAlias(CONTEXT, "c", "d"), CollectionExistsError),
        ((), (), SetAlias(CONTEXT, "c", "d"), CollectionNotFoundError),
        ((), (SET,), SetAlias(CONTEXT, "c", "d"), CollectionNotFoundError),
        ((SET,), (), RemoveAlias(CONTEXT, "c", if_version=1), REMOVED),
        ((SET,), (), RemoveAlias(CONTEXT, "c", if_version=2), VersionMismatchError),
        ((SET, REMOVED), (), RemoveAlias(CONTEXT, "c"), AliasNotFoundError),
        ((CREATED,), (), RemoveAlias(CONTEXT, "c"), AliasNotFoundError),
    ],
)
def test_alias_command_on_history_gives_event_or_refusal(
    events: tuple[Any, ...], aim: tuple[Any, ...], command: AliasCommand, expected: Any
) -> None:
    if isinstance(expected, type):
        with pytest.raises(expected):
            aliases.decide(given_collection(*events), given_collection(*aim), command)
    else:
        assert aliases.decide(given_collection(*events), given_collection(*aim), command) == expected


def test_an_alias_keeps_its_name_and_its_collection() -> None:
    with pytest.raises(AliasExistsError):
        collections.decide(given_collection(SET), "c", CREATE)
    assert collections.decide(given_collection(SET, REMOVED), "c", CREATE) == CREATED
    with pytest.raises(CollectionAliasedError, match="'one', 'two'"):
        collections.decide(given_collection(CREATED), "c", DeleteCollection(CONTEXT, "c"), {"two", "one"})


ALIVE = vector_created(a=1, b={"c": 2})
GONE = VectorDeleted(id="v")


@pytest.mark.parametrize(
    ("events", "operation", "expected"),
    [
        ((ALIVE,), CreateVector(created({})), VectorExistsError),
        ((ALIVE, GONE), CreateVector(ALIVE), ALIVE),
        ((), UpsertVector(ALIVE), ALIVE),
        ((), UpsertVector(created({}), if_version=1), VersionMismatchError),
        ((), UpsertVector(ALIVE, if_version=0), ALIVE),
        ((ALIVE, GONE), UpsertVector(ALIVE, if_version=0), ALIVE),
        ((ALIVE,), UpsertVector(created({"a": 1.0, "b": {"c": 2}})), None),
        ((ALIVE,), UpsertVector(created({})), VectorUpdated(id="v", metadata={})),
        ((ALIVE,), UpsertVector(vector_created(a=1, b={"c": 2}, content="x")), VectorUpdated(id="v", content="x")),
        ((ALIVE,), PatchVector("v", (), frozenset()), None),
        ((ALIVE,), PatchVector("v", (stored("AAAA"),), frozenset()), None),
        ((ALIVE,), PatchVector("v", (), frozenset({"metadata"}), metadata={"a": None, "b": {"d": 3}}),
         VectorUpdated(id="v", metadata={"b": {"c": 2, "d": 3}})),
        ((ALIVE,), PatchVector("v", (), frozenset({"metadata"})), VectorUpdated(id="v", metadata={})),
        ((ALIVE,), PatchVector("v", (), frozenset({"metadata"}), metadata={"long": "x" * 70_000}),
         MetadataTooLargeError),
        ((ALIVE,), PatchVector("v", (), frozenset(), if_version=2), VersionMismatchError),
        ((), PatchVector("v", (), frozenset()), VectorNotFoundError),
        ((ALIVE, GONE), PatchVector("v", (), frozenset()), VectorNotFoundError),
        ((ALIVE,), DeleteVector("v"), GONE),
        ((ALIVE, GONE), DeleteVector("v"), VectorNotFoundError),
        ((ALIVE, GONE), DeleteVector("v", missing_is_unchanged=True), None),
        ((), DeleteVector("v", if_version=1, missing_is_unchanged=True), VersionMismatchError),
    ],
)  # fmt: skip
def test_vector_operation_on_history_gives_event_or_refusal(
    events: tuple[VectorEvent, ...], operation: VectorOperation, expected: VectorEvent | type[RefusalError] | None
) -> None:
    if isinstance(expected, type):
        with pytest.raises(expected):
            vectors.decide(given_vector(*events), operation, SPECS, now=NOW)
    else:
        found = vectors.decide(given_vector(*events), operation, SPECS, now=NOW)
        wanted = () if expected is None else (expected,)
        assert found == wanted
        assert [event.event_data() for event in found] == [event.event_data() for event in wanted]


SOON, LATER = NOW + timedelta(microseconds=1), NOW + timedelta(days=1)
EXPIRING = created({}, expires_at=SOON)
PLAIN = created({})
EXPIRED = VectorDeleted(id="v", reason="expired")


def _patch(expires_at: datetime | None, **options: Any) -> PatchVector:
    return PatchVector("v", (), frozenset({"expires_at"}), expires_at=expires_at, **options)


@pytest.mark.parametrize(
    ("events", "operation", "now", "expected"),
    [
        ((), UpsertVector(EXPIRING), NOW, (EXPIRING,)),
        ((), UpsertVector(EXPIRING), SOON, ExpiresInPastError),
        ((), CreateVector(EXPIRING), SOON, ExpiresInPastError),
        ((PLAIN,), _patch(NOW), NOW, ExpiresInPastError),
        ((), UpsertVector(EXPIRING, brings_back=True), SOON, (PLAIN,)),
        ((), UpsertVector(EXPIRING, brings_back=True), NOW, (EXPIRING,)),
        ((EXPIRING,), UpsertVector(EXPIRING), NOW, ()),
        ((EXPIRING,), UpsertVector(PLAIN), NOW, (VectorUpdated(id="v", expires_at=None),)),
        ((PLAIN,), UpsertVector(EXPIRING), NOW, (VectorUpdated(id="v", expires_at=SOON),)),
        ((EXPIRING,), _patch(LATER), NOW, (VectorUpdated(id="v", expires_at=LATER),)),
        ((EXPIRING,), _patch(None), NOW, (VectorUpdated(id="v", expires_at=None),)),
        ((PLAIN,), _patch(None), NOW, ()),
        # At the instant it is gone, for whoever writes; what takes its place comes after its deletion.
        ((EXPIRING,), CreateVector(PLAIN), NOW, VectorExistsError),
        ((EXPIRING,), CreateVector(PLAIN), SOON, (EXPIRED, PLAIN)),
        ((EXPIRING,), UpsertVector(PLAIN, if_version=0), SOON, (EXPIRED, PLAIN)),
        ((EXPIRING,), UpsertVector(PLAIN, if_version=1), SOON, VersionMismatchError),
        ((EXPIRING,), _patch(LATER), SOON, VectorNotFoundError),
        ((EXPIRING,), DeleteVector("v"), SOON, VectorNotFoundError),
        ((EXPIRING,), DeleteVector("v", missing_is_unchanged=True), SOON, ()),
        ((EXPIRING,), DeleteExpired("v", 1), NOW, ()),
        ((EXPIRING,), DeleteExpired("v", 1), SOON, (EXPIRED,)),
        ((EXPIRING,), DeleteExpired("v", 2), SOON, ()),
        ((EXPIRING, VectorUpdated(id="v", expires_at=None)), DeleteExpired("v", 2), LATER, ()),
        ((EXPIRING, EXPIRED), DeleteExpired("v", 2), SOON, ()),
        ((), DeleteExpired("v", 0), SOON, ()),
    ],
)
def test_what_has_expired_is_gone_for_every_operation(
    events: tuple[VectorEvent, ...], operation: VectorOperation, now: datetime, expected: Any
) -> None:
    if isinstance(expected, type):
        with pytest.raises(expected):
            vectors.decide(given_vector(*events), operation, SPECS, now=now)
        return
    found = vectors.decide(given_vector(*events), operation, SPECS, now=now)
    assert [event.event_data() for event in found] == [event.event_data() for event in expected]


@given(st.integers(1, 100), st.integers(0, 100), st.none() | st.integers(0, 100))
def test_a_vector_expires_by_its_own_instant_or_by_the_retention_whichever_comes_first(
    retention_seconds: int, after: int, own: int | None
) -> None:
    expires_at = None if own is None else WRITTEN + timedelta(seconds=own)
    state = given_vector(created({}, expires_at=expires_at))
    now = WRITTEN + timedelta(seconds=after)
    expired = after >= min(retention_seconds, retention_seconds if own is None else own)
    found = vectors.decide(state, DeleteExpired("v", 1), SPECS, now=now, retention_seconds=retention_seconds)
    assert found == ((EXPIRED,) if expired else ())


scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text()
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)
objects = st.dictionaries(st.text(max_size=3), documents, max_size=4)


@given(documents)
def test_json_is_the_same_as_itself(document: Any) -> None:
    assert same_json(document, document)


@given(documents, documents)
def test_json_comparison_is_symmetric_and_keeps_booleans_apart_from_numbers(one: Any, other: Any) -> None:
    assert same_json(one, other) == same_json(other, one)
    assert not same_json([one, True], [one, 1])
    assert not same_json({"a": one, "b": 0}, {"a": one, "b": False})


@given(objects, objects)
def test_merge_patch_has_the_patch_in_it_and_keeps_the_rest(target: dict[str, Any], patch: dict[str, Any]) -> None:
    before = repr(target), repr(patch)
    merged = merge_patch(target, patch)
    assert (repr(target), repr(patch)) == before
    for key, value in patch.items():
        if value is None:
            assert key not in merged
        elif not isinstance(value, dict):
            assert same_json(merged[key], value)
    for key in target.keys() - patch.keys():
        assert same_json(merged[key], target[key])
    assert same_json(merge_patch(merged, patch), merged)


TEXT = st.sampled_from([None, "", "a", "b"])
STORED = st.sampled_from(["AAAA", "BBBB"])


@given(TEXT, STORED, TEXT, STORED)
def test_embedding_of_a_text_changes_only_with_the_text(
    before: str | None, had: str, content: str | None, computed: str
) -> None:
    state = given_vector(vector_created(content=before, embedding=had))
    upsert = UpsertVector(vector_created(content=content, embedding=computed), from_text=(SPEC,))
    patch = PatchVector("v", (stored(computed),), frozenset({"content"}), content, from_text=(SPEC,))
    for operation in (upsert, patch):
        events = vectors.decide(state, operation, SPECS, now=NOW)
        assert (events == ()) == (content == before)
        brought = vectors.decide(state, replace(operation, from_text=()), SPECS, now=NOW)
        assert (brought == ()) == ((before, had) == (content, computed))
