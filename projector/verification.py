"""Whether a generation's rows are what the log makes of them, as of one position.

The log is folded into what is expected (`expected_rows`) as far as the projection has come; then, in one snapshot of
the read database, what was projected meanwhile is folded too, and both sides are compared set-wise. So writes may go
on: both sides are of exactly the same position. It is one for each partition, as the projection's is.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from events_schema.base import RecordedEvent
from events_schema.streams import vector_stream
from projector.checkpoints import read_positions
from projector.errors import POISON, GenerationGoneError, VerificationFailedError
from projector.event_log import EventLog
from projector.expected_rows import (
    CONTENT,
    EMBEDDING,
    METADATA,
    analyze_expected_rows,
    expect,
    open_expected_rows,
)
from projector.folding import between
from projector.generations import Generation, GenerationState, read_generations
from projector.parking import without_parked
from projector.settings import ProjectorSettings
from shared.kafka.partitions import partitions_of
from shared.postgres import Connection
from shared.read_model.tables import row_key

Kind = Literal[
    "missing", "extra", "old_version", "version", "content", "metadata", "unembedded", "embedding", "timestamps"
]
"""How a vector differs; if in several ways, the first of these. `unembedded`: it has no embedding under the
generation's spec, be it that the table lacks it or the log."""

MAX_EXAMPLES = 20

_FOLDED_IN_SNAPSHOT = 5_000
"""So many events may be missing when the snapshot is taken, which keeps the database from cleaning up."""

_MAX_ROUNDS = 100
_MAX_RESTARTS = 5
_STREAMS_AT_ONCE = 100

_REVISION = "SELECT revision FROM collection_state WHERE collection_id = $1"

_CREATE_SAMPLE = """
CREATE TEMPORARY TABLE sampled_rows (id text COLLATE "C" PRIMARY KEY)
"""

_DROP_TABLES = "DROP TABLE IF EXISTS pg_temp.sampled_rows, pg_temp.differing_rows"

_CREATE_DIFFERING = """
CREATE TEMPORARY TABLE differing_rows (id text COLLATE "C" PRIMARY KEY, kind text NOT NULL)
"""

_SAMPLE = """
INSERT INTO pg_temp.sampled_rows SELECT id FROM (
    (SELECT id FROM {records} ORDER BY random() LIMIT $1) UNION (SELECT unnest($2::text[]))
) AS chosen ON CONFLICT DO NOTHING
RETURNING id
"""

_IN_SAMPLE = "WHERE id IN (SELECT id FROM pg_temp.sampled_rows)"

# A vector without a record is missing, also if its embedding is there. Divided by month, both lie in the month of its
# creation; one that lies in two of them is counted twice, and differs in one.
_COMPARE = f"""
WITH stored AS MATERIALIZED (
    SELECT coalesce(r.id, e.id) AS id, r.id IS NULL AS torn, r.version, r.position, r.created_at,
           r.updated_at, r.expires_at, {CONTENT.format(content="r.content")} AS content,
           {METADATA.format(metadata="r.metadata")} AS metadata,
           {EMBEDDING.format(type="{type}", embedding="e.embedding")} AS embedding
    FROM (SELECT * FROM {{records}} {{sampled}}) r
    FULL JOIN (SELECT * FROM {{embeddings}} {{sampled}}) e USING ({{key}})
), judged AS (
    SELECT coalesce(x.id, s.id) AS id, CASE
        WHEN x.id IS NULL THEN 'extra'
        WHEN s.id IS NULL OR s.torn THEN 'missing'
        WHEN s.version < x.version THEN 'old_version'
        WHEN s.version <> x.version OR s.position <> x.position THEN 'version'
        WHEN s.content IS DISTINCT FROM x.content THEN 'content'
        WHEN s.metadata <> x.metadata THEN 'metadata'
        WHEN s.embedding IS NULL THEN 'unembedded'
        WHEN s.embedding IS DISTINCT FROM x.embedding THEN 'embedding'
        WHEN s.created_at <> x.created_at OR s.updated_at <> x.updated_at
          OR s.expires_at IS DISTINCT FROM x.expires_at THEN 'timestamps'
    END AS kind, s.id IS NOT NULL AS is_stored, x.id IS NOT NULL AS is_expected,
    hashtextextended(concat_ws(' ', s.id, s.version, s.position, s.content, s.metadata, s.embedding, s.expires_at), 0)
        AS stored_sum,
    hashtextextended(concat_ws(' ', x.id, x.version, x.position, x.content, x.metadata, x.embedding, x.expires_at), 0)
        AS expected_sum
    FROM stored s FULL JOIN pg_temp.expected_rows x ON x.id = s.id
), noted AS (
    INSERT INTO pg_temp.differing_rows SELECT id, kind FROM judged WHERE kind IS NOT NULL ORDER BY id, kind
    ON CONFLICT DO NOTHING
)
SELECT count(*) FILTER (WHERE is_stored) AS stored, count(*) FILTER (WHERE is_expected) AS expected,
       coalesce(bit_xor(stored_sum) FILTER (WHERE is_stored), 0) AS stored_sum,
       coalesce(bit_xor(expected_sum) FILTER (WHERE is_expected), 0) AS expected_sum
FROM judged
"""  # noqa: S608

_COUNT_STORED = "SELECT count(*) FROM {records}"

_COUNT_KINDS = "SELECT kind, count(*) AS count FROM pg_temp.differing_rows GROUP BY kind ORDER BY kind"

_EXAMPLES = "SELECT id, kind FROM pg_temp.differing_rows ORDER BY id LIMIT $1"

_PARKED_BALANCE = """
SELECT aggregate_id, position, event_type FROM parked_events
WHERE collection_id = $1 AND event_type IN ('VectorCreated', 'VectorDeleted')
"""


@dataclass(frozen=True, slots=True)
class Compared:
    """A generation against the log, up to `position` (of the partition that is least far). With a sample, `vectors` and
    `expected_vectors` are still of all, the checksums of the sample. `differing`: how many vectors, by kind. `skipped`:
    how many events of the collection the projection passes over."""

    generation: int
    state: GenerationState
    position: int
    vectors: int
    expected_vectors: int
    sampled: int | None
    checksum: str
    expected_checksum: str
    skipped: int
    differing: dict[str, int] = field(default_factory=dict)
    examples: tuple[tuple[str, str], ...] = ()

    @property
    def is_same(self) -> bool:
        return not self.differing and self.vectors == self.expected_vectors

    def as_json(self) -> dict[str, Any]:
        return {
            "generation": self.generation,
            "state": self.state,
            "position": self.position,
            "vectors": self.vectors,
            "expected_vectors": self.expected_vectors,
            "sampled": self.sampled,
            "checksum": self.checksum,
            "expected_checksum": self.expected_checksum,
            "skipped": self.skipped,
            "differing": self.differing,
            "examples": [{"id": vector_id, "kind": kind} for vector_id, kind in self.examples],
        }


@dataclass(frozen=True, slots=True)
class Verification:
    """`connection` is a session of its own to the read database itself, with pgvector's codecs; `report` is told of the
    position that is folded, and the one that is aimed at. `sample`: so many vectors of either side are compared, and
    all are counted; None: every one is compared."""

    connection: Connection
    log: EventLog
    settings: ProjectorSettings
    sample: int | None = None
    report: Callable[[int, int], None] = lambda _position, _target: None


class _ChangedMeanwhileError(Exception):
    """Another generation is active, or what was parked is not any more: what was folded so far may be wrong."""


async def compare(verification: Verification, collection_id: UUID, number: int) -> Compared:
    """What differs is in the session's table `differing_rows` (id, kind) until the next comparison.

    Raises:
        GenerationGoneError
        VerificationFailedError: the collection was changed all the time, or the log itself cannot be folded.
    """
    for _ in range(_MAX_RESTARTS):
        try:
            if verification.sample is None:
                return await _compare_all(verification, collection_id, number)
            return await _compare_sample(verification, collection_id, number, verification.sample)
        except _ChangedMeanwhileError:
            continue
    raise VerificationFailedError("the collection's tables were exchanged again and again meanwhile")


@dataclass(frozen=True, slots=True)
class _Moment:
    """Where the generation stood, in one snapshot."""

    generation: Generation
    positions: tuple[int, ...]
    revision: UUID


async def _moment(connection: Connection, collection_id: UUID, number: int) -> _Moment:
    for generation in await read_generations(connection, collection_id):
        if generation.number == number and generation.state != "stale":
            break
    else:
        raise GenerationGoneError(collection_id, number)
    positions = generation.checkpoints
    if generation.state in {"active", "kept"}:
        projected = await read_positions(connection)
        positions = tuple(projected.get(partition, 0) for partition in range(max(1, len(projected))))
    return _Moment(generation, positions, await connection.fetchval(_REVISION, collection_id))


def _expect_the_same(before: _Moment, now: _Moment) -> None:
    if (before.revision, len(before.positions)) != (now.revision, len(now.positions)):
        raise _ChangedMeanwhileError


async def _compare_all(verification: Verification, collection_id: UUID, number: int) -> Compared:
    connection = verification.connection
    await open_expected_rows(connection)
    began = await _moment(connection, collection_id, number)
    reached = (0,) * len(began.positions)
    target = began.positions
    for _ in range(_MAX_ROUNDS):
        reached = await _expect_up_to(verification, began.generation, reached, target)
        await analyze_expected_rows(connection)
        async with connection.transaction(isolation="repeatable_read"):
            now = await _moment(connection, collection_id, number)
            _expect_the_same(began, now)
            left = await verification.log.count_collection(
                collection_id, min(reached), max(now.positions), _FOLDED_IN_SNAPSHOT + 1
            )
            if left <= _FOLDED_IN_SNAPSHOT:
                await _expect_up_to(verification, began.generation, reached, now.positions)
                return await _compared(verification, now, None, None)
        target = now.positions
    raise VerificationFailedError("more is written than can be compared")


async def _expect_up_to(
    verification: Verification, generation: Generation, reached: Sequence[int], targets: Sequence[int]
) -> tuple[int, ...]:
    at = tuple(reached)
    while behind := [(one, to) for one, to in zip(at, targets, strict=True) if one < to]:
        first, last = min(one for one, _ in behind), max(to for _, to in behind)
        events = await verification.log.read_collection(
            generation.collection_id, first, last, verification.settings.batch_max_events
        )
        to = events[-1].position if events else last
        await _expect(verification, generation, between(events, at, targets))
        at = tuple(max(one, min(target, to)) for one, target in zip(at, targets, strict=True))
        verification.report(min(at), min(targets))
    return at


async def _expect(verification: Verification, generation: Generation, events: Sequence[RecordedEvent]) -> list[str]:
    applied = await without_parked(verification.connection, verification.log, events)
    try:
        return list(await expect(verification.connection, generation, applied, verification.log))
    except POISON as error:
        first, last = applied[0].position, applied[-1].position
        raise VerificationFailedError(
            f"the events from {first:,} to {last:,} cannot be folded: {type(error).__name__}: {error}"
        ) from error


async def _compared(verification: Verification, now: _Moment, sampled: int | None, expected: int | None) -> Compared:
    """Of a sample, `expected` are the vectors that there should be in all."""
    connection, generation = verification.connection, now.generation
    timeout = verification.settings.index_timeout_seconds
    if sampled is None:
        await connection.execute(_DROP_TABLES)
    await connection.execute(_CREATE_DIFFERING)
    row = await connection.fetchrow(
        _COMPARE.format(
            records=generation.records,
            embeddings=generation.embeddings,
            type=generation.shape.type,
            sampled="" if sampled is None else _IN_SAMPLE,
            key=", ".join(row_key(month_partitions=generation.shape.month_partitions)),
        ),
        timeout=timeout,
    )
    assert row is not None
    stored: int = row["stored"]
    if sampled is not None:
        stored = await connection.fetchval(_COUNT_STORED.format(records=generation.records), timeout=timeout)
    return Compared(
        generation.number,
        generation.state,
        min(now.positions),
        stored,
        row["expected"] if expected is None else expected,
        sampled,
        _hexadecimal(row["stored_sum"]),
        _hexadecimal(row["expected_sum"]),
        len((await verification.log.skips()).of_collection(generation.collection_id)),
        {one["kind"]: one["count"] for one in await connection.fetch(_COUNT_KINDS)},
        tuple((one["id"], one["kind"]) for one in await connection.fetch(_EXAMPLES, MAX_EXAMPLES)),
    )


def _hexadecimal(checksum: int) -> str:
    return f"{checksum & 0xFFFFFFFFFFFFFFFF:016x}"


async def _compare_sample(verification: Verification, collection_id: UUID, number: int, size: int) -> Compared:
    """Vectors of the log's choosing show what is missing, those of the tables' what should not be there."""
    connection, log = verification.connection, verification.log
    await open_expected_rows(connection)
    async with connection.transaction(isolation="repeatable_read"):
        now = await _moment(connection, collection_id, number)
        drawn = [random.randint(0, max(now.positions)) for _ in range(size)]  # noqa: S311
        from_log = await log.near(collection_id, drawn)
        ids = await _expect_streams(verification, now, from_log)
        await connection.execute(_DROP_TABLES)
        await connection.execute(_CREATE_SAMPLE)
        rows = await connection.fetch(
            _SAMPLE.format(records=now.generation.records), size, ids,
            timeout=verification.settings.index_timeout_seconds,
        )  # fmt: skip
        known = set(from_log)
        others = [stream for row in rows if (stream := vector_stream(collection_id, row["id"])) not in known]
        await _expect_streams(verification, now, others)
        expected = await _count_expected(verification, now)
        return await _compared(verification, now, len(rows), expected)


async def _expect_streams(verification: Verification, now: _Moment, streams: Sequence[UUID]) -> list[str]:
    """Folds these vectors up to where the generation stands; the ids of all that there are."""
    ids: set[str] = set()
    beginning = (0,) * len(now.positions)
    for start in range(0, len(streams), _STREAMS_AT_ONCE):
        together, after = streams[start : start + _STREAMS_AT_ONCE], 0
        while events := await verification.log.streams(together, after, verification.settings.batch_max_events):
            within = between(events, beginning, now.positions)
            ids.update(await _expect(verification, now.generation, within))
            after = events[-1].position
    return sorted(ids)


async def _count_expected(verification: Verification, now: _Moment) -> int:
    """Every VectorCreated is of a vector that was not there, and every VectorDeleted of one that was."""
    log, collection_id = verification.log, now.generation.collection_id
    low, high = min(now.positions), max(now.positions)
    extent = await log.extent(collection_id, low, verification.settings.index_timeout_seconds)
    count, reached = extent.vectors, tuple(low for _ in now.positions)
    while low < high:
        events = await log.read_collection(collection_id, low, high, verification.settings.batch_max_events)
        if not events:
            break
        count += sum(_change(event.event_type) for event in between(events, reached, now.positions))
        low = events[-1].position
    parked = await verification.connection.fetch(_PARKED_BALANCE, collection_id)
    left_out = {row["position"]: (row["aggregate_id"], row["event_type"]) for row in parked}
    for skip in (await log.skips()).of_collection(collection_id):
        left_out[skip.position] = (skip.aggregate_id, skip.event_type)
    partitions = partitions_of([aggregate_id for aggregate_id, _ in left_out.values()], len(now.positions))
    return count - sum(
        _change(event_type)
        for (position, (_, event_type)), partition in zip(left_out.items(), partitions, strict=True)
        if position <= now.positions[partition]
    )


def _change(event_type: str) -> int:
    return {"VectorCreated": 1, "VectorDeleted": -1}.get(event_type, 0)
