"""The settings of the command service's processes."""

from __future__ import annotations

from pydantic import Field, SecretStr

from shared.kafka.settings import KafkaSettings
from shared.settings import HttpSettings


class CommandSettings(HttpSettings):
    events_dsn: SecretStr
    max_waiting_commands: int = Field(default=10_000, ge=1)
    max_waiting_bytes: int = Field(default=64 * 1024 * 1024, ge=1024)
    transaction_max_events: int = Field(default=1_000, ge=1, le=10_000)
    transaction_max_bytes: int = Field(default=4 * 1024 * 1024, ge=1024)
    commit_timeout_seconds: float = Field(default=30.0, gt=0)
    reconnect_timeout_seconds: float = Field(default=5.0, gt=0)
    idempotency_retention_hours: int = Field(default=24, ge=1)


class RelaySettings(KafkaSettings):
    events_dsn: SecretStr
    events_listen_dsn: SecretStr | None = None
    kafka_partitions: int = Field(default=6, ge=1, le=1_000)
    poll_interval_seconds: float = Field(default=1.0, gt=0)
    metrics_interval_seconds: float = Field(default=2.0, gt=0)

    def events_listen_address(self) -> str:
        """Where appends are listened for: the event database itself, never a pooler."""
        return (self.events_listen_dsn or self.events_dsn).get_secret_value()
