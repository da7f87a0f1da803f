"""What is no valid filter is refused with the address of what is wrong; nothing in a filter reaches SQL or a path."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.query.read_model import ReadModel, Row

_ANY_FIXTURE = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
_COUNT = "/api/v1/collections/plain/vectors/count"
_NAMES = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists", "$contains", "$like", "$ilike", "$and",
          "$or", "$not", "$date", "$id", "$content", "$created_at", "$version", "$regex", "a", "a.b")  # fmt: skip


@pytest_asyncio.fixture(scope="module", autouse=True)
async def _plain(read_model: ReadModel, service: httpx.AsyncClient) -> None:
    collection_id = await read_model.create("plain", 2)
    await read_model.put(collection_id, [Row("v", [1.0, 1.0], {"a": {"b": "x"}, "tags": ["x", 1]}, "text")])
    await asyncio.sleep(0.03)


def _nested(operator: str, levels: int) -> dict[str, Any]:
    document: dict[str, Any] = {"a": 1}
    for _ in range(levels):
        document = {operator: document} if operator == "$not" else {operator: [document]}
    return document


def _negated(levels: int) -> dict[str, Any]:
    operators: dict[str, Any] = {"$eq": 1}
    for _ in range(levels):
        operators = {"$not": operators}
    return {"a": operators}


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ([], ""),
        ("a", ""),
        (1, ""),
        ({"a": {"$near": 1}}, "/a/$near"),
        ({"a": {"$regex": "x"}}, "/a/$regex"),
        ({"$gt": 1}, "/$gt"),
        ({"$nor": []}, "/$nor"),
        ({"$where": "true"}, "/$where"),
        ({"$score": 1}, "/$score"),
        ({"a": {}}, "/a"),
        ({"a": [1]}, "/a"),
        ({"a": {"b": 1}}, "/a/b"),
        ({"a": {"$gt": 1, "b": 1}}, "/a/b"),
        ({"a": {"$eq": [1]}}, "/a/$eq"),
        ({"a": {"$eq": {"b": 1}}}, "/a/$eq"),
        ({"a": {"$gt": None}}, "/a/$gt"),
        ({"a": {"$gt": True}}, "/a/$gt"),
        ({"a": {"$lte": [1]}}, "/a/$lte"),
        ({"a": {"$in": "x"}}, "/a/$in"),
        ({"a": {"$in": [1, [2]]}}, "/a/$in/1"),
        ({"a": {"$nin": [{"x": 1}]}}, "/a/$nin/0"),
        ({"a": {"$in": list(range(1001))}}, "/a/$in"),
        ({"$and": [{"a": {"$in": list(range(1000))}}] * 6}, "/$and/5/a/$in/0"),
        ({"a": {"$exists": 1}}, "/a/$exists"),
        ({"a": {"$contains": []}}, "/a/$contains"),
        ({"a": {"$contains": {"$date": "2024-01-01"}}}, "/a/$contains"),
        ({"a": {"$contains": [["x"]]}}, "/a/$contains/0"),
        ({"$content": {"$contains": "x"}}, "/$content/$contains"),
        ({"a": {"$like": 1}}, "/a/$like"),
        ({"a": {"$like": "x\\"}}, "/a/$like"),
        ({"a": {"$ilike": "x\\\\\\"}}, "/a/$ilike"),
        ({"a": {"$like": "%" * 1001}}, "/a/$like"),
        ({"a": {"$not": 1}}, "/a/$not"),
        ({"a": {"$not": {}}}, "/a/$not"),
        ({"a": {"$not": {"$date": "2024-01-01"}}}, "/a/$not"),
        ({"a": {"$date": "yesterday"}}, "/a/$date"),
        ({"a": {"$date": 1}}, "/a/$date"),
        ({"a": {"$date": "0001-01-01"}}, "/a/$date"),
        ({"a": {"$date": "2023-02-29"}}, "/a/$date"),
        ({"a": {"$gt": {"$date": "2024-01-01", "$eq": 1}}}, "/a/$gt"),
        ({"a": {"$date": "2024-01-01", "$gt": 1}}, "/a"),
        ({"$and": []}, "/$and"),
        ({"$or": {}}, "/$or"),
        ({"$or": [1]}, "/$or/0"),
        ({"$or": [{"a": 1}, {"b": {"$x": 1}}]}, "/$or/1/b/$x"),
        ({"$not": {}}, "/$not"),
        ({"$not": [{"a": 1}]}, "/$not"),
        ({"": 1}, "/"),
        ({"a.": 1}, "/a."),
        ({".": 1}, "/."),
        ({"a..b": 1}, "/a..b"),
        ({"a\\b": 1}, "/a\\b"),
        ({"a\\": 1}, "/a\\"),
        ({"a.b.c.d.e.f.g.h.i": 1}, "/a.b.c.d.e.f.g.h.i"),
        ({"a/b~": {"$x": 1}}, "/a~1b~0/$x"),
        ({"a\u0000": 1}, "/a\u0000"),
        ({"a": "\u0000"}, "/a"),
        ({"a": {"$like": "\u0000"}}, "/a/$like"),
        ({"a": 2**63}, "/a"),
        ({"a": {"$in": [0, 10**40]}}, "/a/$in/1"),
        ({"$id": 1}, "/$id"),
        ({"$id": None}, "/$id"),
        ({"$id": {"$contains": "x"}}, "/$id/$contains"),
        ({"$version": "1"}, "/$version"),
        ({"$version": {"$like": "1"}}, "/$version/$like"),
        ({"$created_at": "2024-01-01"}, "/$created_at"),
        ({"$updated_at": {"$gt": 1}}, "/$updated_at/$gt"),
        ({"$content": 1}, "/$content"),
        ({"$id.x": 1}, "/$id.x"),
        (_nested("$and", 8), "/$and/0" * 8),
        (_nested("$or", 8), "/$or/0" * 8),
        (_nested("$not", 8), "/$not" * 8),
        (_negated(8), "/a" + "/$not" * 8),
        ({f"f{n}": 1 for n in range(101)}, "/f100"),
        ({"$or": [{"a": 1}] * 101}, "/$or"),
        ({"a": {"$in": ["x" * 2000] * 600}}, "/a/$in/524"),
    ],
)
async def test_a_filter_that_breaks_a_rule_is_refused_with_the_address(
    service: httpx.AsyncClient, document: Any, pointer: str
) -> None:
    answer = await service.post(_COUNT, json={"filter": document})
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (422, "/problems/invalid-filter"), answer.text
    assert [error["pointer"] for error in problem["errors"]] == [f"/filter{pointer}"]


@pytest.mark.parametrize(
    "document",
    [
        None,
        {},
        {"$and": [{}]},
        {"a": {"$in": []}},
        {"a": {"$in": list(range(1000))}},
        {"a": {"$contains": list(range(1000))}},
        {"a": {"$like": "%_" * 500}},
        {"a": {"$ilike": "%é" * 500}},
        {"$content": {"$ilike": "%é" * 500}},
        {"a.b.c.d.e.f.g.h": 1},
        _nested("$and", 7),
        _nested("$or", 7),
        _nested("$not", 7),
        _negated(7),
        {f"f{n}": 1 for n in range(100)},
        {"$or": [{"a": {"$gt": n}} for n in range(100)]},
    ],
)
async def test_a_filter_at_its_limits_is_answered(service: httpx.AsyncClient, document: Any) -> None:
    answer = await service.post(_COUNT, json={"filter": document})
    assert answer.status_code == 200, answer.text


_leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.sampled_from(["2024-01-01", "x", "'", '"', "\\", "%", "$.a", "') OR true --"]),
)
_documents = st.recursive(
    st.dictionaries(st.sampled_from(_NAMES), _leaves, max_size=2),
    lambda inner: st.dictionaries(
        st.one_of(st.sampled_from(_NAMES), st.sampled_from(_NAMES), st.text(max_size=5)),
        st.one_of(inner, st.lists(st.one_of(inner, _leaves), max_size=3), _leaves),
        max_size=3,
    ),
    max_leaves=8,
)


@given(document=_documents)
@settings(max_examples=400, deadline=None, suppress_health_check=_ANY_FIXTURE)
async def test_whatever_is_sent_is_answered_or_refused_at_a_place_that_is_there(
    service: httpx.AsyncClient, document: dict[str, Any]
) -> None:
    answer = await service.post(_COUNT, json={"filter": document})
    if answer.status_code == 200:
        return
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (422, "/problems/invalid-filter"), (document, answer.text)
    [error] = problem["errors"]
    assert error["detail"]
    at: Any = {"filter": document}
    for part in error["pointer"].split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        at = at[int(name)] if isinstance(at, list) else at[name]


_texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(name=_texts, text=_texts)
@example(name="'; DROP TABLE collections; --", text="' OR true --")
@example(name='a" == 1 || "a', text='" || true || "')
@example(name="$.*", text='x" ? (@ == 1)')
@example(name="%(param_1)s", text="$1")
@example(name="{id}", text="\\u0041")
@example(name="***:(?i)x", text="(?i)***=")
@settings(max_examples=60, deadline=None, suppress_health_check=_ANY_FIXTURE)
async def test_any_name_and_any_text_stand_for_themselves(
    service: httpx.AsyncClient, read_model: ReadModel, name: str, text: str
) -> None:
    written = "".join(f"\\{character}" if character in ".\\$" else character for character in name)
    pattern = "".join(f"\\{character}" if character in "%_\\" else character for character in text)
    rows = [Row("v", [1.0, 1.0], {name: text}), Row("w", [1.0, 1.0], {name: f"{text}."}), Row("x", [1.0, 1.0])]
    await read_model.put(read_model.ids["plain"], rows)
    for condition, count in [
        (text, 1),
        ({"$ne": text}, 2),
        ({"$in": [text, f"{text}."]}, 2),
        ({"$like": pattern}, 1),
        ({"$like": f"{pattern}%"}, 2),
        ({"$contains": text}, 0),
        ({"$gte": text}, 2),
        ({"$exists": True}, 2),
    ]:
        answer = await service.post(_COUNT, json={"filter": {written: condition}, "max_staleness_ms": 0})
        assert answer.status_code == 200, answer.text
        assert answer.json()["count"] == count, condition
