"""The queue's promises: order, bounds, and turns between single commands and bulk."""

from __future__ import annotations

import asyncio
import time
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command_service.command_queue import (
    BULK_OPERATIONS,
    SINGLES_ARE_ABOUT_SECONDS,
    CommandQueue,
    OverloadedError,
    Pending,
)
from command_service.domain.commands import CommandContext, DeleteVector, WriteVectors
from events_schema.base import EventMetadata

CONTEXT = CommandContext("default", EventMetadata(actor="a", request_id="r"))


def pending(operations: int, size_bytes: int = 100) -> Pending:
    deletions = tuple(DeleteVector(str(number)) for number in range(operations))
    return Pending(WriteVectors(CONTEXT, "c", uuid4(), deletions, size_bytes))


def queue(*, max_commands: int = 1000, max_bytes: int = 10**9) -> CommandQueue:
    return CommandQueue(max_commands=max_commands, max_bytes=max_bytes, batch_events=100, batch_bytes=100_000)


async def test_single_command_waits_for_at_most_one_bulk_transaction() -> None:
    waiting = queue()
    for _ in range(10):
        waiting.put(pending(100))
    waiting.put(pending(1))
    waiting.put(pending(1))
    sizes = [[one.operations for one in await waiting.take()] for _ in range(3)]
    assert sizes == [[1, 1], [100], [100]]


async def test_bulk_is_not_starved_by_single_commands() -> None:
    waiting = queue()
    waiting.put(pending(100))
    bulk_taken_after = 0
    while True:
        waiting.put(pending(1))
        bulk_taken_after += 1
        if any(one.operations > BULK_OPERATIONS for one in await waiting.take()):
            break
    assert bulk_taken_after <= 2


@given(st.lists(st.tuples(st.integers(1, 150), st.integers(0, 50_000)), min_size=1, max_size=40))
async def test_everything_comes_out_once_in_order_of_its_kind_within_the_limits(shapes: list[tuple[int, int]]) -> None:
    waiting = queue()
    put = [pending(*shape) for shape in shapes]
    for one in put:
        waiting.put(one)
    taken: list[Pending] = []
    while len(waiting):
        batch = await waiting.take()
        events, size = sum(one.operations for one in batch), sum(one.size_bytes for one in batch)
        assert len(batch) == 1 or (events <= 100 and size <= 100_000)
        taken += batch
    assert waiting.size_bytes == 0
    for bulk in (True, False):
        assert [one for one in taken if (one.operations > BULK_OPERATIONS) is bulk] == [
            one for one in put if (one.operations > BULK_OPERATIONS) is bulk
        ]


async def test_bulk_rests_between_transactions_only_while_single_commands_come() -> None:
    waiting = queue()
    waiting.put(pending(1))
    await waiting.take()
    waiting.rest_bulk(0.05)
    waiting.put(pending(100))
    started = time.monotonic()
    assert (await waiting.take())[0].is_bulk
    assert time.monotonic() - started >= 0.04
    await asyncio.sleep(SINGLES_ARE_ABOUT_SECONDS)
    waiting.rest_bulk(60)
    waiting.put(pending(100))
    assert (await waiting.take())[0].is_bulk


async def test_single_command_is_taken_while_bulk_rests() -> None:
    waiting = queue()
    waiting.put(pending(1))
    await waiting.take()
    waiting.rest_bulk(60)
    waiting.put(pending(100))
    taking = asyncio.create_task(waiting.take())
    await asyncio.sleep(0.01)
    waiting.put(pending(1))
    assert not (await taking)[0].is_bulk


async def test_full_queue_refuses_by_count_and_by_size_and_recovers() -> None:
    by_count = queue(max_commands=2)
    by_count.put(pending(1))
    by_count.put(pending(1))
    with pytest.raises(OverloadedError):
        by_count.put(pending(1))
    await by_count.take()
    by_count.put(pending(1))
    by_size = queue(max_bytes=10_000)
    by_size.put(pending(1, 9_000))
    with pytest.raises(OverloadedError):
        by_size.put(pending(1, 9_000))
    await by_size.take()
    by_size.put(pending(1, 9_000))
