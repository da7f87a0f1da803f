"""The settings of the projector."""

from __future__ import annotations

from pydantic import Field, SecretStr

from shared.kafka.settings import KafkaSettings


class ProjectorSettings(KafkaSettings):
    events_dsn: SecretStr
    """The event database, as a role that may read it."""
    events_listen_dsn: SecretStr | None = None
    """The event database itself where `events_dsn` leads to a pooler, for LISTEN."""
    read_dsn: SecretStr
    """The read database's primary, as the role that owns it."""
    read_direct_dsn: SecretStr | None = None
    """The read database itself where `read_dsn` leads to a pooler, for making indexes."""
    redis_url: SecretStr | None = None
    """Where changes are announced. None: nowhere, and readers poll."""
    poll_interval_seconds: float = Field(default=1.0, gt=0)
    """How often the log is looked at when no notification comes."""
    batch_max_events: int = Field(default=1_000, ge=1, le=10_000)
    """Events that one transaction applies."""
    batch_max_bytes: int = Field(default=16 * 1024 * 1024, ge=1024)
    """The size of the events that one reading of the log takes."""
    parking_attempts: int = Field(default=5, ge=1)
    """How often an event that cannot be applied is tried before it is parked."""
    parking_window_seconds: float = Field(default=30.0, ge=0)
    """Over which time these tries are spread."""
    recheck_interval_seconds: float = Field(default=3.0, gt=0)
    """How often a projector that has stopped looks whether it may go on."""
    retirement_grace_seconds: float = Field(default=5.0, ge=0)
    """How long the tables of a deleted collection stay for queries under way."""
    retirement_interval_seconds: float = Field(default=5.0, gt=0)
    """How often such tables are looked for."""
    metrics_interval_seconds: float = Field(default=2.0, gt=0)
    """How often the lag is measured."""
    upkeep_interval_seconds: float = Field(default=1.0, gt=0)
    """How often it is looked for collections whose tables are not what they are to be."""
    ivfflat_min_rows: int = Field(default=10_000, ge=1)
    """From how many rows on a collection gets its IVFFlat index; until then searches are exact."""
    bulk_load_min_events: int = Field(default=5_000, ge=0)
    """So many events of a collection, and half as many as it has vectors, have its HNSW index set aside while they are
    projected; afterwards it is made in bulk. Until then searches are exact. 0: an index stays, whatever comes."""
    bulk_load_max_rows: int = Field(default=200_000, ge=0)
    """A collection with more vectors keeps its index all the same: exact searches would take too long."""
    bulk_load_max_seconds: float = Field(default=3_600.0, ge=0)
    """After this an index is made, however much comes for its collection."""
    index_memory_mb: int = Field(default=1_024, ge=64)
    """The most memory that making one index takes (maintenance_work_mem); it takes no more than the index needs."""
    index_parallel_workers: int | None = Field(default=None, ge=0, le=64)
    """How many processes help to make one index. None: as many as the read database says
    (max_parallel_maintenance_workers), where the number of its processors is known."""
    rebuild_max_events_per_second: float | None = Field(default=None, gt=0)
    """The pace at which the log is folded anew for a collection that was changed. None: as fast as it goes."""
    rebuild_retry_seconds: float = Field(default=600.0, gt=0)
    """How long it is waited after such a change could not be applied."""
    snapshots_per_collection: int = Field(default=10, ge=0, le=1_000)
    """How many snapshots of the past a collection may have."""
    snapshot_keep_seconds: float = Field(default=7 * 86_400.0, gt=0)
    """How long a snapshot is kept where nothing else is asked for."""
    snapshot_max_keep_seconds: float = Field(default=90 * 86_400.0, gt=0)
    """How long it may be asked to be kept."""
    snapshot_max_bytes: int = Field(default=64 * 1024**3, ge=1)
    """How many bytes of events a snapshot may be made of."""
    index_timeout_seconds: float = Field(default=6 * 3600.0, gt=0)
    """How long making one index may take."""

    def read_direct_address(self) -> str:
        """Where sessions of their own are opened: the read database itself, never a pooler."""
        return (self.read_direct_dsn or self.read_dsn).get_secret_value()

    def events_listen_address(self) -> str:
        """Where appends are listened for: the event database itself, never a pooler."""
        return (self.events_listen_dsn or self.events_dsn).get_secret_value()
