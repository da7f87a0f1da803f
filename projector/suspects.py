"""Embeddings that a collection could hold as it was, and cannot as it is to be: found in the tables made for that."""

from __future__ import annotations

from collections.abc import Sequence

from events_schema.embedding import Float32Array, decode
from events_schema.registry import decode_event
from events_schema.streams import vector_stream
from events_schema.vectors import VectorCreated, VectorReembedded, VectorUpdated
from projector.errors import RebuildFailedError
from projector.event_log import EventLog
from projector.generations import Generation
from projector.parking import without_parked
from shared.embedding_input import embedding_fault
from shared.postgres import Connection

# A generation that is made holds the greatest half for all that is beyond it; see `Generation.narrowed`.
_BEYOND_HALF = "embedding::real[] && ARRAY[65504, -65504]::real[]"
_WITHOUT_DIRECTION = {"vector": "vector_norm(embedding) < 1e-18", "halfvec": "l2_norm(embedding) < 1e-18"}

_AT_ONCE = 100

_FIND = """
SELECT id FROM {embeddings}
WHERE ($1::text[] IS NULL OR id = ANY($1)) AND id > $2 AND ({suspicious}) ORDER BY id LIMIT $3
"""


async def expect_comparable(
    connection: Connection,
    generation: Generation,
    log: EventLog,
    ids: Sequence[str] | None = None,
    *,
    timeout_seconds: float | None = None,
) -> None:
    """Whether every embedding of the generation (of those with these ids) has a distance to every other one. The log
    says what an embedding was before the table took what it could of it. Without ids each is looked at, which takes
    `timeout_seconds` at most.

    Raises:
        RebuildFailedError: naming the first that has not.
    """
    shape = generation.shape
    suspicious = [_WITHOUT_DIRECTION[shape.type]] if shape.metric == "cosine" else []
    if shape.type == "halfvec":
        suspicious.append(_BEYOND_HALF)
    if not suspicious:
        return
    statement, last = _FIND.format(embeddings=generation.embeddings, suspicious=" OR ".join(suspicious)), ""
    while rows := await connection.fetch(statement, ids, last, _AT_ONCE, timeout=timeout_seconds):
        for row in rows:
            embedding = await _embedding(connection, generation, row["id"], log)
            fault = None if embedding is None else embedding_fault(embedding, shape.metric, shape.type)
            if fault is not None:
                raise RebuildFailedError(f"the vector {row['id']!r} stands in the way: {fault.rule}")
        if len(rows) < _AT_ONCE:
            return
        last = rows[-1]["id"]


async def _embedding(
    connection: Connection, generation: Generation, vector_id: str, log: EventLog
) -> Float32Array | None:
    """The last one under the generation's spec that the log has of the vector."""
    shape = generation.shape
    found: Float32Array | None = None
    stream = await log.stream(vector_stream(generation.collection_id, vector_id))
    for recorded in await without_parked(connection, log, stream):
        event = decode_event(recorded.event_type, recorded.schema_version, recorded.event_data)
        if isinstance(event, VectorCreated | VectorUpdated | VectorReembedded) and recorded.position > shape.spec_since:
            for stored in event.embeddings:
                if stored.spec == shape.spec:
                    found = decode(stored.data)
    return found
