"""Settings that every process has. Each process adds its own in one frozen class and passes it on."""

from __future__ import annotations

from typing import Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

_SAYS = {"missing": "is not set"}

Settings = TypeVar("Settings", bound="ProcessSettings")


def settings_from_environment(model: type[Settings]) -> Settings:
    """The settings of a process.

    Raises:
        SystemExit: a variable is missing or wrong. The sentences name it, and never its value, which may be secret.
    """
    try:
        return model()
    except ValidationError as error:
        faults = [
            f"{'_'.join(('AINDUSDB', *map(str, one['loc']))).upper()}: {_SAYS.get(one['type'], one['msg'])}"
            for one in error.errors(include_input=False, include_url=False)
        ]
        raise SystemExit("\n".join(faults)) from None


class ProcessSettings(BaseSettings):
    """Read from `AINDUSDB_*` environment variables."""

    model_config = SettingsConfigDict(env_prefix="AINDUSDB_", frozen=True, extra="ignore")

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    log_format: Literal["json", "console"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    drain_timeout_seconds: int = Field(default=20, ge=0, le=300)
    pool_min_size: int = Field(default=5, ge=1, le=100)
    pool_max_size: int = Field(default=20, ge=1, le=200)
    command_timeout_seconds: float = Field(default=60.0, gt=0)
    statement_cache_size: int = Field(default=1024, ge=0)


class HttpSettings(ProcessSettings):
    """What a service with an HTTP API of its own needs besides."""

    signing_keys: SecretStr
    request_timeout_seconds: float = Field(default=30.0, gt=0, le=300)
    max_body_bytes: int = Field(default=32 * 1024 * 1024, ge=1024)
    max_bodies_bytes: int = Field(default=256 * 1024 * 1024, ge=1024)
    tenant: str = "default"
    actor: str = "anonymous"

    def signing_key_list(self) -> list[bytes]:
        """The keys, newest first."""
        return [key.strip().encode() for key in self.signing_keys.get_secret_value().split(",") if key.strip()]
