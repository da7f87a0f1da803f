"""The settings of the query service."""

from __future__ import annotations

from pydantic import Field, SecretStr

from shared.settings import HttpSettings


class QuerySettings(HttpSettings):
    read_dsn: SecretStr
    """The read database's primary."""
    read_replica_dsns: SecretStr = SecretStr("")
    """Its replicas, comma-separated; each names one server, never a balancer over several."""
    redis_url: SecretStr | None = None
    """Where answers are cached for all query services. None: each caches alone."""
    max_reads: int = Field(default=1_000, ge=1)
    """Reads under way at once; beyond, 503."""
    poll_max_age_seconds: float = Field(default=0.020, ge=0, le=1)
    """How old what is known of a server may be."""
    poll_timeout_seconds: float = Field(default=5.0, gt=0)
    """How long a poll of a server may take."""

    def replica_dsns(self) -> list[str]:
        """Each names one server, never a balancer over several. Without the primary, if that is among them."""
        dsns = [dsn.strip() for dsn in self.read_replica_dsns.get_secret_value().split(",")]
        return [dsn for dsn in dict.fromkeys(dsns) if dsn and dsn != self.read_dsn.get_secret_value()]
