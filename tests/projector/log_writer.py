"""Appends events straight to the log, as the command service would, but with no opinion on what makes sense."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import numpy as np
import orjson

from events_schema.aliases import AliasRemoved, AliasSet
from events_schema.base import Event
from events_schema.collections import (
    CollectionCreated,
    CollectionDeleted,
    CollectionReembedded,
    CollectionUpdated,
    IndexSpec,
    MetadataIndexSpec,
    Metric,
    VectorType,
)
from events_schema.embedding import EmbeddingSpec, StoredEmbedding, encode
from events_schema.streams import collection_stream, vector_stream
from events_schema.vectors import VectorCreated, VectorDeleted, VectorReembedded, VectorUpdated

TENANT = "default"
DIMENSION = 4

_APPEND_LOCK = 7_120_031_000

_INSERT = """
INSERT INTO events (position, event_id, tenant, collection_id, aggregate_id, aggregate_type, version, event_type,
                    schema_version, event_data, metadata, timestamp)
SELECT (SELECT coalesce(max(position), 0) FROM events) + 1, $1, $2, $3, $4, $5,
       (SELECT coalesce(max(version), 0) FROM events WHERE aggregate_id = $4) + 1, $6, $7, $8, '{}',
       clock_timestamp() + $9::interval * (SELECT count(*) FROM events)
RETURNING position
"""


@dataclass(frozen=True, slots=True)
class NewCollection:
    """What the tests need to know of a collection that the log has."""

    name: str
    spec: EmbeddingSpec
    collection_id: UUID = field(default_factory=uuid4)

    @property
    def stream(self) -> UUID:
        return collection_stream(TENANT, self.name)


def embedding(values: Sequence[float], spec: EmbeddingSpec) -> tuple[StoredEmbedding, ...]:
    data = encode(np.array(values, dtype=np.float32))
    return (StoredEmbedding(spec=spec, encoding="float32-le-base64", data=data),)


def embeddings(under: Mapping[EmbeddingSpec, Sequence[float]]) -> tuple[StoredEmbedding, ...]:
    """One of each spec."""
    return tuple(one for spec, values in under.items() for one in embedding(values, spec))


@dataclass(slots=True)
class LogWriter:
    """`pace`: so much later than the one before it each event seems to have happened, besides the time that passes."""

    connection: asyncpg.Connection
    pace: timedelta = timedelta()
    month_partitions: bool = False
    """Of the collections that are created."""

    async def append(
        self,
        collection_id: UUID,
        aggregate_id: UUID,
        aggregate_type: str,
        event_type: str,
        event_data: dict[str, Any],
        *,
        schema_version: int = 1,
    ) -> int:
        async with self.connection.transaction():
            await self.connection.execute("SELECT pg_advisory_xact_lock($1)", _APPEND_LOCK)
            position: int = await self.connection.fetchval(
                _INSERT,
                uuid4(),
                TENANT,
                collection_id,
                aggregate_id,
                aggregate_type,
                event_type,
                schema_version,
                orjson.dumps(event_data).decode(),
                self.pace,
            )
        return position

    async def collection_event(self, collection: NewCollection, event: Event) -> int:
        return await self.append(
            collection.collection_id, collection.stream, "collection", event.event_type, event.event_data()
        )

    async def vector_event(
        self, collection: NewCollection, event: VectorCreated | VectorUpdated | VectorReembedded | VectorDeleted
    ) -> int:
        stream = vector_stream(collection.collection_id, event.id)
        return await self.append(collection.collection_id, stream, "vector", event.event_type, event.event_data())

    async def unreadable(self, collection: NewCollection, vector_id: str, event_type: str) -> int:
        """An event of the vector as only a later release writes it."""
        stream = vector_stream(collection.collection_id, vector_id)
        return await self.append(
            collection.collection_id, stream, "vector", event_type, {"id": vector_id}, schema_version=99
        )

    async def create_collection(
        self,
        name: str = "articles",
        *,
        dimension: int = DIMENSION,
        metric: Metric = "cosine",
        type: VectorType = "vector",  # noqa: A002
        index: IndexSpec | None = None,
        metadata_indexes: Sequence[MetadataIndexSpec] = (),
    ) -> NewCollection:
        collection = NewCollection(name, EmbeddingSpec(provider="client", model=None, dimension=dimension))
        await self.collection_event(
            collection,
            CollectionCreated(
                name=name,
                collection_id=collection.collection_id,
                metric=metric,
                type=type,
                index=index or IndexSpec(kind="hnsw", m=None, ef_construction=None, lists=None),
                embedding_spec=collection.spec,
                description=None,
                month_partitions=self.month_partitions,
                metadata_indexes=tuple(metadata_indexes),
            ),
        )
        return collection

    async def update_collection(self, collection: NewCollection, description: str | None) -> int:
        return await self.change_collection(collection, description=description)

    async def change_collection(self, collection: NewCollection, **changed: Any) -> int:
        return await self.collection_event(collection, CollectionUpdated(**changed))

    async def move(self, collection: NewCollection, to: EmbeddingSpec, *others: EmbeddingSpec) -> int:
        """Announced, or taken back."""
        return await self.change_collection(collection, embedding_spec=to, other_specs=others)

    async def complete(self, collection: NewCollection, spec: EmbeddingSpec) -> int:
        return await self.collection_event(collection, CollectionReembedded(embedding_spec=spec))

    async def delete_collection(self, collection: NewCollection) -> int:
        return await self.collection_event(
            collection, CollectionDeleted(name=collection.name, collection_id=collection.collection_id)
        )

    async def set_alias(self, name: str, collection: NewCollection) -> int:
        event = AliasSet(name=name, collection=collection.name, collection_id=collection.collection_id)
        return await self._alias_event(event)

    async def remove_alias(self, name: str, collection: NewCollection) -> int:
        return await self._alias_event(AliasRemoved(name=name, collection_id=collection.collection_id))

    async def _alias_event(self, event: AliasSet | AliasRemoved) -> int:
        stream = collection_stream(TENANT, event.name)
        return await self.append(event.collection_id, stream, "alias", event.event_type, event.event_data())

    async def create(
        self,
        collection: NewCollection,
        vector_id: str,
        values: Sequence[float] = (1, 2, 3, 4),
        content: str | None = None,
        metadata: dict[str, Any] | None = None,
        *,
        under: Mapping[EmbeddingSpec, Sequence[float]] | None = None,
    ) -> int:
        """`under`: with these embeddings, not with `values` under the collection's first spec."""
        return await self.vector_event(
            collection,
            VectorCreated(
                id=vector_id,
                embeddings=embeddings({collection.spec: values} if under is None else under),
                content=content,
                metadata=metadata or {},
            ),
        )

    async def update(self, collection: NewCollection, vector_id: str, **changed: Any) -> int:
        if "embedding" in changed:
            changed["embeddings"] = embedding(changed.pop("embedding"), collection.spec)
        if "under" in changed:
            changed["embeddings"] = embeddings(changed.pop("under"))
        return await self.vector_event(collection, VectorUpdated(id=vector_id, **changed))

    async def reembed(
        self, collection: NewCollection, vector_id: str, under: Mapping[EmbeddingSpec, Sequence[float]]
    ) -> int:
        return await self.vector_event(collection, VectorReembedded(id=vector_id, embeddings=embeddings(under)))

    async def delete(self, collection: NewCollection, vector_id: str) -> int:
        return await self.vector_event(collection, VectorDeleted(id=vector_id))

    async def create_many(self, collection: NewCollection, vector_ids: Iterable[str]) -> None:
        for vector_id in vector_ids:
            await self.create(collection, vector_id)
