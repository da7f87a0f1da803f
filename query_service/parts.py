"""Which parts of a vector an answer brings, how they are shown, and how large they may be together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from orjson import Fragment
from pgvector import HalfVector, Vector

from events_schema.embedding import FLOAT32_LE, decode, encode
from query_service.binding import Binder
from query_service.errors import AnswerTooLargeError
from query_service.metadata_fields import ALL_FIELDS, MetadataFields

EmbeddingFormat = Literal["numbers", "base64"]

DEFAULT_MAX_ANSWER_BYTES = 32 * 1024 * 1024

_MOST_BYTES_OF_A_VECTOR = 900_000
"""What is larger as an event is refused when it is written."""

_BYTES_A_NUMBER = {"numbers": 16.0, "base64": 16 / 3}
"""As an answer shows it, at most."""


@dataclass(frozen=True, slots=True)
class Include:
    """Which parts of a vector the answer brings; `fields` of the metadata, if that is among them."""

    content: bool = True
    metadata: bool = True
    embedding: bool = False
    fields: MetadataFields = ALL_FIELDS
    embedding_format: EmbeddingFormat = "numbers"

    def columns(self, bind: Binder) -> str:
        """SQL for the parts of the record `r` and the embedding of `v`; NULL for what is not asked for."""
        content = "r.content" if self.content else "NULL::text"
        metadata = f"{self.fields.sql('r.metadata', bind)}::text" if self.metadata else "NULL::text"
        embedding = "v.embedding" if self.embedding else "NULL"
        return f", {content} AS content, {metadata} AS metadata, {embedding} AS embedding"

    def row_bytes(self, dimension: int) -> str:
        """SQL for how many bytes the parts of a row with these columns take in an answer, before JSON's escapes."""
        embedding = int(dimension * _BYTES_A_NUMBER[self.embedding_format]) if self.embedding else 0
        return f"(coalesce(octet_length(content), 0) + coalesce(octet_length(metadata), 0) + {embedding})"

    def may_exceed(self, max_bytes: int, rows: int, dimension: int) -> bool:
        """Whether so many vectors of the dimension can be larger than that."""
        embedding = dimension * _BYTES_A_NUMBER[self.embedding_format] if self.embedding else 0
        most = embedding + (_MOST_BYTES_OF_A_VECTOR if self.content or self.metadata else 0)
        return rows * most > max_bytes

    def shown(self, content: str | None, metadata: str | None, embedding: str | None) -> dict[str, Any]:
        """The parts as members of an answer. `metadata` is JSON text, which goes into it as it is, and `embedding`
        base64."""
        members: dict[str, Any] = {}
        if self.content:
            members["content"] = content
        if self.metadata:
            members["metadata"] = None if metadata is None else Fragment(metadata)
        if self.embedding:
            members["embedding"] = None if embedding is None else self.formatted(embedding)
        return members

    def formatted(self, embedding: str) -> Any:
        """For an answer, of base64 as events have it. Numbers are float32, and written with as many digits as tell
        them apart."""
        return embedding if self.embedding_format == "base64" else decode(embedding)

    def bytes_of(self, content: str | None, metadata: str | None, embedding: str | None) -> int:
        """As `row_bytes` counts them."""
        texts = sum(len(text.encode()) for text in (content, metadata) if text is not None)
        numbers = 0 if embedding is None else decode(embedding).size
        return texts + int(numbers * _BYTES_A_NUMBER[self.embedding_format])

    def narrowed(self, metadata: str | None) -> str | None:
        return None if metadata is None else self.fields.narrowed(metadata)


def stored_text(embedding: Vector | HalfVector | None) -> str | None:
    """base64 of little-endian float32, of an embedding as the driver gives it."""
    return None if embedding is None else encode(embedding.to_numpy().astype(FLOAT32_LE))


def check_answer_bytes(found: int, limit: int) -> None:
    """
    Raises:
        AnswerTooLargeError
    """
    if found > limit:
        raise AnswerTooLargeError(found, limit)
