"""Random vectors and random filters over them, from few names and values, so that many match."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from tests.query.plain_filter import DATES, Paths

_Values = st.SearchStrategy[Any]

_AWKWARD = 'it\'s \\ "q" %s $1 :x {0} /~'

PATHS: Paths = {
    "a": ("a",),
    "a.b": ("a", "b"),
    "a.b.a": ("a", "b", "a"),
    "id": ("id",),
    r"\$id": ("$id",),
    r"a\.b": ("a.b",),
    "ü.日本": ("ü", "日本"),
    "0": ("0",),
    _AWKWARD.replace("\\", "\\\\"): (_AWKWARD,),
}

_NUMBERS = (0, 1, 1.0, -1, 2.5, 10, -0.0, 1e-7, 1e300, 2**53 + 1, float(2**53), 2**63 - 1, -(2**63), 9.1e18 + 1024,
            9100000000000001024)  # fmt: skip
_STRINGS = ("", "a", "A", "ab", "aB", "a%b", "a_b", "a\\b", "a\nb", "É", "é", "1", "0", "true", "null", "'", '"',
            "%", "_", "\\", "$1", "日本", "\U0001f600", "\U0010ffff", "\U0010ffffa", "x" * 256, "x" * 257, ".*",
            "(a")  # fmt: skip
SCALARS = (None, True, False, *_NUMBERS, *_STRINGS, *DATES)
INSTANTS = sorted({instant for instant in DATES.values() if instant is not None and 1900 < instant.year < 9999})


def every_shape(number: int, value: Any) -> dict[str, Any]:
    """Metadata with the value in every place in which a filter may or may not find it, in the fields of `PATHS`."""
    others = [SCALARS[number * 7 % len(SCALARS)], SCALARS[number * 11 % len(SCALARS)]]
    return {
        "id": value,
        "$id": [*others, value],
        "0": value if number % 2 else [],
        "a.b": [[value], others],
        "a": {"b": value} if number % 2 else [{"b": value}, {"b": {"a": value}}, value],
        "ü": [{"日本": [value, [1]]}, {"日本": others}, [{"日本": value}]],
        _AWKWARD: value if number % 3 else {"$eq": value},
    }


scalars = st.sampled_from(SCALARS)
_texts = st.sampled_from(_STRINGS)
_names = st.sampled_from(sorted({name for path in PATHS.values() for name in path}))
_leaves = st.one_of(scalars, st.lists(st.one_of(scalars, st.lists(scalars, max_size=1)), max_size=3))
_inner = st.dictionaries(_names, _leaves, max_size=2)
_outer = st.dictionaries(_names, st.one_of(_leaves, _inner, st.lists(_inner, max_size=2)), max_size=2)
metadata = st.dictionaries(
    _names, st.one_of(_leaves, _outer, st.lists(st.one_of(_outer, scalars), max_size=2)), max_size=4
)
contents = st.one_of(st.none(), _texts)
instants = st.sampled_from(INSTANTS)

_dates = st.sampled_from([{"$date": text} for text, instant in DATES.items() if instant in INSTANTS])
_patterns = st.lists(
    st.sampled_from(["a", "B", "é", "%", "_", r"\%", r"\_", r"\\", r"\a", ".", "(", "\n", "日"]), max_size=4
).map("".join)


def _operators(equal: _Values, ordered: _Values) -> dict[str, _Values]:
    lists = st.one_of(st.lists(equal, max_size=4), st.lists(equal, min_size=9, max_size=40))
    return {
        **dict.fromkeys(("$eq", "$ne"), equal),
        **dict.fromkeys(("$in", "$nin"), lists),
        **dict.fromkeys(("$gt", "$gte", "$lt", "$lte"), ordered),
        "$exists": st.booleans(),
    }


_like = dict.fromkeys(("$like", "$ilike"), _patterns)
_like_ids = dict.fromkeys(("$like", "$ilike"), st.sampled_from(["r_2", "R1%", "%"]))
_contains = {"$contains": st.one_of(scalars, st.lists(scalars, min_size=1, max_size=2))}
_any_value = st.one_of(scalars, _dates)
_ordered_value = st.one_of(st.sampled_from([*_NUMBERS, *_STRINGS, *DATES]), _dates)
_ids = st.sampled_from([*(f"r{n:02}" for n in range(0, 30, 3)), "r1"])
_versions = st.sampled_from([1, 2, 2.0, 2.5, 3, -1, 2**40])

_OF_METADATA = {**_operators(_any_value, _ordered_value), **_like, **_contains}
_OPERATORS: Mapping[str, Mapping[str, _Values]] = {
    **dict.fromkeys(PATHS, _OF_METADATA),
    "$id": {**_operators(_ids, _ids), **_like_ids},
    "$content": {**_operators(contents, _texts), **_like},
    "$created_at": _operators(_dates, _dates),
    "$updated_at": _operators(_dates, _dates),
    "$version": _operators(_versions, _versions),
}


@st.composite
def conditions(draw: st.DrawFn) -> dict[str, Any]:
    """One operator on one field."""
    field = draw(st.sampled_from(sorted(_OPERATORS)))
    operator = draw(st.sampled_from(sorted(_OPERATORS[field])))
    return {field: {operator: draw(_OPERATORS[field][operator])}}


@st.composite
def _fields(draw: st.DrawFn) -> dict[str, Any]:
    """Several conditions side by side, some of them on one field, some negated there, some with $eq left out."""
    fields: dict[str, Any] = {}
    for one in draw(st.lists(conditions(), min_size=1, max_size=3)):
        [(field, operators)] = one.items()
        shape = draw(st.sampled_from(["as it is", "negated", "bare"]))
        if shape == "negated":
            operators = {"$not": operators}
        if shape == "bare" and "$eq" in operators and field not in fields:
            fields[field] = operators["$eq"]
        elif isinstance(fields.setdefault(field, {}), dict) and "$date" not in fields[field]:
            fields[field].update(operators)
    return fields


def _joined(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    several = st.lists(inner, min_size=1, max_size=3)
    return st.fixed_dictionaries({}, optional={"$and": several, "$or": several, "$not": inner.filter(bool)})


filters = st.one_of(_fields(), st.recursive(_fields(), _joined, max_leaves=4))
