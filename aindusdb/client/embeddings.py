"""Embeddings on the wire: base64 of little-endian float32, a quarter of the size of JSON numbers."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence


def encode_embedding(numbers: Sequence[float]) -> str:
    """
    Raises:
        ValueError: a number does not fit into 32-bit floating point.
    """
    try:
        packed = struct.pack(f"<{len(numbers)}f", *numbers)
    except (struct.error, OverflowError) as error:
        raise ValueError(f"an embedding holds 32-bit floating point numbers: {error}") from error
    return base64.b64encode(packed).decode("ascii")
