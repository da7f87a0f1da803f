"""Whether what the writers were told can be true of one log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from tests.consistency.history import Write


def contradictions(writes: Sequence[Write]) -> Iterator[tuple[int, str]]:
    """The number of a write, and how its acknowledgement contradicts others: a position belongs to one change, a
    write's are contiguous and covered by its token, and a write that was answered comes before one that began later."""
    acknowledged = [write for write in writes if write.acknowledged]
    taken = Counter(position for write in acknowledged for position in _positions(write))
    by_end = sorted(acknowledged, key=lambda write: write.completed)
    ended = answered_up_to = 0
    for write in sorted(acknowledged, key=lambda write: write.invoked):
        while ended < len(by_end) and by_end[ended].completed < write.invoked:
            answered_up_to = max([answered_up_to, *_positions(by_end[ended])])
            ended += 1
        positions = _positions(write)
        if not positions:
            continue
        if any(taken[position] > 1 for position in positions):
            yield write.number, f"one of the positions {positions} is another change's too"
        if positions != list(range(positions[0], positions[0] + len(positions))):
            yield write.number, f"its positions {positions} are not contiguous"
        if positions[-1] > write.covers:
            yield write.number, f"its token covers {write.covers} and not {positions[-1]}"
        if positions[0] <= answered_up_to:
            yield write.number, f"it is at {positions[0]}, after {answered_up_to} had been answered before it began"


def _positions(write: Write) -> list[int]:
    return sorted(change.position for change in write.changes)
