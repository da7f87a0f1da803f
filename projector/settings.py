"""The settings of the projector."""

from __future__ import annotations

from pydantic import Field, SecretStr

from shared.kafka.settings import KafkaSettings


class ProjectorSettings(KafkaSettings):
    events_dsn: SecretStr
    events_listen_dsn: SecretStr | None = None
    read_dsn: SecretStr
    redis_url: SecretStr | None = None
    poll_interval_seconds: float = Field(default=1.0, gt=0)
    batch_max_events: int = Field(default=1_000, ge=1, le=10_000)
    batch_max_bytes: int = Field(default=16 * 1024 * 1024, ge=1024)
    parking_attempts: int = Field(default=5, ge=1)
    parking_window_seconds: float = Field(default=30.0, ge=0)
    recheck_interval_seconds: float = Field(default=3.0, gt=0)
    retirement_grace_seconds: float = Field(default=5.0, ge=0)
    retirement_interval_seconds: float = Field(default=5.0, gt=0)
    metrics_interval_seconds: float = Field(default=2.0, gt=0)

    def events_listen_address(self) -> str:
        """Where appends are listened for: the event database itself, never a pooler."""
        return (self.events_listen_dsn or self.events_dsn).get_secret_value()
