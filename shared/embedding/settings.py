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
    """`openai` is any endpoint that speaks OpenAI's protocol: `embedding_url` is what its paths begin with."""

    embedding_provider: EmbeddingProvider = "fastembed"
    embedding_path: Path | None = None
    embedding_model: str = Field(default="", max_length=255, validate_default=True)
    embedding_url: str = Field(default="", validate_default=True)
    embedding_api_key: SecretStr = SecretStr("")
    embedding_threads: int = Field(default=1, ge=1, le=256)
    embedding_load_wait_seconds: float = Field(default=10.0, gt=0, le=300)
    embedding_timeout_seconds: float = Field(default=8.0, gt=0, le=300)
    embedding_max_waiting_texts: int = Field(default=4_000, ge=1_000)

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
