"""JSON as it is accepted from outside: what could poison a shared batch or a Postgres jsonb is refused here."""

from __future__ import annotations

import json
import math
from typing import Any

import jiter
import orjson

MAX_DEPTH = 8
_INT64 = range(-(2**63), 2**63)


class MalformedJsonError(Exception):
    """The body is not JSON, or it is JSON whose meaning is uncertain (a key twice, half a surrogate pair)."""


class JsonValueError(Exception):
    """A value is JSON but cannot be stored. `pointer` is its RFC 6901 address below the value examined."""

    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__(detail)
        self.pointer = pointer
        self.detail = detail


def parse_json(body: bytes) -> Any:
    """
    Raises:
        MalformedJsonError: with a sentence that says what and where.
    """
    try:
        return jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True, cache_mode="keys")
    except ValueError as error:
        raise MalformedJsonError(_explain(body, str(error))) from error


def _explain(body: bytes, message: str) -> str:
    if "surrogate" in message or "hex escape" in message:
        # The fast parser names line and column only; a second look finds the field.
        try:
            where = _lone_surrogate(json.loads(body), "")
        except (ValueError, RecursionError):
            where = None
        if where is not None:
            return f"lone surrogate in the string at {where or '/'}: {message}"
    if "recursion limit" in message:
        return f"nested too deeply: {message}"
    if "Detected duplicate key" in message:
        return message.replace("Detected duplicate key", "duplicate key")
    return message


def _lone_surrogate(value: Any, pointer: str) -> str | None:
    match value:
        case str():
            return pointer if any("\ud800" <= character <= "\udfff" for character in value) else None
        case dict():
            for key, item in value.items():
                if _lone_surrogate(key, "") is not None:
                    return pointer
                found = _lone_surrogate(item, f"{pointer}/{_escape(key)}")
                if found is not None:
                    return found
        case list():
            for index, item in enumerate(value):
                found = _lone_surrogate(item, f"{pointer}/{index}")
                if found is not None:
                    return found
        case _:
            pass
    return None


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def check_text(text: str, pointer: str = "") -> None:
    """
    Raises:
        JsonValueError: the text holds NUL or half a surrogate pair, which PostgreSQL cannot store.
    """
    if "\x00" in text:
        raise JsonValueError(pointer, "text must not contain NUL (U+0000)")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise JsonValueError(pointer, "text must not contain lone surrogates") from None


def check_storable(value: Any, pointer: str = "", *, depth: int = 0, max_depth: int = MAX_DEPTH) -> None:
    """Whether jsonb keeps the value exactly: no NUL, integers of 64 bits, finite float64, bounded nesting.

    Raises:
        JsonValueError: names the first value that breaks a rule.
    """
    match value:
        case None | bool():
            return
        case str():
            check_text(value, pointer)
        case int():
            if value not in _INT64:
                raise JsonValueError(pointer, "an integer must fit into 64 bits")
        case float():
            if not math.isfinite(value):
                raise JsonValueError(pointer, "a number must be a finite 64-bit float")
        case dict():
            if depth >= max_depth:
                raise JsonValueError(pointer, f"nested deeper than {max_depth} levels")
            for key, item in value.items():
                check_text(key, pointer)
                check_storable(item, f"{pointer}/{_escape(key)}", depth=depth + 1, max_depth=max_depth)
        case list():
            if depth >= max_depth:
                raise JsonValueError(pointer, f"nested deeper than {max_depth} levels")
            for index, item in enumerate(value):
                check_storable(item, f"{pointer}/{index}", depth=depth + 1, max_depth=max_depth)
        case _:
            raise JsonValueError(pointer, f"{type(value).__name__} is no JSON value")


def stored_size(value: Any) -> int:
    """Bytes of a storable value as the database writes it, but for the spaces behind commas and colons: it knows no
    exponents, so 1e308 has 309 digits there."""
    return len(orjson.dumps(value)) + _digits_instead_of_exponents(value)


def _digits_instead_of_exponents(value: Any) -> int:
    match value:
        case float():
            exponent = repr(value).partition("e")[2]
            return abs(int(exponent)) if exponent else 0
        case dict():
            return sum(map(_digits_instead_of_exponents, value.values()))
        case list():
            return sum(map(_digits_instead_of_exponents, value))
        case _:
            return 0
