"""Brings the tables of collections to what they are to be, beside the projection. Several projectors may do so."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import assert_never
from uuid import UUID

import asyncpg
import structlog

from projector import rebuild
from projector.bulk_loads import index_unless_outrun, seconds_loading
from projector.checkpoints import Checkpoint, between_batches
from projector.claims import claimed
from projector.due import Discard, Due, IndexMetadata, Limits, MakeIndex, Nothing, Rename, Replace, decide, may_wait
from projector.errors import (
    CheckpointMismatchError,
    GenerationGoneError,
    LayoutChangedError,
    NoRoomError,
    NotCaughtUpError,
    RebuildFailedError,
    VerificationFailedError,
)
from projector.event_log import opened_event_log
from projector.facts import perhaps_due, read_facts
from projector.generations import (
    Generation,
    Shape,
    expect_state,
    lock_generation,
    note_reason,
    rename_shape,
    renew_revision,
)
from projector.metadata_indexing import MetadataIndexFailedError, index_metadata
from projector.rebuild import Replay
from projector.replay_session import expect_one_log, opened_beside
from projector.replays import CheckFailedError, Checks, check_against_log, expect_checked
from projector.settings import ProjectorSettings
from projector.skipping import see_through
from projector.skips import noted_positions
from projector.snapshots import drop_expired
from projector.verification import Verification
from shared.postgres import CONNECTION_LOST, Connection, Pool, PooledAddressError

_FIRST_RETRY_SECONDS = 5.0
_LAST_RETRY_SECONDS = 300.0

_TRIED_AGAIN = (
    CheckpointMismatchError,
    NotCaughtUpError,
    LayoutChangedError,
    PooledAddressError,
    asyncpg.PostgresError,
)

_NOT_APPLIED = "a change of a collection cannot be applied; searches go on as before"

_log = structlog.get_logger("upkeep")


class Upkeep:
    def __init__(self, settings: ProjectorSettings) -> None:
        self._settings = settings
        self._limits = Limits(settings.ivfflat_min_rows)
        self._pauses: dict[UUID, tuple[float, float]] = {}
        """Collections that something went wrong with: until when they are left alone, and how long that is."""
        self._look_again_seconds = settings.upkeep_interval_seconds
        self._due_since: dict[UUID, float] = {}
        """Since when an index has been due for a collection that may wait for the end of what comes."""

    async def run(self, read: Pool) -> None:
        """Until it is cancelled. What fails is tried again after a while."""
        while True:
            self._look_again_seconds = self._settings.upkeep_interval_seconds
            try:
                await _drop_expired(read)
                await self._see_skips_through(read)
                for collection_id in await self._due(read):
                    await self._work_on(read, collection_id)
            except (*CONNECTION_LOST, *_TRIED_AGAIN) as error:
                _log.warning("collections stay as they are for now", error=repr(error))
            except Exception:
                _log.exception("collections stay as they are for now")
            await asyncio.sleep(self._look_again_seconds)

    async def _see_skips_through(self, read: Pool) -> None:
        async with read.acquire() as connection:
            if not await noted_positions(connection, 1):
                return
        async with opened_beside(self._settings) as (own, log):
            await see_through(own, log)

    async def _due(self, read: Pool) -> list[UUID]:
        now = asyncio.get_running_loop().time()
        async with read.acquire() as connection:
            perhaps = await perhaps_due(connection)
            self._due_since = {one: since for one, since in self._due_since.items() if one in perhaps}
            return [
                collection_id
                for collection_id in perhaps
                if self._pauses.get(collection_id, (0.0, 0.0))[0] <= now
                and not isinstance(await self._decide(connection, collection_id), Nothing)
            ]

    async def _decide(self, connection: Connection, collection_id: UUID) -> Due:
        facts = await read_facts(connection, collection_id, self._settings)
        if facts is None:
            return Nothing()
        due = decide(facts, self._limits)
        if not may_wait(due, facts):
            self._due_since.pop(collection_id, None)
        elif await self._waits(connection, collection_id):
            return Nothing()
        return due

    async def _waits(self, connection: Connection, collection_id: UUID) -> bool:
        """Whether so much comes for the collection that an index would be in the way, or soon be outgrown."""
        async with opened_event_log(self._settings) as log:
            seconds = await seconds_loading(connection, log, collection_id, self._settings)
        may_wait_longer = self._may_wait_longer(collection_id)
        if not seconds:
            return False
        self._look_again_seconds = min(self._look_again_seconds, seconds)
        return may_wait_longer

    def _may_wait_longer(self, collection_id: UUID) -> bool:
        now = asyncio.get_running_loop().time()
        since = self._due_since.setdefault(collection_id, now)
        return now - since < self._settings.bulk_load_max_seconds

    async def _work_on(self, read: Pool, collection_id: UUID) -> None:
        try:
            async with claimed(collection_id, self._settings) as connection:
                if connection is not None:
                    # Another process may have done it since it was found due.
                    await self._do(connection, collection_id, await self._decide(connection, collection_id))
        except (GenerationGoneError, asyncpg.UndefinedTableError, asyncpg.ForeignKeyViolationError) as error:
            _log.info("the collection was changed meanwhile", collection_id=str(collection_id), error=str(error))
        except MetadataIndexFailedError as error:
            self._pause(collection_id, error)
        except (*CONNECTION_LOST, *_TRIED_AGAIN) as error:
            # A lost connection is no reason to try again at once: making an index may be what the server died of.
            self._pause(collection_id, error)
            await _note(read, collection_id, f"{type(error).__name__}: {error}")
        except Exception as error:
            # The collections that come after it are not to wait for whoever looks into this.
            _log.exception("an unforeseen error", collection_id=str(collection_id))
            self._pause(collection_id, error)
        else:
            if self._pauses.pop(collection_id, None) is not None:
                await _note(read, collection_id, None)

    def _pause(self, collection_id: UUID, error: Exception) -> None:
        _, before = self._pauses.get(collection_id, (0.0, 0.0))
        seconds = min(max(2 * before, _FIRST_RETRY_SECONDS), _LAST_RETRY_SECONDS)
        self._pauses[collection_id] = (asyncio.get_running_loop().time() + seconds, seconds)
        _log.error(
            "a collection stays as it is for now; searches go on",
            collection_id=str(collection_id), error=f"{type(error).__name__}: {error}", retry_after_seconds=seconds,
        )  # fmt: skip

    async def _do(self, connection: Connection, collection_id: UUID, due: Due) -> None:
        match due:
            case Nothing():
                pass
            case MakeIndex(generation):
                may_give_up = partial(self._may_wait_longer, collection_id)
                await index_unless_outrun(connection, generation, self._settings, may_give_up)
            case IndexMetadata(generation):
                await index_metadata(connection, generation, self._settings)
            case Rename(generation, shape):
                await _rename(connection, generation, shape)
            case Discard(generation):
                await rebuild.discard(connection, collection_id, generation.number)
            case Replace():
                await self._replace(connection, collection_id, due)
            case _:
                assert_never(due)

    async def _replace(self, connection: Connection, collection_id: UUID, due: Replace) -> None:
        async with opened_event_log(self._settings) as log:
            # From a log that was restored less would be folded than searches show.
            await expect_one_log(connection, log)
            replay = Replay(
                connection, log, self._settings,
                max_events_per_second=self._settings.rebuild_max_events_per_second,
            )  # fmt: skip
            generation = None
            try:
                generation = await rebuild.begin(replay, collection_id, due.shape, automatic=True)
                generation = await rebuild.build(replay, generation)
                generation = await rebuild.index(replay, generation, search_index=due.search_index)
                if due.checked:
                    # How much its index finds is the collection's own choice, and was so before.
                    checks = Checks(min_recall=0.0)
                    generation = await check_against_log(
                        Verification(connection, log, self._settings), generation, checks
                    )
                    expect_checked(generation)
                await rebuild.promote(replay, generation, keep_old=False)
            except NoRoomError as error:
                _log.error(_NOT_APPLIED, collection_id=str(collection_id), reason=str(error))
            except (
                RebuildFailedError, CheckFailedError, VerificationFailedError, asyncpg.ProgramLimitExceededError
            ) as error:  # fmt: skip
                assert generation is not None
                _log.error(_NOT_APPLIED, collection_id=str(collection_id), reason=str(error))
                await rebuild.give_up(connection, generation, str(error))


async def _drop_expired(read: Pool) -> None:
    async with read.acquire() as connection:
        dropped = await drop_expired(connection)
    if dropped:
        _log.info("dropped snapshots whose time is over", snapshots=dropped)


async def _note(read: Pool, collection_id: UUID, reason: str | None) -> None:
    """For those who ask what became of the change."""
    async with read.acquire() as connection:
        await note_reason(connection, collection_id, reason)


async def _rename(connection: Connection, generation: Generation, shape: Shape) -> None:
    async def rename(checkpoints: Sequence[Checkpoint]) -> None:
        found = await lock_generation(connection, generation.collection_id, generation.number)
        expect_state(found, "active")
        await rename_shape(connection, found, shape)
        await renew_revision(connection, found, checkpoints)

    await between_batches(connection, rename)
