"""What goes into a provider and what comes out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from events_schema.embedding import Float32Array

Purpose = Literal["content", "query"]
"""Some models embed a question differently from what answers it."""


@dataclass(frozen=True, slots=True, eq=False)
class TextEmbedding:
    """`numbers` float32, shape (dimension,), all finite. `truncated`: the model saw only the text's beginning, as far
    as its provider can tell."""

    numbers: Float32Array
    truncated: bool


class Provider(Protocol):
    """One model. It is given at most `batch_size` texts at once, and so many batches of a request at a time as
    `concurrency` says."""

    name: str
    """As embedding_specs name it."""
    model: str
    batch_size: int
    concurrency: int

    async def dimension(self) -> int:
        """
        Raises:
            ProviderUnavailableError: it cannot be told now.
        """

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> list[TextEmbedding]:
        """One for each text, in their order.

        Raises:
            ProviderUnavailableError
            TextRefusedError: one of the texts cannot be embedded, whoever asks and whenever.
        """

    def fault(self) -> str | None:
        """What is known to be wrong, and what to do; asks nobody."""

    async def close(self) -> None: ...
