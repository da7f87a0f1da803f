"""What a generation's rows are to be, as the log says: a fingerprint of each, in a temporary table beside them.

The fold is the projector's own, batch by batch, so that its memory does not grow with the collection. Values become
fingerprints inside the database, by the same expressions on both sides of the comparison: what a type rounds or jsonb
normalises is no difference.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from pgvector import Vector

from events_schema.base import RecordedEvent
from events_schema.embedding import decode_many
from projector.event_log import EventLog
from projector.generations import Generation
from projector.vectors import GREATEST_HALF, VectorEffect, as_json_text
from projector.versions import folded_by_log
from shared.postgres import Connection

CONTENT = "hashtextextended({content}, 0)"
METADATA = "hashtextextended({metadata}::text, 0)"
EMBEDDING = "hashtextextended({type}_send({embedding})::text, 0)"
"""SQL expressions that make a fingerprint, 64 bits wide. That of null is null."""

_CREATE = """
CREATE TEMPORARY TABLE expected_rows (
    id         text        COLLATE "C" PRIMARY KEY,
    version    int         NOT NULL,
    position   bigint      NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    content    bigint,
    metadata   bigint      NOT NULL,
    embedding  bigint,
    expires_at timestamptz
)
"""

_DROP = "DROP TABLE IF EXISTS pg_temp.expected_rows"

_ANALYZE = "ANALYZE pg_temp.expected_rows"

_DELETE = "DELETE FROM pg_temp.expected_rows WHERE id = ANY($1::text[])"

_UPSERT = f"""
INSERT INTO pg_temp.expected_rows (id, version, position, created_at, updated_at, content, metadata, embedding,
                                   expires_at)
SELECT id, version, position, created_at, updated_at, {CONTENT.format(content="content")},
       {METADATA.format(metadata="metadata")}, {EMBEDDING.format(type="{type}", embedding="embedding::{type}")},
       expires_at
FROM unnest($1::text[], $2::int[], $3::bigint[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::jsonb[],
            $8::vector[], $9::timestamptz[])
    AS given(id, version, position, created_at, updated_at, content, metadata, embedding, expires_at)
ON CONFLICT (id) DO UPDATE SET version = excluded.version, position = excluded.position,
    created_at = excluded.created_at, updated_at = excluded.updated_at,
    content = excluded.content, metadata = excluded.metadata, embedding = excluded.embedding,
    expires_at = excluded.expires_at
"""  # noqa: S608

_CHANGE = f"""
UPDATE pg_temp.expected_rows x SET version = c.version, position = c.position,
    updated_at = coalesce(c.updated_at, x.updated_at),
    content = CASE WHEN c.sets_content THEN {CONTENT.format(content="c.content")} ELSE x.content END,
    metadata = coalesce({METADATA.format(metadata="c.metadata")}, x.metadata),
    embedding = CASE WHEN c.drops_embedding THEN NULL
        ELSE coalesce({EMBEDDING.format(type="{type}", embedding="c.embedding::{type}")}, x.embedding) END,
    expires_at = CASE WHEN c.sets_expiry THEN c.expires_at ELSE x.expires_at END
FROM unnest($1::text[], $2::int[], $3::bigint[], $4::timestamptz[], $5::boolean[], $6::text[], $7::jsonb[],
            $8::vector[], $9::boolean[], $10::boolean[], $11::timestamptz[])
    AS c(id, version, position, updated_at, sets_content, content, metadata, embedding, drops_embedding, sets_expiry,
         expires_at)
WHERE x.id = c.id
"""  # noqa: S608


async def open_expected_rows(connection: Connection) -> None:
    """Empty, for as long as the session lasts."""
    await connection.execute(_DROP)
    await connection.execute(_CREATE)


async def expect(
    connection: Connection, generation: Generation, events: Sequence[RecordedEvent], log: EventLog
) -> Collection[str]:
    """Folds a collection's next vector events into what is expected; the ids of the vectors that they concern.

    Raises:
        One of `POISON`: an event is at fault.
    """
    if not events:
        return ()
    effects = await folded_by_log(generation, events, log)
    if deleted := [vector_id for vector_id, effect in effects.items() if effect.deleted]:
        await connection.execute(_DELETE, deleted)
    if created := {vector_id: one for vector_id, one in effects.items() if one.created_at is not None}:
        await connection.execute(
            _UPSERT.format(type=generation.shape.type),
            list(created),
            [effect.version for effect in created.values()],
            [effect.position for effect in created.values()],
            [effect.created_at for effect in created.values()],
            [effect.updated_at for effect in created.values()],
            [effect.content for effect in created.values()],
            [as_json_text(effect.metadata) for effect in created.values()],
            _embeddings(generation, created.values()),
            [effect.expires_at for effect in created.values()],
        )
    changed = {vector_id: one for vector_id, one in effects.items() if one.created_at is None and not one.deleted}
    if changed:
        await connection.execute(
            _CHANGE.format(type=generation.shape.type),
            list(changed),
            [effect.version for effect in changed.values()],
            [effect.position for effect in changed.values()],
            [effect.updated_at for effect in changed.values()],
            [effect.sets_content for effect in changed.values()],
            [effect.content for effect in changed.values()],
            [None if effect.metadata is None else as_json_text(effect.metadata) for effect in changed.values()],
            _embeddings(generation, changed.values()),
            [effect.drops_embedding for effect in changed.values()],
            [effect.sets_expiry for effect in changed.values()],
            [effect.expires_at for effect in changed.values()],
        )
    return effects.keys()


async def analyze_expected_rows(connection: Connection) -> None:
    await connection.execute(_ANALYZE)


def _embeddings(generation: Generation, effects: Collection[VectorEffect]) -> list[Vector | None]:
    """Of each effect; None where it changes none."""
    given = [effect.embedding for effect in effects if effect.embedding is not None]
    matrix = decode_many(given, generation.shape.spec.dimension)
    if generation.shape.type == "halfvec":
        matrix = np.clip(matrix, -GREATEST_HALF, GREATEST_HALF)
    rows = iter(matrix)
    return [None if effect.embedding is None else Vector(next(rows)) for effect in effects]
