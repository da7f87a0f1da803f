"""How an embedding lies in an event: base64 of little-endian float32, bit-exact and readable in psql."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

FLOAT32_LE = np.dtype("<f4")

Float32Array = NDArray[np.float32]


class EmbeddingSpec(BaseModel):
    """What made an embedding: vectors of different specs cannot be compared.

    `provider` is `client` where the caller brings the embedding; `model` names what computed it, if known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    provider: str = Field(default="client", min_length=1, max_length=64)
    model: str | None = Field(default=None, max_length=255)
    dimension: int = Field(ge=1, le=16_000)


class StoredEmbedding(BaseModel):
    """One embedding of a vector under one spec; `data` as `encode` writes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: EmbeddingSpec
    encoding: Literal["float32-le-base64"] = "float32-le-base64"
    data: str


def encode(embedding: Float32Array) -> str:
    """The stored text of one embedding, shape (dimension,)."""
    return base64.b64encode(np.ascontiguousarray(embedding, dtype=FLOAT32_LE).tobytes()).decode("ascii")


def decode(data: str) -> Float32Array:
    """The embedding, shape (dimension,), read-only.

    Raises:
        ValueError: the text is not base64 or not a whole number of float32.
    """
    try:
        return np.frombuffer(base64.b64decode(data, validate=True), dtype=FLOAT32_LE)
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from error


def decode_many(data: Sequence[str], dimension: int) -> Float32Array:
    """Embeddings of one dimension as one array, shape (len(data), dimension).

    Raises:
        ValueError: a text is not base64, or its length is not the dimension's.
    """
    try:
        raw = [base64.b64decode(one, validate=True) for one in data]
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from error
    size = dimension * FLOAT32_LE.itemsize
    if any(len(one) != size for one in raw):
        raise ValueError(f"an embedding's length differs from the collection's dimension {dimension}")
    return np.frombuffer(b"".join(raw), dtype=FLOAT32_LE).reshape(len(raw), dimension)
