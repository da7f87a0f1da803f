"""Which partition an aggregate's events go to: Kafka's default partitioner, over many keys at once."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

_KEY_BYTES = 36
_MULTIPLIER = np.uint32(0x5BD1E995)
_SEED = 0x9747B28C


def partitions_of(aggregate_ids: Sequence[UUID], partition_count: int) -> list[int]:
    """murmur2 of the ids' lower-case text, made positive, modulo the number of partitions.

    Source: `Utils.murmur2` and `BuiltInPartitioner.partitionForKey` of Apache Kafka's Java client. The keys are all
    36 bytes long, nine words without a rest.
    """
    if not aggregate_ids:
        return []
    if partition_count == 1:
        return [0] * len(aggregate_ids)
    text = "".join(map(str, aggregate_ids)).encode()
    words: NDArray[np.uint32] = np.frombuffer(text, dtype="<u4").reshape(len(aggregate_ids), _KEY_BYTES // 4)
    hashes = np.full(len(aggregate_ids), _SEED ^ _KEY_BYTES, dtype=np.uint32)
    for column in words.T:
        mixed = column * _MULTIPLIER
        mixed ^= mixed >> np.uint32(24)
        mixed *= _MULTIPLIER
        hashes *= _MULTIPLIER
        hashes ^= mixed
    hashes ^= hashes >> np.uint32(13)
    hashes *= _MULTIPLIER
    hashes ^= hashes >> np.uint32(15)
    partitions: list[int] = ((hashes & np.uint32(0x7FFFFFFF)) % np.uint32(partition_count)).tolist()
    return partitions
