"""How far into an index a search goes: pgvector's settings, which travel inside the search statement."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, sqrt

from query_service.catalogue import LiveCollection

MAX_EF_SEARCH = 1_000
DEFAULT_EF_SEARCH = 40

_MOST_TIMES_PROBES = 4
"""A filtered search that has not found enough in four times the lists that it begins with has a filter so rare that an
exact search over what matches is faster than the rest of the index."""


def scan_settings(collection: LiveCollection, k: int, ef_search: int) -> Mapping[str, str] | None:
    """The settings by name; None if the collection has no index, or not yet."""
    if not collection.indexed:
        return None
    match collection.index.kind:
        case "hnsw":
            return {
                "hnsw.ef_search": str(min(max(ef_search, k), MAX_EF_SEARCH)),
                "hnsw.iterative_scan": "strict_order",
            }
        case "ivfflat":
            probes = probes_for(collection.lists or 1)
            return {
                "ivfflat.probes": str(probes),
                # There is no strict order; the statement sorts what it found by itself.
                "ivfflat.iterative_scan": "relaxed_order",
                "ivfflat.max_probes": str(_MOST_TIMES_PROBES * probes),
            }
        case "none":
            return None


def filtered_scan_settings(collection: LiveCollection) -> Mapping[str, str] | None:
    """The settings by name, each a SQL expression over `nearest`: how many of the nearest are to be fetched before
    the filter is looked at. None if the collection has no index, or not yet."""
    if not collection.indexed:
        return None
    match collection.index.kind:
        case "hnsw":
            return {
                "hnsw.ef_search": f"least({MAX_EF_SEARCH}, nearest)::text",
                "hnsw.iterative_scan": "'relaxed_order'",
                "hnsw.max_scan_tuples": "'2147483647'",
                "hnsw.scan_mem_multiplier": "'4'",
            }
        case "ivfflat":
            probes = probes_for(collection.lists or 1)
            return {
                "ivfflat.probes": f"'{probes}'",
                "ivfflat.iterative_scan": "'relaxed_order'",
                "ivfflat.max_probes": f"'{_MOST_TIMES_PROBES * probes}'",
            }
        case "none":
            return None


def probes_for(lists: int) -> int:
    """How many of an IVFFlat index's lists a search looks through. Source: pgvector's README, the square root."""
    return ceil(sqrt(lists))
