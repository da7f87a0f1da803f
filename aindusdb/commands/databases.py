"""Commands that work on both databases as the projector does: what can be foreseen to go wrong is one sentence."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import asyncpg
import typer

from aindusdb.commands.output import CommandRefusedError, say
from projector.errors import (
    CheckpointMismatchError,
    GenerationBusyError,
    GenerationGoneError,
    LayoutChangedError,
    NoRoomError,
    NotCaughtUpError,
    NothingProjectedError,
    RebuildFailedError,
    SnapshotError,
    UnknownProjectionVersionError,
    VerificationFailedError,
)
from projector.replay_session import CollectionBusyError
from projector.replay_targets import TargetRefusedError
from projector.replays import CheckFailedError, NoSuchGenerationError, OutdatedGenerationError
from projector.snapshots import SnapshotRefusedError
from shared.event_log import LogCorruptionError
from shared.postgres import CONNECTION_LOST, PooledAddressError

REFUSED_EXIT_CODE = 1
DIFFERENT_EXIT_CODE = 3
"""The read model, or a generation of it, is not what the log says."""
BUSY_EXIT_CODE = 4
INTERRUPTED_EXIT_CODE = 130

AnswerT = TypeVar("AnswerT")

FORESEEN = (
    CheckFailedError,
    CheckpointMismatchError,
    CollectionBusyError,
    GenerationBusyError,
    GenerationGoneError,
    LayoutChangedError,
    LogCorruptionError,
    NoRoomError,
    NoSuchGenerationError,
    NotCaughtUpError,
    OutdatedGenerationError,
    PooledAddressError,
    RebuildFailedError,
    SnapshotError,
    SnapshotRefusedError,
    TargetRefusedError,
    UnknownProjectionVersionError,
    VerificationFailedError,
    asyncpg.PostgresError,
    *CONNECTION_LOST,
)


def sentence_of(error: Exception) -> str:
    """What one of `FORESEEN` says to a person."""
    said = str(error).strip() or type(error).__name__
    match error:
        case NothingProjectedError():
            pass
        case asyncpg.LockNotAvailableError():
            said = (
                f"another session holds on to what is to be changed ({said}); the same command goes on when it is done"
            )
        case CheckpointMismatchError():
            said = f"the databases do not belong together: {said}"
        case asyncpg.UndefinedColumnError() | asyncpg.UndefinedTableError():
            said = f"the databases are not of this version ({said}); `aindusdb schema upgrade` brings them to it"
        case asyncpg.PostgresError() | asyncpg.InterfaceError() | OSError():
            said = f"the databases cannot be used: {said}"
        case _:
            pass
    return said[0].upper() + said[1:] + ("" if said.endswith(".") else ".")


def exit_code_of(error: Exception) -> int:
    match error:
        case CheckFailedError():
            return DIFFERENT_EXIT_CODE
        case CollectionBusyError() | GenerationBusyError():
            return BUSY_EXIT_CODE
        case _:
            return REFUSED_EXIT_CODE


def awaited(command: Coroutine[Any, Any, AnswerT]) -> AnswerT:
    """
    Raises:
        CommandRefusedError, typer.Exit: it cannot be done, and the sentence is said.
    """
    try:
        return asyncio.run(command)
    except FORESEEN as error:
        if (exit_code := exit_code_of(error)) == REFUSED_EXIT_CODE:
            raise CommandRefusedError(sentence_of(error)) from error
        say(sentence_of(error))
        raise typer.Exit(exit_code) from error
    except KeyboardInterrupt:
        say("Interrupted; the same command goes on from here.")
        raise typer.Exit(INTERRUPTED_EXIT_CODE) from None
