"""Conditions on metadata as jsonpath predicates, for the operator `@@`.

In jsonpath's lax mode, which is the default, an array on the way stands for its elements, and so does one that is
compared; comparing values of different types is neither true nor false. That is the meaning of the filters, and the GIN
index (jsonb_path_ops) answers `==` in it. Names and values are written as JSON strings, which end where they end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal

import orjson

Comparison = Literal[">", ">=", "<", "<="]

_LEAF = 8
"""So many alternatives are tried one after another."""


def accessor(path: Sequence[str]) -> str:
    return ".".join(("$", *map(_literal, path)))


def elements(path: Sequence[str]) -> str:
    """The values themselves, of an array its elements."""
    return f"{accessor(path)}[*]"


def exists(path: Sequence[str]) -> str:
    return f"exists({accessor(path)})"


def compares(path: Sequence[str], comparison: Comparison, value: str | float) -> str:
    return f"{accessor(path)} {comparison} {_literal(value)}"


def is_one_of(path: Sequence[str], values: Sequence[Any]) -> str:
    """Strings and numbers are searched for by halving, so that a thousand cost ten comparisons and not a thousand.
    null also stands for a field that is not there."""
    field = accessor(path)
    strings = sorted({value for value in values if isinstance(value, str)})
    # In order of what is written, as PostgreSQL reads it: a float's decimals are not its binary value.
    numbers = {Decimal(_literal(value)): value for value in values if _is_number(value)}
    ordered_numbers = [numbers[decimal] for decimal in sorted(numbers)]
    alternatives = [_search(field, ordered) for ordered in (strings, ordered_numbers) if ordered]
    alternatives += [f"{field} == {_literal(value)}" for value in (True, False) if any(value is one for one in values)]
    if None in values:
        alternatives += [f"{field} == null", f"!{exists(path)}"]
    return " || ".join(alternatives)


def holds_all(path: Sequence[str], values: Sequence[Any]) -> str:
    field = accessor(path)
    return " && ".join(f"{field} == {_literal(value)}" for value in values)


def _search(field: str, ordered: Sequence[str | float]) -> str:
    if len(ordered) <= _LEAF:
        return " || ".join(f"{field} == {_literal(value)}" for value in ordered)
    middle = len(ordered) // 2
    pivot = _literal(ordered[middle])
    below, above = _search(field, ordered[:middle]), _search(field, ordered[middle:])
    return f"{field} < {pivot} && ({below}) || {field} >= {pivot} && ({above})"


def is_like(path: Sequence[str], pattern: str, *, ignore_case: bool) -> str:
    """`pattern` as in SQL: % for any text, _ for one character, a backslash takes the next character literally."""
    expression = re.sub(r"\\(.)|(%+)|(_)|(.)", _translated, pattern, flags=re.DOTALL)
    return f'{accessor(path)} like_regex {_literal(f"^{expression}$")} flag "{"si" if ignore_case else "s"}"'


def _translated(part: re.Match[str]) -> str:
    escaped, any_text, any_character, plain = part.groups()
    if any_text:
        return ".*"
    return "." if any_character else re.escape(escaped or plain)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _literal(value: Any) -> str:
    return orjson.dumps(value).decode()
