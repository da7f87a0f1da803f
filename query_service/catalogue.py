"""The collections as a read server's snapshot shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from events_schema.collections import IndexSpec, Metric, VectorType
from events_schema.embedding import EmbeddingSpec
from events_schema.specs import EmbeddingSpecs
from shared.read_model.expiry import Expiry
from shared.read_model.index_states import ready_of
from shared.read_model.metadata_indexes import MetadataIndexes
from shared.read_model.specs import specs_of
from shared.read_model.tables import embeddings_table, records_table, row_key


@dataclass(frozen=True, slots=True)
class RowKey:
    """By which columns a row of one table finds its row in the other, as SQL."""

    columns: tuple[str, ...]

    def of(self, table: str) -> str:
        return ", ".join(f"{table}.{column}" for column in self.columns)

    def same(self, table: str, other: str) -> str:
        return " AND ".join(f"{table}.{column} = {other}.{column}" for column in self.columns)


@dataclass(frozen=True, slots=True)
class Declared:
    """What a collection is to be, or what a generation of it is."""

    metric: Metric
    type: VectorType
    index: IndexSpec
    embedding_spec: EmbeddingSpec
    month_partitions: bool


@dataclass(frozen=True, slots=True)
class PastMoment:
    """What a snapshot is of: the collection once everything up to `position` had happened. `time` is that of the event
    there, or a later one that was asked for; by it vectors have expired or have not."""

    snapshot: str
    position: int
    time: datetime


@dataclass(frozen=True, slots=True)
class LiveCollection:
    """A collection that is not deleted, as its active generation is; that may not yet be what was declared.

    `indexed`: the index is there; without it, searches are exact. `lists`: how many an IVFFlat index has. `past`: the
    tables are not those of the active generation but a snapshot's. `metadata_indexes`: those over fields of the
    metadata that are there. `embedding_spec` is what searches go by; `specs` are all that writes bring embeddings
    under.
    """

    collection_id: UUID
    tenant: str
    name: str
    metric: Metric
    type: VectorType
    index: IndexSpec
    embedding_spec: EmbeddingSpec
    month_partitions: bool
    description: str | None
    retention_seconds: int | None
    version: int
    position: int
    created_at: datetime
    updated_at: datetime
    generation: int
    revision: UUID
    indexed: bool
    lists: int | None
    metadata_indexes: MetadataIndexes
    declared: Declared
    specs: EmbeddingSpecs
    past: PastMoment | None = None

    @property
    def shape(self) -> Declared:
        """What the active generation is."""
        return Declared(self.metric, self.type, self.index, self.embedding_spec, self.month_partitions)

    @property
    def expiry(self) -> Expiry:
        """When its vectors expire. Which retention there was in the past is not known here: what it made expire was
        deleted soon after."""
        return Expiry(self.retention_seconds) if self.past is None else Expiry(None, self.past.time)

    @property
    def key(self) -> RowKey:
        return RowKey(row_key(month_partitions=self.month_partitions))

    @property
    def records(self) -> str:
        return records_table(self.collection_id, self.generation)

    @property
    def embeddings(self) -> str:
        return embeddings_table(self.collection_id, self.generation)


@dataclass(frozen=True, slots=True)
class Alias:
    """Another name of a collection."""

    tenant: str
    name: str
    collection_id: UUID
    version: int
    position: int
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All live collections and all aliases of all tenants. Immutable: a newer snapshot makes a new one."""

    by_id: Mapping[UUID, LiveCollection] = field(default_factory=dict)
    by_name: Mapping[tuple[str, str], LiveCollection] = field(default_factory=dict)
    aliases: Mapping[tuple[str, str], Alias] = field(default_factory=dict)

    def updated(self, rows: Iterable[Mapping[str, Any]], of_aliases: Iterable[Mapping[str, Any]] = ()) -> Self:
        """With these rows (JSON objects) of the catalogue; one with `deleted_at` takes its collection away, one with
        `removed_at` its alias."""
        aliases = self._updated_aliases(of_aliases)
        by_id = dict(self.by_id)
        changed = False
        for row in rows:
            collection_id = UUID(row["collection_id"])
            if row["deleted_at"] is not None or row["generation"] is None:
                changed |= by_id.pop(collection_id, None) is not None
                continue
            collection = _collection(collection_id, row)
            changed |= by_id.get(collection_id) != collection
            by_id[collection_id] = collection
        if changed:
            return type(self)(by_id, {(one.tenant, one.name): one for one in by_id.values()}, aliases)
        return self if aliases is self.aliases else replace(self, aliases=aliases)

    def _updated_aliases(self, rows: Iterable[Mapping[str, Any]]) -> Mapping[tuple[str, str], Alias]:
        aliases = dict(self.aliases)
        for row in rows:
            key = row["tenant"], row["name"]
            if row["removed_at"] is not None:
                aliases.pop(key, None)
                continue
            aliases[key] = Alias(
                *key,
                UUID(row["collection_id"]),
                row["version"],
                row["position"],
                datetime.fromisoformat(row["updated_at"]),
            )
        return self.aliases if aliases == self.aliases else aliases

    def find(self, tenant: str, name: str) -> LiveCollection | None:
        """The collection that bears the name, or that the name is an alias of."""
        found = self.by_name.get((tenant, name))
        alias = self.aliases.get((tenant, name))
        return found if found is not None or alias is None else self.by_id.get(alias.collection_id)

    def alias_position(self, tenant: str, name: str) -> int:
        """Of the event that set the alias; 0 for the name of a collection."""
        alias = None if (tenant, name) in self.by_name else self.aliases.get((tenant, name))
        return 0 if alias is None else alias.position

    def find_alias(self, tenant: str, name: str) -> tuple[Alias, LiveCollection] | None:
        """The alias and what it stands for."""
        alias = self.aliases.get((tenant, name))
        collection = None if alias is None else self.by_id.get(alias.collection_id)
        return None if alias is None or collection is None else (alias, collection)

    def aliases_of(self, tenant: str) -> list[tuple[Alias, LiveCollection]]:
        """In order of name."""
        found = (self.find_alias(tenant, name) for of, name in sorted(self.aliases) if of == tenant)
        return [one for one in found if one is not None]

    def of_tenant(self, tenant: str) -> list[LiveCollection]:
        """In order of name."""
        return sorted((one for one in self.by_id.values() if one.tenant == tenant), key=lambda one: one.name)


def _collection(collection_id: UUID, row: Mapping[str, Any]) -> LiveCollection:
    return LiveCollection(
        collection_id=collection_id,
        tenant=row["tenant"],
        name=row["name"],
        metric=row["metric"],
        type=row["type"],
        index=IndexSpec.model_validate(row["index"]),
        embedding_spec=EmbeddingSpec.model_validate(row["embedding_spec"]),
        month_partitions=row["month_partitions"],
        description=row["description"],
        retention_seconds=row["retention_seconds"],
        version=row["version"],
        position=row["position"],
        created_at=datetime.fromisoformat(row["created_at"]),
        updated_at=datetime.fromisoformat(row["updated_at"]),
        generation=row["generation"],
        revision=UUID(row["revision"]),
        indexed=row["indexed"],
        lists=row["lists"],
        metadata_indexes=ready_of(row["metadata_indexes"]),
        declared=Declared(
            metric=row["declared_metric"],
            type=row["declared_type"],
            index=IndexSpec.model_validate(row["declared_index"]),
            embedding_spec=EmbeddingSpec.model_validate(row["declared_embedding_spec"]),
            month_partitions=row["declared_month_partitions"],
        ),
        specs=specs_of(EmbeddingSpec.model_validate(row["declared_embedding_spec"]), row["specs"]),
    )
