"""Brings the checkpoints to the source's layout: another source, another number of partitions, another feed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from projector.checkpoints import replace_layout, verified_checkpoints
from projector.runs import Layout, Run, runs_of_log
from projector.source import EventSource
from shared.postgres import Connection

Apply = Callable[[Sequence[Run], Layout], Awaitable[Mapping[int, int]]]


async def settled_positions(connection: Connection, source: EventSource, limit: int, apply: Apply) -> dict[int, int]:
    """The positions of all the source's partitions, once the checkpoints are dealt out as the source deals out events.

    Checkpoints that are dealt out otherwise are brought to one position first, from the log. `apply` applies runs in
    a layout and says where the checkpoints are then.

    Raises:
        CheckpointMismatchError: the checkpoints do not belong to the source's log.
    """
    while True:
        checkpoints = await verified_checkpoints(connection, source.log, source.layout)
        layout = checkpoints[0].layout
        positions = {checkpoint.partition: checkpoint.position for checkpoint in checkpoints}
        if layout == source.layout:
            return positions
        target = max(positions.values())
        holes = {partition: (position, target) for partition, position in positions.items() if position < target}
        if holes:
            events = await source.log.read(min(positions.values()), limit)
            await apply(runs_of_log(events, holes, layout.partition_count), layout)
        else:
            await replace_layout(connection, layout, source.layout)
