"""Embeddings that are kept: L1 in this process, L2 in Redis. (L3 is the command service's table.)

What lies under a scope and a digest never changes, so nothing is ever invalidated: an entry ends with its lifetime.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from cachetools import TTLCache

from events_schema.embedding import FLOAT32_LE, EmbeddingSpec
from shared.embedding.texts import Purpose, TextEmbedding
from shared.redis import SideCache

L1_ENTRIES = 1_000
L1_SECONDS = 300
L2_SECONDS = 3_600

_CHECKSUM_BYTES = 8


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose texts, and by which model."""

    tenant: str
    spec: EmbeddingSpec

    @property
    def spec_text(self) -> str:
        return f"{self.spec.provider}/{self.spec.model}/{self.spec.dimension}"


class EmbeddingCache(Protocol):
    """What is not found, or cannot be asked, is a miss. It never fails."""

    name: str

    async def find(self, scope: Scope, digests: Sequence[bytes]) -> dict[bytes, TextEmbedding]: ...

    async def keep(self, scope: Scope, found: Mapping[bytes, TextEmbedding]) -> None: ...


def text_digest(text: str, purpose: Purpose) -> bytes:
    """32 bytes that stand for the text and what it is embedded for."""
    return hashlib.sha256(f"{purpose}\0{text}".encode()).digest()


class MemoryCache:
    """L1."""

    name = "l1"

    def __init__(self) -> None:
        self._entries: TTLCache[tuple[Scope, bytes], TextEmbedding] = TTLCache(
            L1_ENTRIES, L1_SECONDS, timer=time.monotonic
        )

    async def find(self, scope: Scope, digests: Sequence[bytes]) -> dict[bytes, TextEmbedding]:
        return {digest: found for digest in digests if (found := self._entries.get((scope, digest))) is not None}

    async def keep(self, scope: Scope, found: Mapping[bytes, TextEmbedding]) -> None:
        for digest, embedding in found.items():
            self._entries[scope, digest] = embedding


class RedisCache:
    """L2."""

    name = "l2"

    def __init__(self, redis: SideCache) -> None:
        self._redis = redis

    async def find(self, scope: Scope, digests: Sequence[bytes]) -> dict[bytes, TextEmbedding]:
        values = await self._redis.get_many([_key(scope, digest) for digest in digests])
        found = {
            digest: _read(value, scope.spec.dimension)
            for digest, value in zip(digests, values, strict=True)
            if value is not None
        }
        return {digest: embedding for digest, embedding in found.items() if embedding is not None}

    async def keep(self, scope: Scope, found: Mapping[bytes, TextEmbedding]) -> None:
        entries = {_key(scope, digest): _written(embedding) for digest, embedding in found.items()}
        await self._redis.put_many(entries, L2_SECONDS)


def _key(scope: Scope, digest: bytes) -> bytes:
    of = hashlib.sha256(f"{scope.tenant}\0{scope.spec_text}".encode() + digest).hexdigest()
    return b"aindusdb:embedding:" + of.encode()


def _written(embedding: TextEmbedding) -> bytes:
    body = bytes([embedding.truncated]) + embedding.numbers.astype(FLOAT32_LE).tobytes()
    return hashlib.sha256(body).digest()[:_CHECKSUM_BYTES] + body


def _read(value: bytes, dimension: int) -> TextEmbedding | None:
    checksum, body = value[:_CHECKSUM_BYTES], value[_CHECKSUM_BYTES:]
    if len(body) != 1 + dimension * FLOAT32_LE.itemsize or hashlib.sha256(body).digest()[:_CHECKSUM_BYTES] != checksum:
        return None
    return TextEmbedding(np.frombuffer(body, dtype=FLOAT32_LE, offset=1), bool(body[0]))
