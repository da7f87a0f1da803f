"""Gives a generation's tables the typed indexes over metadata that its collection declares, and takes the others away.

Beside searches and writes, outside of transactions. It may be cut off at any statement: done again, it goes on from
there, and what a build left that was cut off is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import asyncpg
import structlog

from events_schema.collections import MetadataIndexSpec
from projector.checkpoints import Checkpoint, between_batches
from projector.generations import Generation, expect_state, lock_generation, renew_revision
from projector.metadata_indexes import (
    IndexState,
    declared_indexes,
    forget_index,
    index_states,
    set_index_state,
)
from projector.partitions import partitions_of_table
from projector.settings import ProjectorSettings
from shared.postgres import CONNECTION_LOST, Connection
from shared.read_model.index_states import read_ready
from shared.read_model.metadata_indexes import MetadataIndex, index_of

_IS_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)"

_DROP = "DROP INDEX CONCURRENTLY IF EXISTS {name}"

# What the planner knows of an index's values decides whether it is used.
_ANALYZE = "ANALYZE {records}"

_log = structlog.get_logger("metadata_indexing")


class MetadataIndexFailedError(Exception):
    """The index cannot be made for now. What there is of it is gone, and nothing else has changed."""

    def __init__(self, table: str, spec: MetadataIndexSpec, reason: str) -> None:
        super().__init__(f"the index over {spec.field!r} of {table}: {reason}")
        self.reason = reason


async def index_metadata(connection: Connection, generation: Generation, settings: ProjectorSettings) -> None:
    """Of one that is written to. `connection` is a session of its own, outside any transaction.

    Raises:
        GenerationGoneError: the generation is neither active nor kept any more.
        MetadataIndexFailedError: one cannot be made; the state of the index says why.
    """
    declared = await declared_indexes(connection, generation.collection_id)
    there = await index_states(connection, generation)
    for spec in there:
        if spec not in declared:
            await _take_away(connection, generation, spec, settings)
    for spec in declared:
        if there.get(spec) != "ready":
            await _make(connection, generation, spec, settings)


async def index_metadata_of_new(connection: Connection, generation: Generation, settings: ProjectorSettings) -> None:
    """Of a generation that is being made, which nobody else reads or writes.

    Raises:
        asyncpg.PostgresError: one cannot be made.
    """
    for spec in await declared_indexes(connection, generation.collection_id):
        for table in await _tables(connection, generation):
            await _make_over(connection, table, index_of(spec), settings, concurrently=False)
        await set_index_state(connection, generation, spec, "ready")


async def names_of_ready_indexes(connection: Connection, generation: Generation) -> list[str]:
    """Over its table, or over each of its partitions."""
    ready = await read_ready(connection, generation.collection_id, generation.number)
    return [index.name(table) for table in await _tables(connection, generation) for index in ready.values()]


async def _make(
    connection: Connection, generation: Generation, spec: MetadataIndexSpec, settings: ProjectorSettings
) -> None:
    await set_index_state(connection, generation, spec, "building")
    while True:
        tables = await _tables(connection, generation)
        for table in tables:
            try:
                await _make_over(connection, table, index_of(spec), settings, concurrently=True)
            except (*CONNECTION_LOST, asyncpg.UndefinedTableError):
                raise
            except asyncpg.PostgresError as error:
                reason = f"{type(error).__name__}: {error}"
                await _drop_if_cut_off(connection, index_of(spec).name(table), settings)
                await set_index_state(connection, generation, spec, "failed", reason)
                raise MetadataIndexFailedError(table, spec, reason) from error
        await connection.execute(_ANALYZE.format(records=generation.records), timeout=settings.index_timeout_seconds)
        if await between_batches(connection, partial(_announce, connection, generation, spec, tables)):
            break
    _log.info("indexed", table=generation.records, field=spec.field, type=spec.type)


async def _announce(
    connection: Connection,
    generation: Generation,
    spec: MetadataIndexSpec,
    tables: Sequence[str],
    checkpoints: Sequence[Checkpoint],
) -> bool:
    """Not, if a partition has come meanwhile that has no index."""
    if tables != await _tables(connection, generation):
        return False
    await _tell(connection, generation, spec, "ready", checkpoints)
    return True


async def _take_away(
    connection: Connection, generation: Generation, spec: MetadataIndexSpec, settings: ProjectorSettings
) -> None:
    """Readers are told first: a filter that is written for an index is slow without it."""
    await between_batches(connection, partial(_tell, connection, generation, spec, "dropping"))
    for table in await _tables(connection, generation):
        await _drop(connection, index_of(spec).name(table), settings)
    await forget_index(connection, generation, spec)
    _log.info("dropped an index", table=generation.records, field=spec.field, type=spec.type)


async def _tell(
    connection: Connection,
    generation: Generation,
    spec: MetadataIndexSpec,
    state: IndexState,
    checkpoints: Sequence[Checkpoint],
) -> None:
    found = await lock_generation(connection, generation.collection_id, generation.number)
    expect_state(found, "active", "kept")
    await set_index_state(connection, generation, spec, state)
    if found.state == "active":
        await renew_revision(connection, found, checkpoints)


async def _make_over(
    connection: Connection, table: str, index: MetadataIndex, settings: ProjectorSettings, *, concurrently: bool
) -> None:
    if await _drop_if_cut_off(connection, index.name(table), settings):
        return
    await connection.execute(index.statement(table, concurrently=concurrently), timeout=settings.index_timeout_seconds)


async def _drop_if_cut_off(connection: Connection, name: str, settings: ProjectorSettings) -> bool:
    """Whether the index is there, whole. A build that was cut off leaves one that every write keeps up and no search
    may use."""
    is_valid: bool | None = await connection.fetchval(_IS_VALID, name)
    if is_valid is False:
        await _drop(connection, name, settings)
    return bool(is_valid)


async def _drop(connection: Connection, name: str, settings: ProjectorSettings) -> None:
    await connection.execute(_DROP.format(name=name), timeout=settings.index_timeout_seconds)


async def _tables(connection: Connection, generation: Generation) -> list[str]:
    if generation.shape.month_partitions:
        return await partitions_of_table(connection, generation.records)
    return [generation.records]
