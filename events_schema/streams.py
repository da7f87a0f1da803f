"""Names of streams and collections, and the ids that follow from them."""

from __future__ import annotations

import re
import unicodedata
from uuid import UUID, uuid5

NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"
DEFAULT_COLLECTION = "default"

MAX_VECTOR_ID_CHARACTERS = 255
MAX_VECTOR_ID_BYTES = 512
RESERVED_VECTOR_IDS = frozenset({"search", "batch", "import", "count", "scroll", "recommend", "delete", "patch"})

_STREAMS = UUID("5f0c6a3e-6f0b-5c1e-9a52-41f7f2f1b6d0")
_CONTROL_OR_SURROGATE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_NAME = re.compile(NAME_PATTERN.removesuffix("$") + r"\Z")


def collection_stream(tenant: str, name: str) -> UUID:
    """The stream of every collection, past and present, that bears this name, and of the alias, if it is one."""
    return uuid5(uuid5(_STREAMS, tenant), name)


def vector_stream(collection_id: UUID, vector_id: str) -> UUID:
    return uuid5(collection_id, vector_id)


def skip_stream(event_id: UUID) -> UUID:
    """The stream of the decision that projections pass over the event with this id: its only event is of version 1."""
    return uuid5(event_id, "skip")


def is_name(text: str) -> bool:
    """Whether the text can name a collection, an alias or a tenant."""
    return _NAME.match(text) is not None


def vector_id_fault(vector_id: str) -> str | None:
    """Which rule for vector ids the text breaks, as a sentence; None if it is a vector id."""
    if not 1 <= len(vector_id) <= MAX_VECTOR_ID_CHARACTERS:
        return f"an id has 1 to {MAX_VECTOR_ID_CHARACTERS} characters, this one has {len(vector_id)}"
    if _CONTROL_OR_SURROGATE.search(vector_id):
        return "an id contains no control characters and no lone surrogates"
    size = len(vector_id.encode())
    if size > MAX_VECTOR_ID_BYTES:
        return f"an id has at most {MAX_VECTOR_ID_BYTES} bytes of UTF-8, this one has {size}"
    if "/" in vector_id or vector_id in {".", ".."}:
        return "an id contains no '/' and is not '.' or '..'"
    if vector_id in RESERVED_VECTOR_IDS:
        return f"'{vector_id}' is reserved: it is part of a route"
    if not unicodedata.is_normalized("NFC", vector_id):
        return "an id is in Unicode normalization form NFC"
    return None
