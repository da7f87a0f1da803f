"""Embeddings on the wire: base64 of little-endian float32, a quarter of the size of JSON numbers."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Annotated, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import PlainSerializer, PlainValidator

Float32Array: TypeAlias = NDArray[np.float32]
EmbeddingInput: TypeAlias = Sequence[float] | NDArray[Any]
"""One embedding as the client takes it: numbers, shape (dimension,)."""

_FLOAT32_LE = np.dtype("<f4")
_KINDS_OF_NUMBERS = "fiu"


def encode_embedding(numbers: EmbeddingInput) -> str:
    """
    Raises:
        ValueError: these are no numbers in one dimension, or one is not finite in 32-bit floating point.
    """
    given = np.asarray(numbers)
    if given.ndim != 1:
        raise ValueError(f"an embedding has one dimension, this has {given.ndim}")
    if given.size and given.dtype.kind not in _KINDS_OF_NUMBERS:
        raise ValueError("an embedding holds 32-bit floating point numbers, and nothing else")
    with np.errstate(over="ignore"):
        packed = given.astype(_FLOAT32_LE)
    if not np.isfinite(packed).all():
        index = int(np.argmin(np.isfinite(packed)))
        raise ValueError(f"an embedding holds 32-bit floating point numbers; the one at index {index} is not finite")
    return base64.b64encode(packed.tobytes()).decode("ascii")


def decode_embedding(answered: Any) -> Float32Array:
    """An embedding as an answer shows it, numbers or base64, as float32, shape (dimension,).

    Raises:
        ValueError
    """
    if isinstance(answered, str):
        return np.frombuffer(base64.b64decode(answered, validate=True), dtype=_FLOAT32_LE).astype(np.float32)
    return np.asarray(answered, dtype=np.float32)


AnsweredEmbedding: TypeAlias = Annotated[
    Float32Array,
    PlainValidator(decode_embedding),
    PlainSerializer(lambda embedding: embedding.tolist(), return_type=list[float]),
]
