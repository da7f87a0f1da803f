"""Who asks. Every route receives a principal and declares the permission that it needs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Permission(StrEnum):
    """What a route lets its caller do."""

    COLLECTIONS_READ = "collections:read"
    COLLECTIONS_WRITE = "collections:write"
    VECTORS_READ = "vectors:read"
    VECTORS_WRITE = "vectors:write"
    EVENTS_READ = "events:read"
    PUBLIC = "public"


@dataclass(frozen=True, slots=True)
class Principal:
    """`tenant` separates all data; `actor` is recorded with every event."""

    tenant: str
    actor: str
