"""Which problems the routes of vectors can answer, by what they take."""

from __future__ import annotations

ANY = ("malformed-token", "wrong-database", "validation", "collection-not-found", "projection-parked",
       "not-fresh-enough", "dependency-unavailable", "overloaded", "timeout")  # fmt: skip
WITH_BODY = ("malformed-json", "body-too-large", "unsupported-media-type", "invalid-filter")
PAST = ("snapshot-not-found", "snapshot-not-ready")
EMBEDDED = ("dimension-mismatch", "not-finite", "zero-vector", "model-mismatch")
