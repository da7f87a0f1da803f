"""Events are read for ever: golden samples, upcasting, embeddings and names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from events_schema.base import Event
from events_schema.embedding import decode, decode_many, encode
from events_schema.registry import EVENT_TYPES, decode_event
from events_schema.schemas import SAMPLES
from events_schema.streams import collection_stream, is_name, vector_id_fault, vector_stream
from events_schema.upcasters import UnreadableEventError


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*.json")), ids=lambda path: path.stem)
def test_golden_sample_is_read_and_written_back_the_same(sample: Path) -> None:
    event_type, _, version = sample.stem.rpartition(".v")
    data = json.loads(sample.read_text())
    event = decode_event(event_type, int(version), data)
    assert event.event_type == event_type
    if int(version) == EVENT_TYPES[event_type].schema_version:
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


def test_absent_field_means_not_changed_and_null_is_a_value() -> None:
    cleared = decode_event("VectorUpdated", 1, {"id": "a", "content": None})
    untouched = decode_event("VectorUpdated", 1, {"id": "a"})
    assert cleared.event_data() == {"id": "a", "content": None}
    assert untouched.event_data() == {"id": "a"}


float32s = npst.arrays(np.float32, st.integers(1, 40), elements=st.floats(width=32, allow_nan=True))


@given(float32s)
def test_embedding_survives_bit_by_bit(embedding: np.ndarray[Any, np.dtype[np.float32]]) -> None:
    assert decode(encode(embedding)).tobytes() == embedding.astype("<f4").tobytes()


@given(st.integers(1, 8), st.integers(1, 20), st.randoms(use_true_random=False))
def test_many_embeddings_decode_as_each_alone(dimension: int, number: int, random: Any) -> None:
    rows = np.array([[random.uniform(-1, 1) for _ in range(dimension)] for _ in range(number)], dtype=np.float32)
    texts = [encode(row) for row in rows]
    assert np.array_equal(decode_many(texts, dimension), rows)
    assert all(np.array_equal(decode(text), row) for text, row in zip(texts, rows, strict=True))
    with pytest.raises(ValueError, match="differs from the collection's dimension"):
        decode_many(texts, dimension + 1)


@pytest.mark.parametrize("text", ["!", "AAA", "AAAA=", "é"])
def test_text_that_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        decode(text)
    with pytest.raises(ValueError):
        decode_many([text], 1)


@given(st.text(max_size=300))
def test_vector_id_that_passes_can_be_stored_and_addressed(text: str) -> None:
    if vector_id_fault(text) is None:
        assert 1 <= len(text) <= 255
        assert len(text.encode()) <= 512
        assert not set(text) & set("/\x00\x1f\x7f")


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
