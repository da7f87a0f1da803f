"""Whether every vector of a generation has an embedding.

Of a spec that its collection came to later, the first events of the vectors bring none: until they are embedded anew
they are rows of the one table without a row of the other. Searches may read that no sooner than none is left, but for
vectors of which an event since then is passed over: it may be the one that brought the embedding. Which these are shows
once the projection has come to where every vector has one.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from events_schema.embedding import EmbeddingSpec
from projector.errors import NotCaughtUpError, RebuildFailedError
from projector.event_log import EventLog
from projector.generations import Generation
from projector.spec_history import read_history
from shared.postgres import Connection
from shared.read_model.specs import specs_of

# What is beyond the spec's end is not due, and searched by the model that followed before anybody is promised it.
_LACKING = """
SELECT count(*) AS count, min(r.id) AS first FROM {records} r
WHERE ($1::bigint IS NULL OR r.position < $1) AND ($2::text[] IS NULL OR r.id = ANY($2))
  AND NOT EXISTS (SELECT FROM {embeddings} e WHERE e.id = r.id)
  AND r.id <> ALL($3::text[])
"""

_SPECS = "SELECT embedding_spec, specs FROM collections WHERE collection_id = $1"


async def expect_embedded(
    connection: Connection,
    generation: Generation,
    log: EventLog,
    timeout_seconds: float,
    ids: Sequence[str] | None = None,
) -> None:
    """Of all vectors, or of those with these ids. A collection's first spec asks nothing of the databases.

    Raises:
        RebuildFailedError: saying how many have none.
        NotCaughtUpError: some will have one when the projection has come to where all do.
    """
    shape = generation.shape
    if shape.spec_since == 0:
        return
    history = await read_history(log, generation.collection_id)
    left_at = history.left_at(shape.spec, shape.spec_since)

    async def lacking(but_for: Sequence[str]) -> asyncpg.Record:
        sql = _LACKING.format(records=generation.records, embeddings=generation.embeddings)
        row = await connection.fetchrow(sql, left_at, ids, but_for, timeout=timeout_seconds)
        assert row is not None
        return row

    if (await lacking(()))["count"] == 0:
        return
    completed = history.completed_at(shape.spec, shape.spec_since)
    if completed is None or min(generation.checkpoints) < completed:
        raise NotCaughtUpError(
            f"the projection has yet to come to {'the' if completed is None else f'position {completed:,}, the'} one "
            f"where every vector has an embedding of {named(shape.spec)}"
        )
    missed = await lacking(await _passed_over(log, generation))
    if missed["count"] == 0:
        return
    raise RebuildFailedError(
        f"{missed['count']:,} vectors have no embedding of {named(shape.spec)}, {missed['first']!r} the first of them: "
        "PATCH their content, or an embedding of that model, or delete them"
    )


async def _passed_over(log: EventLog, generation: Generation) -> list[str]:
    """The vectors of which an event since its spec is live is. What it says may be unknown to this software."""
    skips = (await log.skips()).of_collection(generation.collection_id)
    events = await log.at([skip.position for skip in skips if skip.position > generation.shape.spec_since])
    ids = {event.event_data.get("id") for event in events if event.aggregate_type == "vector"}
    return sorted(one for one in ids if isinstance(one, str))


async def expect_written(connection: Connection, generation: Generation) -> None:
    """Whether the collection's writes bring embeddings of the generation's spec.

    Raises:
        RebuildFailedError
    """
    row = await connection.fetchrow(_SPECS, generation.collection_id)
    shape = generation.shape
    if row is not None:
        live = specs_of(EmbeddingSpec.model_validate_json(row["embedding_spec"]), row["specs"]).find(shape.spec)
        if live is None or live.since != shape.spec_since:
            raise RebuildFailedError(
                f"generation {generation.number} is of {named(shape.spec)}, which the collection has left: it lacks "
                "what is written since"
            )


def named(spec: EmbeddingSpec) -> str:
    """What makes embeddings, within a sentence."""
    return f"{spec.provider}'s model {spec.model or 'without a name'} of {spec.dimension} dimensions"
