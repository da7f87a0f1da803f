"""The same question put to the index itself: forced in Postgres, and EXPLAIN has to name it."""

from __future__ import annotations

from uuid import UUID

import asyncpg
import numpy as np
from pgvector.asyncpg import register_vector

from events_schema.embedding import Float32Array
from shared.read_model.tables import embeddings_table

K = 10
_GENERATION = "SELECT generation FROM collection_state WHERE collection_id = $1"


class IndexNotUsedError(Exception):
    """The planner did not take the HNSW index although everything else was forbidden."""


async def forced_overlap_at_10(dsn: str, collection_id: UUID, queries: Float32Array) -> float:
    """
    Raises:
        IndexNotUsedError: EXPLAIN shows another plan.
    """
    connection = await asyncpg.connect(dsn)
    try:
        await register_vector(connection)
        generation = await connection.fetchval(_GENERATION, collection_id)
        nearest = f"SELECT id FROM {embeddings_table(collection_id, generation)} ORDER BY embedding <=> $1 LIMIT {K}"
        shares = []
        for query in queries:
            found = await _ids(connection, nearest, query, through_index=True)
            exact = await _ids(connection, nearest, query, through_index=False)
            shares.append(len(found & exact) / K)
        return round(float(np.mean(shares)), 4)
    finally:
        await connection.close()


async def _ids(
    connection: asyncpg.Connection[asyncpg.Record], nearest: str, query: Float32Array, *, through_index: bool
) -> set[str]:
    forbidden = ("enable_seqscan", "enable_sort") if through_index else ("enable_indexscan",)
    async with connection.transaction():
        for setting in forbidden:
            await connection.execute(f"SET LOCAL {setting} = off")
        plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {nearest}", query))
        # Only an index that is ordered by distance has this line: the nearest come out of it, nothing is sorted.
        if ("Order By: (embedding <=> " in plan) != through_index:
            raise IndexNotUsedError(plan)
        return {row["id"] for row in await connection.fetch(nearest, query)}
