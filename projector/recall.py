"""recall@10 of a generation's index: what it finds near stored vectors, against what is nearest."""

from __future__ import annotations

from math import ceil, sqrt

from events_schema.collections import Metric
from projector.generations import Generation, Shape
from projector.settings import ProjectorSettings
from shared.postgres import Connection
from shared.read_model.tables import DISTANCE_OPERATORS

K = 10
EF_SEARCH = 40
"""As searches have it by default; like them, it goes on where rows of the past take up the places."""

_DRAW = "SELECT embedding, {norm}(embedding) AS norm FROM {embeddings} ORDER BY random() LIMIT $1"

# Neighbours at the same distance are as good as one another, so distances are compared and not ids.
_NEAREST = """
SELECT embedding {operator} $1 AS distance FROM {embeddings} ORDER BY embedding {operator} $1 LIMIT $2
"""

_SETTINGS = """
SELECT set_config('hnsw.ef_search', $1, true), set_config('hnsw.iterative_scan', 'strict_order', true),
       set_config('ivfflat.probes', $2, true), set_config('ivfflat.iterative_scan', 'relaxed_order', true),
       set_config('enable_seqscan', $3, true), set_config('enable_indexscan', $4, true),
       set_config('plan_cache_mode', 'force_custom_plan', true)
"""

_NORMS = {"vector": "vector_norm", "halfvec": "l2_norm"}

_ROUNDING = {"vector": 2.0**-24, "halfvec": 2.0**-11}
"""By how much of itself a number may be rounded."""

_DEVIATIONS = 4.0


async def recall_at_10(
    connection: Connection, generation: Generation, settings: ProjectorSettings, queries: int
) -> float | None:
    """Between 0 and 1, over so many vectors drawn at random; None where there is no index, or nothing to be found."""
    if not generation.indexed or generation.shape.index.kind == "none":
        return None
    timeout = settings.index_timeout_seconds
    embeddings, operator = generation.embeddings, DISTANCE_OPERATORS[generation.shape.metric]
    draw = _DRAW.format(embeddings=embeddings, norm=_NORMS[generation.shape.type])
    drawn = await connection.fetch(draw, queries, timeout=timeout)
    statement = _NEAREST.format(embeddings=embeddings, operator=operator)
    wanted = found = 0
    for row in drawn:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            await _set(connection, generation, with_index=False)
            exact = await connection.fetch(statement, row["embedding"], K, timeout=timeout)
            await _set(connection, generation, with_index=True)
            indexed = await connection.fetch(statement, row["embedding"], K, timeout=timeout)
        limit = exact[-1]["distance"] + indistinguishable(generation.shape, row["norm"])
        wanted += len(exact)
        found += sum(one["distance"] <= limit for one in indexed)
    return found / wanted if wanted else None


def indistinguishable(shape: Shape, norm: float) -> float:
    """How far apart distances from an embedding of this norm may be and still be the same for what its numbers say.

    An index over cosine holds embeddings of length 1, rounded to the type once more, and every sum is one of single
    precision. Errors of `dimension` numbers mostly cancel each other: of products that make up a whole, 1 / sqrt(d) of
    one is left; of sums, sqrt(d) of one comes together.
    """
    root = sqrt(shape.spec.dimension)
    deviation = _ROUNDING[shape.type] / root + _ROUNDING["vector"] * root
    scales: dict[Metric, float] = {"cosine": 1.0, "l2": norm, "ip": norm * norm}
    return _DEVIATIONS * deviation * scales[shape.metric]


async def _set(connection: Connection, generation: Generation, *, with_index: bool) -> None:
    await connection.execute(
        _SETTINGS,
        str(EF_SEARCH),
        str(ceil(sqrt(generation.lists or 1))),
        "off" if with_index else "on",
        "on" if with_index else "off",
    )
