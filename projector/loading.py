"""Vectors that are new to a generation are copied into its tables, the others written by id.

Which are new, the log says: a vector's first event is of version 1. Their rows are put together in PostgreSQL's binary
format before anything is sent, the embeddings' as whole arrays: rows whose ids have the same number of bytes are one
array of records.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import numpy as np

from events_schema.embedding import Float32Array, decode_many
from projector.generations import Generation
from projector.vectors import GREATEST_HALF, VectorEffect, as_json_text, make_partitions_for, write_vectors
from shared.postgres import Connection

_RECORDS = ("id", "content", "metadata", "created_at", "updated_at", "version", "position", "expires_at")

# The file format of COPY BINARY: a signature, no flags, no extension; and a field count that none has at the end.
_HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_TRAILER = b"\xff\xff"

_ELEMENT = {"vector": ">f4", "halfvec": ">f2"}
_POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Load:
    """What events make of vectors, ready to be written. `records` and `embeddings` are the rows of the new ones, the
    latter as the parts of a binary file of COPY; `created`: when they were created. `others`: all other effects, by
    id."""

    records: Sequence[tuple[Any, ...]]
    embeddings: Sequence[bytes]
    created: Sequence[datetime]
    others: Mapping[str, VectorEffect]

    @property
    def ids(self) -> list[str]:
        """Of all vectors that it changes."""
        return [*(record[0] for record in self.records), *self.others]


def prepare(generation: Generation, effects: Mapping[str, VectorEffect], *, by_id: bool = False) -> Load:
    """`by_id`: none is taken for new.

    Raises:
        ValueError: an embedding cannot be decoded.
    """
    new = {} if by_id else {vector_id: effect for vector_id, effect in effects.items() if effect.is_new}
    created = [effect.created_at for effect in new.values() if effect.created_at is not None]
    embedded = {vector_id: effect for vector_id, effect in new.items() if effect.embedding is not None}
    data = [effect.embedding for effect in embedded.values() if effect.embedding is not None]
    matrix = decode_many(data, generation.shape.spec.dimension)
    dates = [effect.created_at for effect in embedded.values() if effect.created_at is not None]
    return Load(
        [_record(vector_id, effect) for vector_id, effect in new.items()],
        _embedding_rows(generation, [vector_id.encode() for vector_id in embedded], matrix, dates),
        created,
        {vector_id: effect for vector_id, effect in effects.items() if vector_id not in new},
    )


async def write_load(connection: Connection, generation: Generation, load: Load) -> None:
    """In the caller's transaction. Numbers beyond what the generation's type holds are taken for the greatest that it
    holds.

    Raises:
        One of `POISON`: an event is at fault, or a vector is not new after all.
    """
    if load.records:
        if generation.shape.month_partitions:
            await make_partitions_for(connection, generation, load.created)
        await connection.copy_records_to_table(generation.records, columns=_RECORDS, records=load.records)
        await connection.copy_to_table(
            generation.embeddings, source=_sent(load.embeddings), columns=_columns(generation), format="binary"
        )
    if load.others:
        narrowed = replace(generation, narrowed=generation.shape.type == "halfvec")
        await write_vectors(connection, narrowed, load.others)


async def _sent(parts: Sequence[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def _columns(generation: Generation) -> tuple[str, ...]:
    return ("id", "embedding", "created_at") if generation.shape.month_partitions else ("id", "embedding")


def _record(vector_id: str, effect: VectorEffect) -> tuple[Any, ...]:
    """In the order of `_RECORDS`."""
    return (
        vector_id,
        effect.content,
        as_json_text(effect.metadata),
        effect.created_at,
        effect.updated_at,
        effect.version,
        effect.position,
        effect.expires_at,
    )


def _embedding_rows(
    generation: Generation, ids: Sequence[bytes], matrix: Float32Array, created: Sequence[datetime]
) -> list[bytes]:
    """Each row is the number of its fields, and of each field its size and its bytes. Those of an embedding are, as
    pgvector has them: its dimension, two bytes that are not used, its elements."""
    parts = [_HEADER]
    element = np.dtype(_ELEMENT[generation.shape.type])
    if generation.shape.type == "halfvec":
        matrix = np.clip(matrix, -GREATEST_HALF, GREATEST_HALF)
    by_length = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    for length, group in groupby(by_length, key=lambda row: len(ids[row])):
        rows = list(group)
        fields: list[Any] = [
            ("fields", ">i2"), ("id_size", ">i4"), ("id", "u1", (length,)),
            ("size", ">i4"), ("dimension", ">i2"), ("unused", ">i2"), ("elements", element, (matrix.shape[1],)),
        ]  # fmt: skip
        if generation.shape.month_partitions:
            fields += [("created_size", ">i4"), ("created_at", ">i8")]
        table = np.zeros(len(rows), dtype=fields)
        table["fields"] = len(_columns(generation))
        table["id_size"] = length
        table["id"] = np.frombuffer(b"".join(ids[row] for row in rows), dtype=np.uint8).reshape(len(rows), length)
        table["size"] = 4 + matrix.shape[1] * element.itemsize
        table["dimension"] = matrix.shape[1]
        table["elements"] = matrix[rows]
        if generation.shape.month_partitions:
            table["created_size"] = 8
            table["created_at"] = [(created[row] - _POSTGRES_EPOCH) // _MICROSECOND for row in rows]
        parts.append(table.tobytes())
    return [*parts, _TRAILER]
