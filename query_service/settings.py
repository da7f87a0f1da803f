"""The settings of the query service."""

from __future__ import annotations

from pydantic import Field, SecretStr

from shared.settings import HttpSettings


class QuerySettings(HttpSettings):
    read_dsn: SecretStr
    read_replica_dsns: SecretStr = SecretStr("")
    poll_max_age_seconds: float = Field(default=0.020, ge=0, le=1)
    poll_timeout_seconds: float = Field(default=5.0, gt=0)

    def server_dsns(self) -> list[str]:
        """The replicas in the order given, then the primary; each address names one server."""
        replicas = [dsn.strip() for dsn in self.read_replica_dsns.get_secret_value().split(",") if dsn.strip()]
        return list(dict.fromkeys([*replicas, self.read_dsn.get_secret_value()]))
