"""What a record says, and which partition it goes to."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiokafka.partitioner import murmur2
from hypothesis import given
from hypothesis import strategies as st

from events_schema.base import RecordedEvent
from projector.runs import Run, runs_of_log
from shared.kafka.partitions import partitions_of
from shared.kafka.records import ForeignRecordError, event_headers, feed_headers, piece_of, watermark_headers

LOG_ID = uuid4()


@given(st.lists(st.uuids(), max_size=50), st.integers(1, 1000))
def test_partitions_are_those_of_kafkas_own_partitioner(aggregates: list[UUID], count: int) -> None:
    expected = [(murmur2(str(aggregate).encode()) & 0x7FFFFFFF) % count for aggregate in aggregates]
    assert partitions_of(aggregates, count) == expected


def row() -> Any:
    return {
        "position": 7, "event_id": uuid4(), "tenant": "default", "collection_id": uuid4(), "aggregate_id": uuid4(),
        "aggregate_type": "vector", "version": 2, "event_type": "VectorDeleted", "schema_version": 1,
        "event_data": '{"id": "ü"}', "metadata": "{}", "timestamp": datetime.now(UTC), "traceparent": "00-1-2-01",
    }  # fmt: skip


def test_an_event_comes_out_as_it_went_in() -> None:
    sent = row()
    headers = event_headers(sent, feed_headers(LOG_ID, 3), after=5)
    piece = piece_of(0, 0, str(sent["aggregate_id"]).encode(), sent["event_data"].encode(), headers)
    assert (piece.log_id, piece.feed, piece.after, piece.to) == (LOG_ID, 3, 5, 7)
    event = piece.event
    assert event is not None
    assert event.event_data == {"id": "ü"}
    assert event.metadata == {"traceparent": "00-1-2-01"}
    for field in (
        "position", "event_id", "tenant", "collection_id", "aggregate_id", "aggregate_type", "version", "event_type",
        "schema_version", "timestamp",
    ):  # fmt: skip
        assert getattr(event, field) == sent[field], field


def test_a_watermark_comes_out_as_it_went_in() -> None:
    event_id = uuid4()
    piece = piece_of(0, 0, None, None, watermark_headers(feed_headers(LOG_ID, 3), 5, 9, event_id))
    assert (piece.after, piece.to, piece.event_id, piece.event) == (5, 9, event_id, None)


@pytest.mark.parametrize(
    ("header", "value"),
    [(name, None) for name in ("ce_id", "ce_type", "ce_subject", "position", "after", "feed", "log_id", "version")]
    + [("position", b"seven"), ("log_id", b"mine"), ("ce_time", b"now")]
    + [("ce_specversion", b"2.0"), ("ce_subject", b"another"), ("tenant", b"\xff")],
)
def test_a_record_that_is_no_event_of_ours_is_refused(header: str, value: bytes | None) -> None:
    sent = row()
    headers = dict(event_headers(sent, feed_headers(LOG_ID, 1), after=5))
    if value is None:
        del headers[header]
    else:
        headers[header] = value
    with pytest.raises(ForeignRecordError, match="relay reset --new-topic"):
        piece_of(0, 17, str(sent["aggregate_id"]).encode(), sent["event_data"].encode(), list(headers.items()))


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b"7", None])
def test_a_value_that_is_no_json_object_is_refused(value: bytes | None) -> None:
    sent = row()
    headers = event_headers(sent, feed_headers(LOG_ID, 1), after=5)
    with pytest.raises(ForeignRecordError):
        piece_of(0, 17, str(sent["aggregate_id"]).encode(), value, headers)


def recorded(position: int, aggregate: UUID) -> RecordedEvent:
    return RecordedEvent(
        position, uuid4(), "default", uuid4(), aggregate, "vector", 1, "VectorDeleted", 1, {}, {}, datetime.now(UTC)
    )


@given(st.integers(0, 30), st.lists(st.integers(0, 30), min_size=4, max_size=4), st.integers(1, 40), st.data())
def test_runs_of_the_log_are_what_each_partition_misses(
    first: int, positions: list[int], count: int, data: st.DataObject
) -> None:
    positions = [first + position for position in positions]
    known = [data.draw(st.integers(position, position + 40)) for position in positions]
    aggregates = [uuid4() for _ in range(5)]
    events = [recorded(position, aggregates[position % 5]) for position in range(first + 1, first + count + 1)]
    holes = {n: (positions[n], known[n]) for n in range(4) if positions[n] < known[n]}
    runs = {run.partition: run for run in runs_of_log(events, holes, 4)}
    ids = {event.position: event.event_id for event in events}
    for partition, (after, upto) in holes.items():
        to = min(upto, events[-1].position)
        wanted = [
            event
            for event in events
            if after < event.position <= to and partitions_of([event.aggregate_id], 4) == [partition]
        ]
        if to <= after:
            assert partition not in runs
        else:
            assert runs[partition] == Run(partition, after, wanted, to, ids[to])
