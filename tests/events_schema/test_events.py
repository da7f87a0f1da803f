"""Events are read for ever: golden samples, upcasting, embeddings and names."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from events_schema.base import Event
from events_schema.embedding import Float32Array, decode, decode_many, encode
from events_schema.registry import EVENT_TYPES, decode_event
from events_schema.schemas import SAMPLES, told_by
from events_schema.streams import RESERVED_VECTOR_IDS, collection_stream, is_name, vector_id_fault, vector_stream
from events_schema.upcasters import UnreadableEventError


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*.json")), ids=lambda path: path.stem)
def test_golden_sample_is_read_and_written_back_the_same(sample: Path) -> None:
    event_type, version = told_by(sample)
    data = json.loads(sample.read_text())
    event = decode_event(event_type, version, data)
    assert event.event_type == event_type
    if version == EVENT_TYPES[event_type].schema_version:
        assert event.event_data() == data


class Renamed(Event):
    """An event that had `title` (v1), then `name` (v2), and now `name` with `language` (v3)."""

    event_type: ClassVar[str] = "Renamed"
    schema_version: ClassVar[int] = 3

    name: str
    language: str


def _title_became_name(data: dict[str, Any]) -> dict[str, Any]:
    return {**{key: value for key, value in data.items() if key != "title"}, "name": data["title"]}


def _language_was_added(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "language": "en"}


TYPES = {"Renamed": Renamed}
CHAIN = {("Renamed", 1): _title_became_name, ("Renamed", 2): _language_was_added}


@pytest.mark.parametrize(
    ("version", "data"),
    [(1, {"title": "a"}), (2, {"name": "a"}), (3, {"name": "a", "language": "en"})],
)
def test_every_old_version_is_read_as_the_newest(version: int, data: dict[str, Any]) -> None:
    before = dict(data)
    event = decode_event("Renamed", version, data, event_types=TYPES, upcasters=CHAIN)
    assert event == Renamed(name="a", language="en")
    assert data == before


@pytest.mark.parametrize(
    ("event_type", "version", "data", "says"),
    [
        ("Unheard", 1, {}, "unknown"),
        ("Renamed", 4, {"name": "a", "language": "en"}, "reads up to 3"),
        ("Renamed", 0, {"title": "a"}, "no upcaster from schema version 0"),
        ("Renamed", 3, {"name": "a"}, "language"),
        ("Renamed", 3, {"name": "a", "language": "en", "more": 1}, "more"),
    ],
)
def test_event_that_cannot_be_understood_is_refused_with_the_reason(
    event_type: str, version: int, data: dict[str, Any], says: str
) -> None:
    with pytest.raises(UnreadableEventError, match=says):
        decode_event(event_type, version, data, event_types=TYPES, upcasters=CHAIN)


def test_chain_with_a_missing_step_reads_only_what_lies_behind_it() -> None:
    broken = {("Renamed", 1): _title_became_name}
    with pytest.raises(UnreadableEventError, match="no upcaster from schema version 2"):
        decode_event("Renamed", 1, {"title": "a"}, event_types=TYPES, upcasters=broken)
    whole = {"name": "a", "language": "en"}
    assert decode_event("Renamed", 3, whole, event_types=TYPES, upcasters=broken) == Renamed(**whole)


def test_absent_field_means_not_changed_and_null_is_a_value() -> None:
    cleared = decode_event("VectorUpdated", 1, {"id": "a", "content": None})
    untouched = decode_event("VectorUpdated", 1, {"id": "a"})
    assert cleared.event_data() == {"id": "a", "content": None}
    assert untouched.event_data() == {"id": "a"}


# Every bit pattern: subnormals, both zeros, infinities, and NaN with any payload.
bit_patterns = st.integers(0, 2**32 - 1) | st.sampled_from(
    [0x00000001, 0x007FFFFF, 0x80000001, 0x00800000, 0x80000000, 0x7F800000, 0x7F800001, 0xFFC12345]
)


def of_bits(rows: list[list[int]]) -> Float32Array:
    return np.array(rows, dtype="<u4").view("<f4")


@given(st.lists(bit_patterns, min_size=1, max_size=40))
@example([0x00000001, 0x80000000, 0x7F800001])
def test_embedding_survives_bit_by_bit(bits: list[int]) -> None:
    embedding = of_bits([bits])[0]
    assert decode(encode(embedding)).tobytes() == embedding.tobytes()
    assert decode(encode(embedding.astype(">f4"))).tobytes() == embedding.tobytes()


@given(st.integers(1, 8).flatmap(lambda n: st.lists(st.lists(bit_patterns, min_size=n, max_size=n), max_size=20)))
def test_many_embeddings_decode_as_each_alone(rows: list[list[int]]) -> None:
    dimension = len(rows[0]) if rows else 3
    texts = [encode(row) for row in of_bits(rows)] if rows else []
    together = decode_many(texts, dimension)
    assert together.shape == (len(rows), dimension)
    assert [row.tobytes() for row in together] == [decode(text).tobytes() for text in texts]
    if rows:
        with pytest.raises(ValueError, match="differs from the collection's dimension"):
            decode_many(texts, dimension + 1)


@pytest.mark.parametrize("text", ["!", "AAA", "AAAA=", "é"])
def test_text_that_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        decode(text)
    with pytest.raises(ValueError):
        decode_many([text], 1)


texts = st.text(st.characters(), max_size=300) | st.text(
    st.sampled_from("a/.é\u0301\x00\x7f\x85\ud800漢😀"), max_size=300
)


@given(texts | st.sampled_from(sorted(RESERVED_VECTOR_IDS | {".", "..", "...", "\u212b"})))
@example("a" * 255)
@example("a" * 256)
@example("😀" * 128)
@example("😀" * 129)
def test_vector_ids_are_exactly_what_the_rule_says(text: str) -> None:
    allowed = (
        1 <= len(text) <= 255
        and all(unicodedata.category(character) not in ("Cc", "Cs") and character != "/" for character in text)
        and len(text.encode("utf-8", "surrogatepass")) <= 512
        and text not in (".", "..")
        and text not in ("search", "batch", "import", "count", "scroll", "recommend", "delete", "patch")
        and unicodedata.normalize("NFC", text) == text
    )
    assert (vector_id_fault(text) is None) == allowed


@pytest.mark.parametrize("name", ["a", "0", "a_b-c", "a" * 63])
def test_name_within_the_rule_is_a_name(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize("name", ["", "A", "-a", "_a", "a" * 64, "a\n", "ä", "a b", "a.b"])
def test_name_outside_the_rule_is_none(name: str) -> None:
    assert not is_name(name)


def test_streams_of_tenants_names_and_collections_are_apart() -> None:
    first, second = collection_stream("one", "name"), collection_stream("two", "name")
    streams = {first, second, collection_stream("one", "other"), vector_stream(first, "a"), vector_stream(second, "a")}
    assert len(streams) == 5
