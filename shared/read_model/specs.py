"""A collection's live embedding specs, as its row in the catalogue has them."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from events_schema.embedding import EmbeddingSpec
from events_schema.specs import EmbeddingSpecs, LiveSpec

_LIVE = TypeAdapter(tuple[LiveSpec, ...])


def as_stored(specs: EmbeddingSpecs) -> str:
    """The JSON of the column `specs`."""
    return _LIVE.dump_json(specs.live).decode()


def specs_of(embedding_spec: EmbeddingSpec, stored: str | list[Any] | None) -> EmbeddingSpecs:
    """Of a row with this `embedding_spec`, the served one, and `specs`, as text or parsed. That is null until the
    collection first moves to another spec."""
    if stored is None:
        return EmbeddingSpecs((LiveSpec(embedding_spec, since=0, complete=True),))
    return EmbeddingSpecs(_LIVE.validate_json(stored) if isinstance(stored, str) else _LIVE.validate_python(stored))
