"""How far the move of a collection to another model is: what is remembered of it, and what is read from the read model.

The worker writes it page by page, whoever is asked reads it. It says where to go on, never that something is done: that
a vector has an embedding is looked up in its stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self
from uuid import UUID

import asyncpg

from command_service.domain.collections import Collection, CollectionState
from shared.postgres import Connection
from shared.read_model.snapshot import read_snapshot

MAX_COUNTED = 10_000
SHOWN_IDS = 10

_COUNT_SECONDS = 30.0

_FIND = """
SELECT since, place, vectors, looked_at, embedded, reason FROM reembeddings WHERE collection_id = $1
"""

_BEGIN = """
INSERT INTO reembeddings (collection_id, since) VALUES ($1, $2)
ON CONFLICT (collection_id) DO UPDATE
SET since = $2, place = 0, vectors = NULL, looked_at = 0, embedded = 0, reason = NULL
"""

_UNBLOCK_ALL = "DELETE FROM reembeddings_blocked WHERE collection_id = $1"

_VECTORS = """
SELECT count(*) FROM events WHERE collection_id = $1 AND event_type = 'VectorCreated' AND position <= $2
"""

_COUNTED = "UPDATE reembeddings SET vectors = $2 WHERE collection_id = $1"

_GO_ON = """
UPDATE reembeddings SET place = $2, looked_at = looked_at + $3, embedded = embedded + $4, reason = NULL
WHERE collection_id = $1
"""

_HELD_UP = "UPDATE reembeddings SET reason = $2 WHERE collection_id = $1"

_BLOCK = """
INSERT INTO reembeddings_blocked (collection_id, position, vector_id, why)
SELECT $1, * FROM unnest($2::bigint[], $3::text[], $4::text[])
ON CONFLICT (collection_id, position) DO UPDATE SET why = excluded.why
"""

_UNBLOCK = "DELETE FROM reembeddings_blocked WHERE collection_id = $1 AND position = ANY($2::bigint[])"

_ANY_BLOCKED = "SELECT EXISTS (SELECT FROM reembeddings_blocked WHERE collection_id = $1)"

_COUNT_BLOCKED = """
SELECT count(*) FILTER (WHERE why IS NULL) AS without_content, count(*) AS blocked FROM (
    SELECT why FROM reembeddings_blocked WHERE collection_id = $1 LIMIT $2
) counted
"""

_SHOWN_BLOCKED = """
(SELECT vector_id, why FROM reembeddings_blocked WHERE collection_id = $1 AND why IS NULL ORDER BY position LIMIT $2)
UNION ALL
(SELECT vector_id, why FROM reembeddings_blocked WHERE collection_id = $1 AND why IS NOT NULL
 ORDER BY position LIMIT 1)
"""

_FORGET = "DELETE FROM reembeddings WHERE collection_id = $1"

# Only these are written; what is made of the spec before is refused when it is to be promoted.
_TABLES = """
SELECT coalesce(bool_or(state = 'active' AND is_target), false) AS searched,
       coalesce(bool_or(NOT is_target), false) AS others
FROM (SELECT state, embedding_spec = $2::jsonb AND spec_since = $3 AS is_target FROM generations
      WHERE collection_id = $1 AND state IN ('active', 'kept')) written
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """Of the move that began at the position `since`. Vectors that were created up to `place` have been looked at; so
    many of them, `blocked` (counted up to 10,000), cannot be embedded. `reason`: what holds it up for now."""

    since: int
    place: int
    vectors: int | None
    looked_at: int
    embedded: int
    reason: str | None
    blocked: int = 0
    without_content: int = 0
    without_content_ids: tuple[str, ...] = ()
    refused: tuple[str, str] | None = None
    """One whose content cannot be embedded, and why."""

    @property
    def remaining(self) -> int | None:
        """Vectors at most that have no embedding yet; None: not counted."""
        return None if self.vectors is None else max(self.vectors - self.looked_at, 0) + self.blocked

    @property
    def is_through(self) -> bool:
        return self.place >= self.since


@dataclass(frozen=True, slots=True)
class Tables:
    """`searched`: searches go by the target's embeddings. `others`: tables with other embeddings are still written."""

    searched: bool
    others: bool

    @classmethod
    async def read(cls, connection: Connection, state: CollectionState, live: Collection) -> Self:
        """From the read model. Where it is not as far as the collection's last event, nothing is said to be there."""
        target = live.specs.target
        row = await connection.fetchrow(_TABLES, live.collection_id, target.spec.model_dump_json(), target.since)
        assert row is not None
        if (await read_snapshot(connection)).low < state.position:
            return cls(searched=row["searched"], others=True)
        return cls(**row)


async def find(connection: Connection, collection_id: UUID) -> Progress | None:
    row = await connection.fetchrow(_FIND, collection_id)
    if row is None:
        return None
    counted = await connection.fetchrow(_COUNT_BLOCKED, collection_id, MAX_COUNTED)
    assert counted is not None
    shown = await connection.fetch(_SHOWN_BLOCKED, collection_id, SHOWN_IDS) if counted["blocked"] else []
    return Progress(
        **row,
        **counted,
        without_content_ids=tuple(one["vector_id"] for one in shown if one["why"] is None),
        refused=next(((one["vector_id"], one["why"]) for one in shown if one["why"] is not None), None),
    )


async def begin(connection: Connection, collection_id: UUID, since: int) -> None:
    """Anew; the caller's transaction. Counts what there is to look at, if that can be done in half a minute."""
    await connection.execute(_BEGIN, collection_id, since)
    await connection.execute(_UNBLOCK_ALL, collection_id)
    try:
        async with connection.transaction():
            vectors = await connection.fetchval(_VECTORS, collection_id, since, timeout=_COUNT_SECONDS)
    except (TimeoutError, asyncpg.QueryCanceledError):
        return
    await connection.execute(_COUNTED, collection_id, vectors)


async def go_on(connection: Connection, collection_id: UUID, place: int, *, looked_at: int, embedded: int) -> None:
    await connection.execute(_GO_ON, collection_id, place, looked_at, embedded)


async def hold_up(connection: Connection, collection_id: UUID, reason: str) -> None:
    await connection.execute(_HELD_UP, collection_id, reason)


async def block(connection: Connection, collection_id: UUID, blocked: Sequence[tuple[int, str, str | None]]) -> None:
    """Each with the position of its creation, its id and why, None where it has no content."""
    await connection.execute(_BLOCK, collection_id, *map(list, zip(*blocked, strict=True)))


async def unblock(connection: Connection, collection_id: UUID, positions: Sequence[int]) -> None:
    await connection.execute(_UNBLOCK, collection_id, positions)


async def any_blocked(connection: Connection, collection_id: UUID) -> bool:
    found: bool = await connection.fetchval(_ANY_BLOCKED, collection_id)
    return found


async def forget(connection: Connection, collection_id: UUID) -> None:
    await connection.execute(_FORGET, collection_id)
