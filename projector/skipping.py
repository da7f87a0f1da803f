"""A parked event passed over for good: the decision is taken between two batches, and then seen through."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from projector.checkpoints import Checkpoint, between_batches
from projector.errors import GenerationBusyError
from projector.event_log import EventLog
from projector.skips import noted_positions
from projector.unparking import Parked, Retried, first_of, forget, read_parked, retry
from shared.postgres import Connection

_AT_ONCE = 100


class NotAtFaultError(Exception):
    """Only an event that is parked, and is at fault itself, can be passed over."""


async def skip(
    connection: Connection, log: EventLog, parked: Parked, record: Callable[[], Awaitable[int]]
) -> tuple[int, Retried]:
    """The position of the decision, which `record` appends to the log, or finds there; and what has become of the
    events that were held back. Cut off after the decision, it is seen through by `see_through`.

    Raises:
        NotAtFaultError: it is parked no longer, or waits for another one.
        GenerationBusyError: it is decided, and seen through later.
    """

    async def decide(_checkpoints: Sequence[Checkpoint]) -> int:
        # Nobody can apply it after this, and then find it passed over in the log.
        if await read_parked(connection, parked.position) is None:
            raise NotAtFaultError(f"The event at position {parked.position} is parked no longer.")
        if (first := await first_of(connection, parked)) < parked.position:
            raise NotAtFaultError(f"It follows the event at position {first}; that is the one to be passed over.")
        return await record()

    decided_at = await between_batches(connection, decide)
    return decided_at, await retry(connection, log, parked)


async def see_through(connection: Connection, log: EventLog) -> int:
    """Decisions whose turn has come in the log and whose events are parked still; how many. For the upkeep: whoever
    decided may have been cut off, and another read model hears of it only so."""
    positions = await noted_positions(connection, _AT_ONCE)
    for position in positions:
        parked = await read_parked(connection, position)
        if parked is None:
            continue
        try:
            await _see_through(connection, log, parked)
        except GenerationBusyError:
            continue  # It is looked at again soon.
    return len(positions)


async def _see_through(connection: Connection, log: EventLog, parked: Parked) -> None:
    if await first_of(connection, parked) < parked.position:
        # What follows it waits for another one still.
        await forget(connection, parked)
    else:
        await retry(connection, log, parked)
