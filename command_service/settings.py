"""The settings of the command service's processes."""

from __future__ import annotations

from pydantic import Field, SecretStr

from shared.settings import HttpSettings, ProcessSettings


class CommandSettings(HttpSettings):
    events_dsn: SecretStr
    max_waiting_commands: int = Field(default=10_000, ge=1)
    max_waiting_bytes: int = Field(default=64 * 1024 * 1024, ge=1024)
    transaction_max_events: int = Field(default=1_000, ge=1, le=10_000)
    transaction_max_bytes: int = Field(default=4 * 1024 * 1024, ge=1024)
    commit_timeout_seconds: float = Field(default=30.0, gt=0)
    reconnect_timeout_seconds: float = Field(default=5.0, gt=0)
    idempotency_retention_hours: int = Field(default=24, ge=1)


class RelaySettings(ProcessSettings):
    events_dsn: SecretStr
    kafka_bootstrap: str = ""
