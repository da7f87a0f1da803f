"""Values of a statement, bound one after another as it is put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Binder = Callable[[Any, str], str]
"""Takes a value and its SQL type, and gives the parameter's text."""


def binder(values: list[Any]) -> Binder:
    """Appends to `values`, whose first stands for `$1`."""

    def bind(value: Any, sql_type: str) -> str:
        values.append(value)
        return f"${len(values)}::{sql_type}"

    return bind
