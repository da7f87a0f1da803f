"""Why a text cannot be embedded: one class for each reason. Nothing was written."""

from __future__ import annotations

from events_schema.embedding import EmbeddingSpec


class NoProviderError(Exception):
    """No provider is configured, or its package is not installed. The message says how to switch one on."""


class ProviderUnavailableError(Exception):
    """The model or the endpoint cannot be used now; it may be tried again after `retry_after_seconds`."""

    def __init__(self, reason: str, retry_after_seconds: float = 1.0) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds


class TextRefusedError(Exception):
    """The endpoint refuses this text, for instance because it is too long for the model."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(reason)
        self.text = text


class ModelMismatchError(Exception):
    """Embeddings of different specs cannot be compared. `expected` is the collection's spec."""

    def __init__(self, expected: EmbeddingSpec, got: str) -> None:
        super().__init__(f"the collection's embeddings are {described(expected)}, {got}")
        self.expected = expected


class TooManyTextsError(Exception):
    """So many texts wait for the model already that no more are taken."""

    retry_after_seconds = 1

    def __init__(self, waiting: int) -> None:
        super().__init__(f"{waiting:,} texts wait to be embedded already; try again in a second")


def described(spec: EmbeddingSpec) -> str:
    """What makes the collection's embeddings, in the middle of a sentence."""
    if spec.provider == "client":
        by = f" of the model {spec.model!r}" if spec.model else ""
        return f"brought by clients{by}"
    return f"of the model {spec.model!r} ({spec.provider}, {spec.dimension} dimensions)"
