"""The settings of every process that embeds text."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from shared.settings import ProcessSettings
from shared.strict_json import MalformedJsonError, parse_json

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
MAX_OTHERS = 16

EmbeddingProvider = Literal["fastembed", "openai", "none"]


class ProviderSettings(BaseModel):
    """One provider; each field as the setting of its name says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: Literal["fastembed", "openai"]
    path: Path | None = None
    model: str = Field(default="", max_length=255, validate_default=True)
    url: str = Field(default="", validate_default=True)
    api_key: SecretStr = SecretStr("")

    @field_validator("model")
    @classmethod
    def _named_or_default(cls, value: str, info: ValidationInfo) -> str:
        return _model(value, info.data.get("provider"), info.data.get("path"))

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, value: str, info: ValidationInfo) -> str:
        return _address(value, info.data.get("provider"))


_PROVIDERS: TypeAdapter[tuple[ProviderSettings, ...]] = TypeAdapter(
    tuple[ProviderSettings, ...], config=ConfigDict(hide_input_in_errors=True)
)


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
    embedding_others: SecretStr = SecretStr("")
    """Further models, for collections that have them or move to them: a JSON list of objects with `provider`, `model`,
    `path`, `url` and `api_key`, each as the setting of its name. New collections take the model above."""
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
        return _model(value, info.data.get("embedding_provider"), info.data.get("embedding_path"))

    @field_validator("embedding_url")
    @classmethod
    def _is_an_address(cls, value: str, info: ValidationInfo) -> str:
        return _address(value, info.data.get("embedding_provider"))

    @field_validator("embedding_others")
    @classmethod
    def _are_providers(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        first = None if info.data.get("embedding_provider") == "none" else info.data.get("embedding_model")
        models = [] if first is None else [first]
        for number, other in enumerate(_others(value), start=1):
            if other.model in models:
                raise _fault(f"entry {number}: the model {other.model!r} is given twice; its name tells models apart")
            models.append(other.model)
        return value

    def provider_settings(self) -> ProviderSettings | None:
        """The provider of new collections."""
        if self.embedding_provider == "none":
            return None
        return ProviderSettings(
            provider=self.embedding_provider,
            path=self.embedding_path,
            model=self.embedding_model,
            url=self.embedding_url,
            api_key=self.embedding_api_key,
        )

    def other_provider_settings(self) -> tuple[ProviderSettings, ...]:
        return _others(self.embedding_others)


def _model(value: str, provider: EmbeddingProvider | None, path: Path | None) -> str:
    match provider:
        case "openai" if not value:
            raise PydanticCustomError("embedding_model", "is not set, but the provider openai needs it")
        case "fastembed" if not value:
            return DEFAULT_MODEL if path is None else path.absolute().name
        case _:
            return value


def _address(value: str, provider: EmbeddingProvider | None) -> str:
    if provider != "openai":
        return value
    if not value:
        raise PydanticCustomError("embedding_url", "is not set, but the provider openai needs it")
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise PydanticCustomError("embedding_url", "must begin with http:// or https:// and a host")
    return value.rstrip("/")


def _others(value: SecretStr) -> tuple[ProviderSettings, ...]:
    """
    Raises:
        PydanticCustomError: with a sentence that shows none of the values.
    """
    text = value.get_secret_value().strip()
    if not text:
        return ()
    try:
        document = parse_json(text.encode())
    except MalformedJsonError as error:
        raise _fault(f"is not JSON: {error}") from None
    if not isinstance(document, list):
        raise _fault("is not a JSON list of objects")
    if len(document) > MAX_OTHERS:
        raise _fault(f"has at most {MAX_OTHERS} entries, not {len(document)}")
    try:
        return _PROVIDERS.validate_python(document)
    except ValidationError as error:
        faults = [
            f"entry {int(number) + 1}{''.join(f', {part}' for part in place)}: {one['msg']}"
            for one in error.errors(include_input=False, include_url=False)
            for number, *place in (one["loc"],)
        ]
        raise _fault("; ".join(faults)) from None


def _fault(sentence: str) -> PydanticCustomError:
    return PydanticCustomError("embedding_others", "{fault}", {"fault": sentence})
