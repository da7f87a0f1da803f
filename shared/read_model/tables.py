"""Names of the read model's tables.

Each collection has two tables a generation, named by its id and never by its name (identifiers are cut at
63 bytes): `records_…` holds what people read, `embeddings_…` what the index is over. They are apart because
every update of an indexed row makes a new HNSW entry, also when only its metadata changed.
"""

from __future__ import annotations

from uuid import UUID

PROJECTION = "read_model"
"""The name under which the projector keeps its checkpoints."""

OPERATOR_CLASSES = {"cosine": "cosine_ops", "l2": "l2_ops", "ip": "ip_ops"}
"""Metric -> pgvector's operator class, behind `vector_` or `halfvec_`."""

DISTANCE_OPERATORS = {"cosine": "<=>", "l2": "<->", "ip": "<#>"}
"""Metric -> pgvector's distance operator; `<#>` is the negative inner product."""


def records_table(collection_id: UUID, generation: int) -> str:
    return f"records_{collection_id.hex}_g{generation}"


def embeddings_table(collection_id: UUID, generation: int) -> str:
    return f"embeddings_{collection_id.hex}_g{generation}"


def row_key(*, month_partitions: bool) -> tuple[str, ...]:
    """The columns by which a row of one table finds its row in the other. Rows of partitioned tables lie where their
    created_at belongs, so it is part of the key; an id is unique in them all the same, because the projector sees to
    it."""
    return ("id", "created_at") if month_partitions else ("id",)
