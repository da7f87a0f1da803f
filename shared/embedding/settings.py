"""The settings of every process that embeds text."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from shared.settings import ProcessSettings

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"

EmbeddingProvider = Literal["fastembed", "openai", "none"]


class EmbeddingSettings(ProcessSettings):
    """The same in the command service and the query service. Providers: docs/concepts/text-embedding.md."""

    embedding_provider: EmbeddingProvider = "fastembed"
    """`fastembed`: a model in the service. `openai`: any endpoint of OpenAI's protocol. `none`: texts are refused."""
    embedding_path: Path | None = None
    """`fastembed`: the folder that holds the model's files."""
    embedding_model: str = Field(default="", max_length=255, validate_default=True)
    """The model's name. `fastembed`: by default sentence-transformers/all-MiniLM-L6-v2, or the folder's name."""
    embedding_url: str = Field(default="", validate_default=True)
    """`openai`: what the endpoint's paths begin with, such as `http://127.0.0.1:11434/v1`."""
    embedding_api_key: SecretStr = SecretStr("")
    """`openai`: sent as a bearer token."""
    embedding_threads: int = Field(default=1, ge=1, le=256)
    """`fastembed`: how many texts are embedded side by side, each on one core."""
    embedding_load_wait_seconds: float = Field(default=10.0, gt=0, le=300)
    """`fastembed`: how long a request waits for the model to be loaded; then 503, and the loading goes on."""
    embedding_timeout_seconds: float = Field(default=8.0, gt=0, le=300)
    """`openai`: how long one attempt may take; there are at most three."""
    embedding_max_waiting_texts: int = Field(default=4_000, ge=1_000)
    """Texts that may wait to be embedded; beyond, 503."""

    @field_validator("embedding_model")
    @classmethod
    def _named_or_default(cls, value: str, info: ValidationInfo) -> str:
        match info.data.get("embedding_provider"):
            case "openai" if not value:
                raise PydanticCustomError("embedding_model", "is not set, but the provider openai needs it")
            case "fastembed" if not value:
                path: Path | None = info.data.get("embedding_path")
                return DEFAULT_MODEL if path is None else path.absolute().name
            case _:
                return value

    @field_validator("embedding_url")
    @classmethod
    def _is_an_address(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("embedding_provider") != "openai":
            return value
        if not value:
            raise PydanticCustomError("embedding_url", "is not set, but the provider openai needs it")
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise PydanticCustomError("embedding_url", "must begin with http:// or https:// and a host")
        return value.rstrip("/")
