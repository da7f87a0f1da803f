"""Embeddings as requests bring them: JSON numbers, or base64 of little-endian float32."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import GetPydanticSchema
from pydantic_core import PydanticCustomError, core_schema

from events_schema.collections import Metric, VectorType
from events_schema.embedding import FLOAT32_LE, Float32Array

MAX_DIMENSION = 16_000

_SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)
_LARGEST = float(np.finfo(np.float32).max)
_LARGEST_SQUARED_NORM = 2.0**125
_NUMBERS = {int, float}
_BASE64_PATTERN = "^([A-Za-z0-9+/]{16})*([A-Za-z0-9+/]{6}==|[A-Za-z0-9+/]{11}=)?$"
"""Three numbers are 16 characters; one or two at the end are padded."""


def read_embedding(value: Any) -> Float32Array:
    """The embedding, float32, shape (dimension,), all finite.

    Raises:
        PydanticCustomError: `embedding_type`, `embedding_encoding`, `embedding_size` or `not_finite`.
    """
    embedding = _from_base64(value) if isinstance(value, str) else _from_numbers(value)
    if not 1 <= embedding.size <= MAX_DIMENSION:
        raise PydanticCustomError(
            "embedding_size", "an embedding has 1 to {limit} numbers, this one has {size}",
            {"limit": MAX_DIMENSION, "size": embedding.size},
        )  # fmt: skip
    finite = np.isfinite(embedding)
    if not finite.all():
        index = int(np.argmin(finite))
        raise PydanticCustomError(
            "not_finite", "the number at index {index} is not finite in 32-bit floating point", {"index": index}
        )
    return embedding


def _from_numbers(value: Any) -> Float32Array:
    if not isinstance(value, list):
        raise PydanticCustomError("embedding_type", "an embedding is an array of numbers or a base64 text")
    if not set(map(type, value)) <= _NUMBERS:
        index = next(index for index, item in enumerate(value) if type(item) not in _NUMBERS)
        raise PydanticCustomError(
            "embedding_type", "an embedding holds only numbers; at index {index} is something else", {"index": index}
        )
    with np.errstate(over="ignore"):
        try:
            return np.array(value, dtype=np.float32)
        except OverflowError:  # an integer beyond what a float64 holds
            index = next(index for index, item in enumerate(value) if abs(item) > _LARGEST)
            raise PydanticCustomError(
                "not_finite", "the number at index {index} is not finite in 32-bit floating point", {"index": index}
            ) from None


def _from_base64(text: str) -> Float32Array:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise PydanticCustomError("embedding_encoding", "the text is not valid base64") from None
    if len(raw) % FLOAT32_LE.itemsize:
        raise PydanticCustomError(
            "embedding_encoding", "{size} bytes are not a whole number of 32-bit floats", {"size": len(raw)}
        )
    return np.frombuffer(raw, dtype=FLOAT32_LE)


EmbeddingInput = Annotated[
    Float32Array,
    GetPydanticSchema(
        lambda _source, _handler: core_schema.no_info_plain_validator_function(
            read_embedding,
            metadata={
                "pydantic_js_functions": [
                    lambda _schema, _handler: {
                        "description": "Numbers, or base64 of little-endian 32-bit floats.",
                        "oneOf": [
                            {"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": MAX_DIMENSION},
                            {"type": "string", "contentEncoding": "base64", "minLength": 8, "pattern": _BASE64_PATTERN},
                        ],
                    }
                ]
            },
        )
    ),
]


@dataclass(frozen=True, slots=True)
class EmbeddingFault:
    """Why a collection cannot hold an embedding, or be searched by it. `rule` is a sentence."""

    problem: Literal["not-finite", "zero-vector"]
    rule: str


_TOO_LARGE_FOR_HALF = EmbeddingFault(
    "not-finite", "a halfvec collection holds 16-bit floating point numbers, whose greatest is 65,504"
)
_TOO_LONG = EmbeddingFault(
    "not-finite", "an embedding's squared norm is at most 2^125, so that distances are finite in 32-bit floating point"
)


def embedding_fault(embedding: Float32Array, metric: Metric, vector_type: VectorType) -> EmbeddingFault | None:
    """What keeps a finite float32 embedding, shape (dimension,), from having a distance to every other one.

    pgvector sums squares in float32. With both squared norms within the limit, that of a difference is within float32
    too; under cosine they must be normal numbers besides, because it divides by them.
    """
    if vector_type == "halfvec":
        with np.errstate(over="ignore"):
            embedding = embedding.astype(np.float16).astype(np.float32)
        if not np.isfinite(embedding).all():
            return _TOO_LARGE_FOR_HALF
    wide = embedding.astype(np.float64)
    squared_norm = float(np.dot(wide, wide))
    if squared_norm > _LARGEST_SQUARED_NORM:
        return _TOO_LONG
    if metric == "cosine" and squared_norm < _SMALLEST_NORMAL:
        bits = 16 if vector_type == "halfvec" else 32
        return EmbeddingFault(
            "zero-vector",
            f"under cosine a zero vector has no direction; the squared norm is zero in {bits}-bit floating point",
        )
    return None
