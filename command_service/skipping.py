"""Writes into the log that projections pass over an event."""

from __future__ import annotations

import asyncpg
from uuid_utils.compat import uuid7

from command_service import event_store
from command_service.append_lock import begin_locked
from command_service.domain.skips import SkipEvent, decide
from command_service.event_store import NewEvent
from events_schema.base import EventMetadata
from events_schema.streams import skip_stream
from shared.event_log import APPEND_CHANNEL, read_stream

_NOTIFY = "SELECT pg_notify($1, $2)"


async def record_skip(
    connection: asyncpg.Connection[asyncpg.Record], command: SkipEvent, metadata: EventMetadata
) -> int:
    """The position of the decision; that of an earlier one, if it was taken before. The connection is a session of its
    own to the event database. If it is lost, the decision may be there or not, and is to be asked for again.

    Raises:
        NotSkippableError
        asyncpg.InsufficientPrivilegeError: only the role of the command service appends.
    """
    stream = skip_stream(command.event.event_id)
    await begin_locked(connection)
    try:
        end = await event_store.read_log_end(connection, [stream])
        [version] = end.versions
        event = decide(command, version=version)
        if event is None:
            [taken] = await read_stream(connection, stream, after_version=0)
            position = taken.position
        else:
            position = end.position + 1
            appended = NewEvent(
                position=position,
                event_id=uuid7(),
                tenant=command.event.tenant,
                collection_id=command.event.collection_id,
                aggregate_id=stream,
                aggregate_type="skip",
                version=version + 1,
                event_type=event.event_type,
                schema_version=event.schema_version,
                event_data=event.serialised,
                metadata=metadata.model_dump_json(exclude_none=True),
                timestamp=end.timestamp,
            )
            await event_store.append(connection, [appended])
        await connection.execute("COMMIT")
    except BaseException:
        # Ends the transaction on the server too, whatever state it is in, and gives the lock back.
        connection.terminate()
        raise
    await connection.execute(_NOTIFY, APPEND_CHANNEL, str(position))
    return position
