"""Settings that every process has. Each process adds its own in one frozen class and passes it on."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

_SAYS = {"missing": "is not set"}

Settings = TypeVar("Settings", bound="ProcessSettings")


def settings_from_environment(model: type[Settings], **given: Any) -> Settings:
    """The settings of a process; those that are `given` come before the environment's.

    Raises:
        SystemExit: a variable is missing or wrong. The sentences name it, and never its value, which may be secret.
    """
    try:
        return model(**given)
    except ValidationError as error:
        faults = [
            f"{'_'.join(('AINDUSDB', *map(str, one['loc']))).upper()}: {_SAYS.get(one['type'], one['msg'])}"
            for one in error.errors(include_input=False, include_url=False)
        ]
        raise SystemExit("\n".join(faults)) from None


class ProcessSettings(BaseSettings):
    """Read from `AINDUSDB_*` environment variables. What stands below a setting is in the operators' reference too."""

    model_config = SettingsConfigDict(
        env_prefix="AINDUSDB_", frozen=True, extra="ignore", use_attribute_docstrings=True
    )

    host: str = "127.0.0.1"
    """The address that the process listens on."""
    port: int = Field(default=8000, ge=1, le=65535)
    """The port that it listens on."""
    log_format: Literal["json", "console"] = "json"
    """One JSON object a line, or lines for people."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """At `debug` every request has a line."""
    drain_timeout_seconds: int = Field(default=20, ge=0, le=300)
    """How long what is under way may take after SIGTERM."""
    pool_max_size: int = Field(default=20, ge=1, le=200)
    """Connections that the query service opens at most to each read server; other pools have a few."""
    command_timeout_seconds: float = Field(default=60.0, gt=0)
    """How long a statement may take that has no limit of its own."""
    statement_cache_size: int = Field(default=1024, ge=0)
    """Prepared statements that a connection keeps; 0: none, as behind PgBouncer in transaction mode."""


class HttpSettings(ProcessSettings):
    """What a service with an HTTP API of its own needs besides."""

    signing_keys: SecretStr
    """Keys of tokens and cursors, comma-separated: the first signs, all are accepted. The same for both services."""
    request_timeout_seconds: float = Field(default=30.0, gt=0, le=300)
    """How long a request may take; then 504."""
    max_body_bytes: int = Field(default=32 * 1024 * 1024, ge=1024)
    """The size of one request's body; beyond, 413."""
    max_bodies_bytes: int = Field(default=256 * 1024 * 1024, ge=1024)
    """The size of the bodies of all requests under way; beyond, 503."""
    tenant: str = "default"
    """Whose data every caller reads and writes."""
    actor: str = "anonymous"
    """Whom every event names as its cause."""

    def signing_key_list(self) -> list[bytes]:
        """The keys, newest first."""
        return [key.strip().encode() for key in self.signing_keys.get_secret_value().split(",") if key.strip()]
