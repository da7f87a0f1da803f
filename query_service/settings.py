"""The settings of the query service."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator
from pydantic_core import PydanticCustomError

from shared.embedding.settings import EmbeddingSettings
from shared.settings import HttpSettings


class QuerySettings(EmbeddingSettings, HttpSettings):
    read_dsn: SecretStr
    """The read database's primary."""
    read_replica_dsns: SecretStr = SecretStr("")
    """Its replicas, comma-separated; each names one server, never a balancer over several."""
    events_dsn: SecretStr | None = None
    """The event database, from which history and the change feed are read."""
    events_replica_dsn: SecretStr | None = None
    """A replica of it. None: the event database itself is read."""
    redis_url: SecretStr | None = None
    """Where answers and embeddings of queries are cached for all query services. None: each caches alone."""
    max_feeds: int = Field(default=100, ge=0)
    """Change feeds open at once; beyond, 503."""
    feed_poll_interval_seconds: float = Field(default=0.1, gt=0)
    """How often the end of the log is looked at while feeds are open."""
    feed_heartbeat_seconds: float = Field(default=15.0, gt=0)
    """How long a feed is silent before it says where it is."""
    max_reads: int = Field(default=1_000, ge=1)
    """Reads under way at once; beyond, 503."""
    max_answer_bytes: int = Field(default=32 * 1024 * 1024, ge=2 * 1024 * 1024)
    """The size of what a search or a list answers of its vectors; beyond, a search is 422, a page shorter."""
    poll_max_age_seconds: float = Field(default=0.020, ge=0, le=1)
    """How old what is known of a server may be."""
    poll_timeout_seconds: float = Field(default=5.0, gt=0)
    """How long a poll of a server may take."""

    @field_validator("read_replica_dsns")
    @classmethod
    def _each_names_one_server(cls, value: SecretStr) -> SecretStr:
        dsns = [dsn.strip() for dsn in value.get_secret_value().split(",")]
        if any(dsn and not dsn.startswith(("postgresql://", "postgres://")) for dsn in dsns):
            raise PydanticCustomError(
                "replica_dsn", "must hold addresses that begin with postgresql:// and name one host each"
            )
        return value

    def events_address(self) -> str | None:
        """Where history is read: a replica of the event database, or that itself. None: not configured."""
        dsn = self.events_replica_dsn or self.events_dsn
        return None if dsn is None else dsn.get_secret_value()

    def replica_dsns(self) -> list[str]:
        """Each names one server, never a balancer over several. Without the primary, if that is among them."""
        dsns = [dsn.strip() for dsn in self.read_replica_dsns.get_secret_value().split(",")]
        return [dsn for dsn in dict.fromkeys(dsns) if dsn and dsn != self.read_dsn.get_secret_value()]
