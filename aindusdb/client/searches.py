"""What a search looks for, as the API takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from aindusdb.client.calls import as_base64, given, shown
from aindusdb.client.embeddings import EmbeddingInput
from aindusdb.client.models import Part


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """One search of several; its fields are those of `search`. An embedding, a text (`query`) or the `id` of a stored
    vector says what to look for, one of the three."""

    embedding: EmbeddingInput | str | None = None
    query: str | None = None
    id: str | None = None
    k: int | None = None
    filter: Mapping[str, Any] | None = None
    ef_search: int | None = None
    exact: bool | None = None
    min_score: float | None = None
    include: Sequence[Part] | None = None
    exclude: Sequence[Part] | None = None
    model: str | None = None

    def body(self) -> dict[str, Any]:
        return given(
            {
                "embedding": None if self.embedding is None else as_base64(self.embedding),
                "query": self.query,
                "id": self.id,
                "k": self.k,
                "filter": self.filter,
                "ef_search": self.ef_search,
                "exact": self.exact,
                "min_score": self.min_score,
                **shown(self.include, self.exclude),
                "model": self.model,
            }
        )


@dataclass(frozen=True, slots=True)
class Example:
    """What a recommendation is to be near to, or away from: one of the three."""

    id: str | None = None
    embedding: EmbeddingInput | str | None = None
    query: str | None = None

    def body(self) -> dict[str, Any]:
        embedding = None if self.embedding is None else as_base64(self.embedding)
        return given({"id": self.id, "embedding": embedding, "query": self.query})


ExampleInput: TypeAlias = Example | str | EmbeddingInput
"""A text is the id of a stored vector, numbers are an embedding."""


def example_body(example: ExampleInput) -> dict[str, Any]:
    if isinstance(example, str):
        return Example(id=example).body()
    return (example if isinstance(example, Example) else Example(embedding=example)).body()
