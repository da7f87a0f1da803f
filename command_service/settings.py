"""The settings of the command service's processes."""

from __future__ import annotations

from pydantic import Field, SecretStr

from shared.embedding.settings import EmbeddingSettings
from shared.kafka.settings import KafkaSettings
from shared.settings import HttpSettings


class CommandSettings(EmbeddingSettings, HttpSettings):
    events_dsn: SecretStr
    """The event database, as a role that may append."""
    read_dsn: SecretStr | None = None
    """The read database, as a role that may read, for deleting and patching by filter, for deleting what has expired,
    and for seeing how far the projection is; empty: those are refused, that stays, and writes are not slowed."""
    redis_url: SecretStr | None = None
    """Where embeddings of texts are kept for an hour; empty: nowhere."""
    projection_lag_max_seconds: float = Field(default=300.0, ge=0)
    """Writes of vectors are refused with 429 while the projection would need longer than this for what waits for it; 0:
    never. It needs `read_dsn`."""
    projection_lag_min_events: int = Field(default=20_000, ge=0)
    """While fewer events wait than this, no write is refused for them, however slow the projection seems to be."""
    projection_lag_interval_seconds: float = Field(default=2.0, gt=0)
    """How often it is looked how far the projection is."""
    expiry_interval_seconds: float = Field(default=5.0, gt=0)
    """How often it is looked for vectors that have expired, to delete them. It needs `read_dsn`."""
    reembedding_interval_seconds: float = Field(default=2.0, gt=0)
    """How often it is looked for collections that move to another embedding model, to embed their contents by it. A
    move comes to its end only with `read_dsn`."""
    max_waiting_commands: int = Field(default=10_000, ge=1)
    """Commands that may wait for the writer; beyond, 503."""
    max_waiting_bytes: int = Field(default=64 * 1024 * 1024, ge=1024)
    """The size of the commands that wait; beyond, 503."""
    transaction_max_events: int = Field(default=1_000, ge=1, le=10_000)
    """Events that a group commit takes."""
    transaction_max_bytes: int = Field(default=4 * 1024 * 1024, ge=1024)
    """The size of the events that a group commit takes."""
    commit_timeout_seconds: float = Field(default=30.0, gt=0)
    """After this the outcome of a COMMIT is looked up instead of waited for."""
    reconnect_timeout_seconds: float = Field(default=5.0, gt=0)
    """How long a write waits for an event database that is away; then 503."""
    idempotency_retention_hours: int = Field(default=24, ge=1)
    """How long an Idempotency-Key is kept."""
    embedding_table_days: int = Field(default=30, ge=1, le=3650)
    """How long the embedding of a content is remembered after its last use."""
    embedding_table_rows: int = Field(default=1_000_000, ge=1)
    """How many embeddings are remembered; beyond, those used least recently are forgotten, once an hour."""


class RelaySettings(KafkaSettings):
    events_dsn: SecretStr
    """The event database, as a role that may write `relay_leases`."""
    events_listen_dsn: SecretStr | None = None
    """The event database itself where `events_dsn` leads to a pooler, for LISTEN."""
    kafka_partitions: int = Field(default=6, ge=1, le=1_000)
    """Partitions of the first feed; later `aindusdb relay reset` changes them."""
    poll_interval_seconds: float = Field(default=1.0, gt=0)
    """How often the log is looked at when no notification comes."""
    metrics_interval_seconds: float = Field(default=2.0, gt=0)
    """How often the backlog is measured."""

    def events_listen_address(self) -> str:
        """Where appends are listened for: the event database itself, never a pooler."""
        return (self.events_listen_dsn or self.events_dsn).get_secret_value()
