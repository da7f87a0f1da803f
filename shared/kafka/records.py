"""What a Kafka record of the topic holds: CloudEvents 1.0 in binary content mode, and what makes a hole visible.

`after` is the position up to which the partition was complete before the record. So a chain of records says what it
covers: each event's record covers (after, position], a watermark covers (after, to] without an event in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast
from uuid import UUID

import asyncpg
import orjson

from events_schema.base import AggregateType, RecordedEvent

Headers = list[tuple[str, bytes]]


class ForeignRecordError(Exception):
    """The record is none that a relay of this log wrote. Whoever else writes to the topic must stop; then the topic is
    made anew, and nothing is lost, because the event log has everything."""

    def __init__(self, partition: int, offset: int, why: str) -> None:
        super().__init__(
            f"partition {partition} of the topic holds at offset {offset} a record that is no event of ours ({why}). "
            "Find out who else writes to the topic and stop them, unless the event database was restored; then run "
            "`aindusdb relay reset --new-topic`. Nothing is lost, because the event log has everything"
        )


@dataclass(frozen=True, slots=True)
class Piece:
    """What a record says of its partition: with it, everything up to `to` is there if everything up to `after` was.
    `event_id` is that of the event at `to`; a watermark has no event."""

    log_id: UUID
    feed: int
    after: int
    to: int
    event_id: UUID
    event: RecordedEvent | None


def feed_headers(log_id: UUID, feed: int) -> Headers:
    """What all records of a feed have in common, the log first."""
    return [("log_id", str(log_id).encode()), ("feed", str(feed).encode())]


def event_headers(row: asyncpg.Record, common: Headers, after: int) -> Headers:
    """The headers of an event's record; `row` holds the log's columns and `traceparent`."""
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", str(row["event_id"]).encode()),
        ("ce_type", row["event_type"].encode()),
        ("ce_subject", str(row["aggregate_id"]).encode()),
        ("ce_time", row["timestamp"].isoformat().encode()),
        ("position", b"%d" % row["position"]),
        ("version", b"%d" % row["version"]),
        ("schema_version", b"%d" % row["schema_version"]),
        ("tenant", row["tenant"].encode()),
        ("collection_id", str(row["collection_id"]).encode()),
        ("aggregate_type", row["aggregate_type"].encode()),
        ("after", b"%d" % after),
        ("ce_source", b"urn:uuid:" + common[0][1]),
        *common,
    ]
    if row["traceparent"] is not None:
        headers.append(("traceparent", row["traceparent"].encode()))
    return headers


def watermark_headers(common: Headers, after: int, to: int, event_id: UUID) -> Headers:
    return [("after", b"%d" % after), ("to", b"%d" % to), ("event_id", str(event_id).encode()), *common]


def piece_of(
    partition: int, offset: int, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]
) -> Piece:
    """What a record says.

    Raises:
        ForeignRecordError: the record is not as the topic's AsyncAPI document says.
    """
    given: Mapping[str, bytes] = dict(headers)
    try:
        if "to" in given:
            return Piece(
                UUID(given["log_id"].decode()),
                int(given["feed"]),
                int(given["after"]),
                int(given["to"]),
                UUID(given["event_id"].decode()),
                None,
            )
        event = _event(key, value, given)
        return Piece(
            UUID(given["log_id"].decode()),
            int(given["feed"]),
            int(given["after"]),
            event.position,
            event.event_id,
            event,
        )
    except KeyError as error:
        raise ForeignRecordError(partition, offset, f"the header {error} is missing") from error
    except ValueError as error:
        raise ForeignRecordError(partition, offset, str(error)) from error


def _event(key: bytes | None, value: bytes | None, given: Mapping[str, bytes]) -> RecordedEvent:
    if given["ce_specversion"] != b"1.0":
        raise ValueError("ce_specversion is not 1.0")
    if key != given["ce_subject"]:
        raise ValueError("the key is not ce_subject")
    event_data = orjson.loads(value or b"null")
    if not isinstance(event_data, dict):
        raise ValueError("the value is no JSON object")
    metadata: dict[str, Any] = {}
    if "traceparent" in given:
        metadata["traceparent"] = given["traceparent"].decode()
    return RecordedEvent(
        position=int(given["position"]),
        event_id=UUID(given["ce_id"].decode()),
        tenant=given["tenant"].decode(),
        collection_id=UUID(given["collection_id"].decode()),
        aggregate_id=UUID(given["ce_subject"].decode()),
        # One that this software does not know is for the projector to judge, as it does when it reads the log.
        aggregate_type=cast("AggregateType", given["aggregate_type"].decode()),
        version=int(given["version"]),
        event_type=given["ce_type"].decode(),
        schema_version=int(given["schema_version"]),
        event_data=event_data,
        metadata=metadata,
        timestamp=datetime.fromisoformat(given["ce_time"].decode()),
    )
