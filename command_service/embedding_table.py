"""L3: a table of the event database that remembers which embedding a content has.

A cache like the others: what cannot be read or written there is computed, and the write goes on. What was not used for
`max_age` is forgotten, and beyond `max_rows` what was not used for longest; both once an hour.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

import asyncpg
import numpy as np
import structlog

from events_schema.embedding import FLOAT32_LE
from shared.embedding.caches import Scope
from shared.embedding.texts import TextEmbedding
from shared.postgres import CONNECTION_LOST, Pool

_HOUSEKEEPING_SECONDS = 3600.0
_TIMEOUT_SECONDS = 2.0
_HOUSEKEEPING_TIMEOUT_SECONDS = 60.0
_DELETED_AT_ONCE = 10_000

_FIND = """
SELECT content_hash, embedding, truncated, used_at < clock_timestamp() - interval '1 day' AS is_stale
FROM text_embeddings WHERE tenant = $1 AND spec = $2 AND content_hash = ANY($3::bytea[])
"""

# At most once a day for a row: reading must not become writing.
_TOUCH = """
UPDATE text_embeddings t SET used_at = clock_timestamp() FROM (
    SELECT content_hash FROM text_embeddings
    WHERE tenant = $1 AND spec = $2 AND content_hash = ANY($3::bytea[]) FOR UPDATE SKIP LOCKED) found
WHERE t.tenant = $1 AND t.spec = $2 AND t.content_hash = found.content_hash
"""

# In the order of the hashes, so that two processes that keep the same texts wait for each other in one order.
_KEEP = """
INSERT INTO text_embeddings (tenant, spec, content_hash, embedding, truncated)
SELECT $1, $2, * FROM unnest($3::bytea[], $4::bytea[], $5::boolean[]) AS kept(content_hash, embedding, truncated)
ORDER BY content_hash
ON CONFLICT DO NOTHING
"""

_FORGET = """
DELETE FROM text_embeddings WHERE (tenant, spec, content_hash) IN (
    (SELECT tenant, spec, content_hash FROM text_embeddings
     WHERE used_at < clock_timestamp() - $1::interval LIMIT $3)
    UNION ALL
    (SELECT tenant, spec, content_hash FROM text_embeddings ORDER BY used_at DESC OFFSET $2 LIMIT $3))
"""

_UNUSABLE = (asyncpg.PostgresError, *CONNECTION_LOST)

_log = structlog.get_logger("embedding_table")


class EmbeddingTable:
    """`pool` gives the event database's pool, once it is there."""

    name = "l3"

    def __init__(self, pool: Callable[[], Pool], *, max_age: timedelta, max_rows: int) -> None:
        self._pool = pool
        self._max_age = max_age
        self._max_rows = max_rows

    async def find(self, scope: Scope, digests: Sequence[bytes]) -> dict[bytes, TextEmbedding]:
        if not digests:
            return {}
        try:
            async with self._pool().acquire(timeout=_TIMEOUT_SECONDS) as connection:
                rows = await connection.fetch(
                    _FIND, scope.tenant, scope.spec_text, list(digests), timeout=_TIMEOUT_SECONDS
                )
                stale = [row["content_hash"] for row in rows if row["is_stale"]]
                if stale:
                    await connection.execute(_TOUCH, scope.tenant, scope.spec_text, stale, timeout=_TIMEOUT_SECONDS)
        except _UNUSABLE as error:
            _log.warning("known embeddings cannot be looked up; texts are embedded again", error=repr(error))
            return {}
        size = scope.spec.dimension * FLOAT32_LE.itemsize
        return {
            row["content_hash"]: TextEmbedding(np.frombuffer(row["embedding"], dtype=FLOAT32_LE), row["truncated"])
            for row in rows
            if len(row["embedding"]) == size
        }

    async def keep(self, scope: Scope, found: Mapping[bytes, TextEmbedding]) -> None:
        if not found:
            return
        embeddings = [one.numbers.astype(FLOAT32_LE).tobytes() for one in found.values()]
        truncated = [one.truncated for one in found.values()]
        try:
            async with self._pool().acquire(timeout=_TIMEOUT_SECONDS) as connection:
                await connection.execute(
                    _KEEP, scope.tenant, scope.spec_text, list(found), embeddings, truncated, timeout=_TIMEOUT_SECONDS
                )
        except _UNUSABLE as error:
            _log.warning("embeddings are not remembered for now", error=repr(error))

    async def forget(self) -> int:
        """Removes what is too old or too much; says how many rows."""
        removed = 0
        while True:
            async with self._pool().acquire(timeout=_TIMEOUT_SECONDS) as connection:
                status = await connection.execute(
                    _FORGET, self._max_age, self._max_rows, _DELETED_AT_ONCE, timeout=_HOUSEKEEPING_TIMEOUT_SECONDS
                )
            at_once = int(status.rsplit(" ", 1)[-1])
            removed += at_once
            if at_once < _DELETED_AT_ONCE:
                return removed

    async def keep_house(self) -> None:
        while True:
            await asyncio.sleep(_HOUSEKEEPING_SECONDS)
            try:
                await self.forget()
            except _UNUSABLE as error:
                _log.warning("old embeddings could not be removed; tried again in an hour", error=repr(error))
