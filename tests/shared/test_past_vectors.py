"""A vector at each of its versions, whatever specs its collection had come to by then."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from events_schema.base import Event, RecordedEvent
from events_schema.embedding import EmbeddingSpec, StoredEmbedding
from events_schema.specs import EmbeddingSpecs, LiveSpec
from events_schema.vectors import VectorCreated, VectorReembedded, VectorUpdated
from shared.past_vectors import BackwardFold, PastState

SPECS = tuple(EmbeddingSpec(provider="openai", model=f"model-{at}", dimension=at + 1) for at in range(3))
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)

_Given = tuple[str, frozenset[int], int]
_given = st.lists(
    st.tuples(
        st.sampled_from(["create", "update", "reembed"]),
        st.frozensets(st.integers(0, 2), min_size=1),
        st.integers(0, 9),
    ),
    max_size=15,
)


@dataclass(frozen=True)
class Known:
    """By the plainest fold: the embeddings' texts, and at which position each was brought."""

    embeddings: dict[EmbeddingSpec, tuple[str, int]]
    content: str | None
    updated_at: datetime


def _event(kind: str, specs: frozenset[int], number: int) -> Event:
    embeddings = tuple(StoredEmbedding(spec=SPECS[at], data=f"{number}-{at}") for at in sorted(specs))
    match kind:
        case "create":
            return VectorCreated(id="a", embeddings=embeddings, content=f"created {number}")
        case "reembed":
            return VectorReembedded(id="a", embeddings=embeddings)
        case _:
            changed: dict[str, Any] = {"content": None if number % 2 else str(number)} if number else {}
            return VectorUpdated(id="a", **changed, **({"embeddings": embeddings} if number % 3 else {}))


def _recorded(event: Event, version: int) -> RecordedEvent:
    nothing = UUID(int=0)
    return RecordedEvent(
        10 * version, nothing, "default", nothing, nothing, "vector", version, event.event_type, 1, event.event_data(),
        {}, BEGAN + timedelta(seconds=version),
    )  # fmt: skip


def _after(known: Known | None, event: Event, recorded: RecordedEvent) -> Known:
    brought = {one.spec: (one.data, recorded.position) for one in getattr(event, "embeddings", ())}
    if isinstance(event, VectorCreated):
        return Known(brought, event.content, recorded.timestamp)
    assert known is not None
    embeddings = known.embeddings | brought
    if isinstance(event, VectorReembedded):
        return replace(known, embeddings=embeddings)
    assert isinstance(event, VectorUpdated)
    content = event.content if "content" in event.model_fields_set else known.content
    return Known(embeddings, content, recorded.timestamp)


def _backwards(events: list[RecordedEvent]) -> PastState:
    fold = BackwardFold()
    return next(state for event in reversed(events) if (state := fold.add(event)) is not None)


@given(_given, st.lists(st.integers(0, 160), min_size=3, max_size=3))
def test_a_past_version_has_of_each_spec_the_newest_embedding_since_the_creation(
    given_events: list[_Given], since: list[int]
) -> None:
    specs = EmbeddingSpecs(
        tuple(LiveSpec(spec, position, complete=True) for spec, position in zip(SPECS, since, strict=True))
    )
    known: Known | None = None
    recorded: list[RecordedEvent] = []
    for version, event in enumerate([_event("create", frozenset({0}), 0), *(_event(*one) for one in given_events)], 1):
        recorded.append(_recorded(event, version))
        known = _after(known, event, recorded[-1])
        state = _backwards(recorded)
        assert {spec: (one.stored.data, one.position) for spec, one in state.embeddings.items()} == known.embeddings
        assert (state.content, state.updated_at) == (known.content, known.updated_at)
        assert (state.version, state.position) == (version, 10 * version)
        assert {spec: one.data for spec, one in state.under(specs).items()} == {
            spec: data
            for spec, (data, position) in known.embeddings.items()
            if position > dict(zip(SPECS, since, strict=True))[spec]
        }
