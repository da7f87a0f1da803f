"""A collection moves from one model to another: which specs are live, and what its vectors' streams say of each."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from command_service.domain import collections, vectors
from command_service.domain.collections import CollectionState
from command_service.domain.commands import (
    CommandContext,
    CompleteReembedding,
    CreateVector,
    DeleteVector,
    EndReembedding,
    PatchVector,
    ReembedVector,
    UpdateCollection,
    UpsertVector,
    VectorOperation,
)
from command_service.domain.refusals import (
    CollectionChangedError,
    CollectionDeletedError,
    EmbeddingMissingError,
    NotIndexableError,
    ReembeddingInProgressError,
    RefusalError,
    VectorNotFoundError,
    VersionMismatchError,
)
from command_service.domain.vectors import VectorState
from command_service.stream_states import _fold_tail
from events_schema.base import EventMetadata
from events_schema.collections import (
    CollectionCreated,
    CollectionEvent,
    CollectionReembedded,
    CollectionUpdated,
    IndexSpec,
)
from events_schema.embedding import EmbeddingSpec, StoredEmbedding
from events_schema.specs import MAX_LIVE_SPECS, EmbeddingSpecs
from events_schema.vectors import VectorCreated, VectorDeleted, VectorEvent, VectorReembedded, VectorUpdated

CONTEXT = CommandContext("default", EventMetadata(actor="a", request_id="r"))
ID = uuid4()
WRITTEN = datetime(2026, 1, 1, tzinfo=UTC)
OLD, NEW, OTHER = (EmbeddingSpec(provider="openai", model=model, dimension=2) for model in ("old", "new", "other"))
BROUGHT = EmbeddingSpec(provider="client", model="brought", dimension=2)
CREATED = CollectionCreated(
    name="c", collection_id=ID, metric="cosine", type="vector", index=IndexSpec(), embedding_spec=OLD
)
TO_NEW = CollectionUpdated(embedding_spec=NEW, other_specs=(OLD,))
COMPLETE = CollectionReembedded(embedding_spec=NEW)
OVER = CollectionUpdated(other_specs=())
BACK = CollectionUpdated(embedding_spec=OLD, other_specs=(NEW,))


def given_collection(*events: CollectionEvent) -> CollectionState:
    state = CollectionState()
    for position, event in enumerate(events, start=1):
        state = collections.evolve(state, event, version=position, position=position, timestamp=WRITTEN)
    return state


def move(to: EmbeddingSpec, **changes: Any) -> UpdateCollection:
    return UpdateCollection(CONTEXT, "c", changes, move_to=to)


def complete(spec: EmbeddingSpec, since: int) -> CompleteReembedding:
    return CompleteReembedding(CONTEXT, "c", ID, spec, since)


def end(spec: EmbeddingSpec) -> EndReembedding:
    return EndReembedding(CONTEXT, "c", ID, spec)


@pytest.mark.parametrize(
    ("events", "command", "expected"),
    [
        ((CREATED,), move(NEW), TO_NEW),
        ((CREATED,), move(NEW, description="d"),
         CollectionUpdated(description="d", embedding_spec=NEW, other_specs=(OLD,))),
        ((CREATED,), move(OLD), None),
        ((CREATED, TO_NEW), move(NEW), None),
        # What no vector can be searched by is left at once.
        ((CREATED, TO_NEW), move(OLD), CollectionUpdated(embedding_spec=OLD, other_specs=())),
        ((CREATED, TO_NEW), move(OTHER), CollectionUpdated(embedding_spec=OTHER, other_specs=(OLD,))),
        ((CREATED, TO_NEW, COMPLETE), move(OLD), BACK),
        ((CREATED, TO_NEW, COMPLETE), move(OTHER), ReembeddingInProgressError),
        ((CREATED, TO_NEW, COMPLETE, BACK), move(NEW), TO_NEW),
        ((CREATED, TO_NEW, COMPLETE, BACK), move(OTHER), ReembeddingInProgressError),
        ((CREATED, TO_NEW, COMPLETE, OVER), move(OLD), CollectionUpdated(embedding_spec=OLD, other_specs=(NEW,))),
        # Only back to what clients bring, never there.
        ((CREATED,), move(BROUGHT), CollectionChangedError),
        ((CREATED,), move(NEW.model_copy(update={"dimension": 2001})), NotIndexableError),
        ((CREATED, CollectionUpdated(type="halfvec"),
          CollectionUpdated(embedding_spec=NEW.model_copy(update={"dimension": 4000}), other_specs=(OLD,))),
         UpdateCollection(CONTEXT, "c", {"type": "vector"}), NotIndexableError),
        ((CREATED, TO_NEW), complete(NEW, since=2), COMPLETE),
        ((CREATED, TO_NEW), complete(NEW, since=1), None),
        ((CREATED, TO_NEW), complete(OLD, since=0), None),
        ((CREATED, TO_NEW, COMPLETE), complete(NEW, since=2), None),
        ((), complete(NEW, since=2), CollectionDeletedError),
        ((CREATED, TO_NEW), end(NEW), None),
        ((CREATED, TO_NEW, COMPLETE), end(NEW), OVER),
        ((CREATED, TO_NEW, COMPLETE), end(OLD), None),
        ((CREATED, TO_NEW, COMPLETE, BACK), end(OLD), OVER),
        ((CREATED, TO_NEW, COMPLETE, OVER), end(NEW), None),
    ],
)  # fmt: skip
def test_move_on_history_gives_event_or_refusal(
    events: tuple[CollectionEvent, ...], command: Any, expected: CollectionEvent | type[RefusalError] | None
) -> None:
    if isinstance(expected, type):
        with pytest.raises(expected):
            collections.decide(given_collection(*events), "c", command)
    else:
        event = collections.decide(given_collection(*events), "c", command)
        assert event == expected
        assert event is None or expected is None or event.event_data() == expected.event_data()


def embedded(spec: EmbeddingSpec, content: str | None) -> StoredEmbedding:
    return StoredEmbedding(spec=spec, data=f"{spec.model}:{content}")


def all_embedded(specs: EmbeddingSpecs, content: str | None) -> tuple[StoredEmbedding, ...]:
    return tuple(embedded(spec, content) for spec in specs.specs)


def row(event: VectorEvent, version: int, position: int) -> dict[str, Any]:
    """As the log has it."""
    return {
        "version": version,
        "position": position,
        "event_type": event.event_type,
        "schema_version": 1,
        "event_data": orjson.dumps(event.event_data()),
        "timestamp": WRITTEN,
    }


class Life:
    """Of a collection and one vector of it: what both streams say, and what the vector's events were."""

    def __init__(self) -> None:
        self.position = 1
        self.collection = given_collection(CREATED)
        self.vector = VectorState()
        self.events: list[dict[str, Any]] = []

    @property
    def specs(self) -> EmbeddingSpecs:
        assert self.collection.live is not None
        return self.collection.live.specs

    def change(self, command: Any) -> None:
        try:
            event = collections.decide(self.collection, "c", command)
        except RefusalError:
            return
        if event is not None:
            self.position += 1
            self.collection = collections.evolve(
                self.collection, event, version=self.position, position=self.position, timestamp=WRITTEN
            )

    def write(self, operation: VectorOperation) -> tuple[VectorEvent, ...]:
        try:
            events = vectors.decide(self.vector, operation, self.specs, now=WRITTEN)
        except RefusalError:
            return ()
        for event in events:
            self.position += 1
            self.vector = vectors.evolve(
                self.vector, event, version=self.vector.version + 1, position=self.position, timestamp=WRITTEN
            )
            self.events.append(row(event, self.vector.version, self.position))
        return events


CONTENT = st.sampled_from(["a", "b"])
SPEC = st.sampled_from([OLD, NEW, OTHER])
STEPS = st.lists(
    st.tuples(st.just("move"), SPEC)
    | st.tuples(st.sampled_from(["complete", "end", "reembed", "delete", "touch"]), st.none())
    | st.tuples(st.sampled_from(["create", "upsert", "patch"]), CONTENT),
    max_size=30,
)


def take(life: Life, step: str, value: Any) -> None:
    specs, live = life.specs, life.vector.live
    match step:
        case "move":
            life.change(move(value))
        case "complete":
            if live is None or not live.lacks(specs.target):
                life.change(complete(specs.target.spec, specs.target.since))
        case "end":
            life.change(end(specs.target.spec))
        case "reembed":
            if live is not None:
                life.write(ReembedVector("v", (embedded(specs.target.spec, live.content),), life.vector.version))
        case "create":
            life.write(CreateVector(vectors.created("v", all_embedded(specs, value), value, {})))
        case "upsert":
            life.write(UpsertVector(vectors.created("v", all_embedded(specs, value), value, {}), from_text=specs.specs))
        case "patch":
            patch = PatchVector("v", all_embedded(specs, value), frozenset({"content"}), value, from_text=specs.specs)
            life.write(patch)
        case "touch":
            expires_at = WRITTEN + timedelta(days=life.position)
            changed = frozenset({"metadata", "expires_at"})
            life.write(PatchVector("v", (), changed, metadata={"at": life.position}, expires_at=expires_at))
        case _:
            assert step == "delete"
            life.write(DeleteVector("v"))


@settings(max_examples=300, deadline=None)
@given(STEPS, st.integers(1, 8))
def test_what_a_vector_has_is_of_its_content_and_every_complete_spec_is_there(
    steps: list[tuple[str, Any]], tail: int
) -> None:
    life = Life()
    for step, value in steps:
        take(life, step, value)
        specs, live = life.specs, life.vector.live
        assert 1 <= len(specs.live) <= MAX_LIVE_SPECS
        assert specs.served in specs.specs
        if live is None:
            continue
        for one in specs.live:
            held = live.embedding(one)
            assert held in (None, embedded(one.spec, live.content).data)
            assert held is not None or not one.complete
    if not life.events:
        return
    rows: Any = life.events[-tail:]
    folded = _fold_tail(rows, life.specs)
    if folded is None:
        assert tail < len(life.events)
        return
    assert (folded.version, folded.position) == (life.vector.version, life.vector.position)
    assert folded.written == life.vector.written
    assert (folded.live is None) == (life.vector.live is None)
    if folded.live is not None and life.vector.live is not None:
        assert (folded.live.content, folded.live.metadata) == (life.vector.live.content, life.vector.live.metadata)
        for one in life.specs.live:
            assert folded.live.embedding(one) == life.vector.live.embedding(one)


def moving(*events: CollectionEvent) -> EmbeddingSpecs:
    live = given_collection(*(events or (CREATED, TO_NEW))).live
    assert live is not None
    return live.specs


def vector(*events: VectorEvent, after: int = 0) -> VectorState:
    state = VectorState()
    for number, event in enumerate(events, start=1):
        state = vectors.evolve(state, event, version=number, position=after + number, timestamp=WRITTEN)
    return state


BEFORE = vectors.created("v", (embedded(OLD, "a"),), "a", {})
ADDED = VectorReembedded(id="v", embeddings=(embedded(NEW, "a"),))


def test_reembedding_happens_once_and_only_to_the_version_that_was_seen() -> None:
    operation = ReembedVector("v", (embedded(NEW, "a"),), if_version=1)
    assert vectors.decide(vector(BEFORE), operation, moving(), now=WRITTEN) == (ADDED,)
    assert (
        vectors.decide(
            vector(BEFORE, ADDED, after=2), ReembedVector("v", operation.embeddings, 2), moving(), now=WRITTEN
        )
        == ()
    )
    changed = VectorUpdated(id="v", metadata={"a": 1})
    assert vectors.decide(vector(BEFORE, changed), operation, moving(), now=WRITTEN) == ()
    assert vectors.decide(VectorState(), ReembedVector("v", operation.embeddings, 0), moving(), now=WRITTEN) == ()
    # The collection has left the model meanwhile.
    assert vectors.decide(vector(BEFORE), operation, moving(CREATED), now=WRITTEN) == ()
    # What a collection had of a model before it left it says nothing of what is there now.
    stale = vector(BEFORE, VectorReembedded(id="v", embeddings=(embedded(NEW, "z"),)))
    again = ReembedVector("v", operation.embeddings, 2)
    assert vectors.decide(stale, again, moving(CREATED, OVER, TO_NEW), now=WRITTEN) == (ADDED,)


@pytest.mark.parametrize(
    "operation",
    [
        DeleteVector("v", if_written=1),
        PatchVector("v", (), frozenset({"metadata"}), metadata={"b": 2}, if_written=1),
        UpsertVector(vectors.created("v", all_embedded(moving(), "a"), "a", {"b": 2}), if_written=1),
    ],
)
def test_what_was_only_embedded_anew_since_somebody_looked_is_as_it_was(
    operation: DeleteVector | PatchVector | UpsertVector,
) -> None:
    anew = vector(BEFORE, ADDED)
    assert vectors.decide(anew, operation, moving(), now=WRITTEN)
    assert vectors.decide(anew, replace(operation, if_written=2), moving(), now=WRITTEN)
    exactly = replace(operation, if_written=None, if_version=1)
    changed = vector(BEFORE, ADDED, VectorUpdated(id="v", metadata={"a": 1}))
    recreated = vector(BEFORE, VectorDeleted(id="v"), BEFORE, ADDED)
    for state, refused in (
        (anew, exactly),
        (anew, replace(operation, if_written=3)),
        (changed, operation),
        (recreated, operation),
        (VectorState(), operation),
    ):
        with pytest.raises((VersionMismatchError, VectorNotFoundError)):
            vectors.decide(state, refused, moving(), now=WRITTEN)


def restored(*embeddings: StoredEmbedding) -> UpsertVector:
    return UpsertVector(VectorCreated(id="v", embeddings=embeddings, content=None), brings_back=True)


def test_what_is_restored_may_lack_the_embedding_that_it_lacks_by_now_and_no_other() -> None:
    bare = vectors.created("v", (StoredEmbedding(spec=OLD, data="now"),), None, {"a": 1})
    before = StoredEmbedding(spec=OLD, data="before")
    [event] = vectors.decide(vector(bare), restored(before), moving(), now=WRITTEN)
    assert event == VectorUpdated(id="v", embeddings=(before,), metadata={})
    brought = VectorUpdated(id="v", embeddings=(StoredEmbedding(spec=NEW, data="of now"),))
    for state in (vector(bare, brought, after=2), vector(bare, VectorDeleted(id="v")), VectorState()):
        with pytest.raises(EmbeddingMissingError, match="'new'"):
            vectors.decide(state, restored(before), moving(), now=WRITTEN)


def test_reembedding_neither_renews_nor_revives_what_expires() -> None:
    state = vector(BEFORE)
    later = WRITTEN + timedelta(seconds=100)
    operation = ReembedVector("v", (embedded(NEW, "a"),), if_version=1)
    assert vectors.decide(state, operation, moving(), now=later, retention_seconds=10) == (ADDED,)
    after = vectors.evolve(state, ADDED, version=2, position=9, timestamp=later)
    assert after.live is not None
    assert after.live.updated_at == WRITTEN
    assert vectors.has_expired(after, later, 10)


def test_new_vector_needs_an_embedding_of_each_live_model() -> None:
    event = VectorCreated(id="v", embeddings=(embedded(OLD, "a"),), content="a")
    for operation in (CreateVector(event), UpsertVector(event)):
        with pytest.raises(EmbeddingMissingError, match="'new'"):
            vectors.decide(VectorState(), operation, moving(), now=WRITTEN)
        assert vectors.decide(VectorState(), operation, moving(CREATED), now=WRITTEN) == (event,)


def test_last_events_that_lack_an_embedding_of_a_live_model_are_not_the_whole_state() -> None:
    last = VectorUpdated(
        id="v", embeddings=(embedded(OLD, "b"),), content=None, metadata={}, expires_at=WRITTEN + timedelta(days=1)
    )
    rows: Any = [row(last, 3, 5)]
    assert _fold_tail(rows, moving()) is None
    assert _fold_tail(rows, moving(CREATED)) is not None
    # The collection came to it after the event that the rows begin with: an earlier embedding would not count.
    assert _fold_tail(rows, moving(CREATED, *[OVER] * 4, TO_NEW)) is not None


def test_patch_of_one_embedding_leaves_the_other() -> None:
    state = vector(BEFORE, ADDED, after=2)
    changed = StoredEmbedding(spec=OLD, data="brought")
    [event] = vectors.decide(state, PatchVector("v", (changed,), frozenset()), moving(), now=WRITTEN)
    assert event == VectorUpdated(id="v", embeddings=(changed,))
    after = vectors.evolve(state, event, version=3, position=9, timestamp=WRITTEN)
    assert after.live is not None
    new, old = moving().live
    assert (after.live.embedding(new), after.live.embedding(old)) == ("new:a", "brought")
