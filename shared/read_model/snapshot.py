"""How far the read model had come in the snapshot that a statement read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

import asyncpg
from asyncpg.transaction import Transaction

from shared.postgres import Connection
from shared.read_model.tables import PROJECTION

CHECKPOINTS = f"""
SELECT coalesce(min(position), 0) AS low, coalesce(max(position), 0) AS high, (array_agg(log_id))[1] AS log_id
FROM projection_checkpoints WHERE projection = '{PROJECTION}'
"""  # noqa: S608
"""One row, also when there are no checkpoints yet."""

FoundT = TypeVar("FoundT")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All events up to `low` are in it, and none beyond `high`. No log_id: nothing was ever projected."""

    low: int
    high: int
    log_id: UUID | None


@dataclass(frozen=True, slots=True)
class Reading(Generic[FoundT]):
    """What one statement found, and in which snapshot. `valid_until`: when the first of what was found expires; None:
    never, as far as it goes."""

    snapshot: Snapshot
    found: FoundT
    valid_until: datetime | None = None


def one_snapshot(connection: Connection) -> Transaction:
    """A transaction whose statements all read the same snapshot, also on a replica."""
    return connection.transaction(isolation="repeatable_read", readonly=True)


async def read_snapshot(connection: Connection) -> Snapshot:
    """Of this moment, or of the transaction."""
    return snapshot_of(await connection.fetchrow(CHECKPOINTS))


def snapshot_of(row: asyncpg.Record | Any) -> Snapshot:
    return Snapshot(row["low"], row["high"], row["log_id"])
