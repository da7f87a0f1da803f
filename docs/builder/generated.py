"""Parts of pages that are made from the code when the site is built, so that they cannot go stale.

A page says where with a comment of its own, such as `<!-- generated: settings -->`, which is not seen elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial

from docs.builder.api_reference import operations
from docs.builder.errors import UnknownPartError
from docs.builder.metrics_reference import METRICS_PROCESSES, metrics_of
from docs.builder.settings_reference import SETTINGS_GROUPS, settings_of

_MARKER = re.compile(r"^<!-- generated: (.*) -->$", re.MULTILINE)

_PARTS: Mapping[str, Callable[[], str]] = {
    **{f"operations {tag}": partial(operations, tag) for tag in ("collections", "vectors")},
    **{f"settings {group}": partial(settings_of, group) for group in SETTINGS_GROUPS},
    **{f"metrics {process}": partial(metrics_of, process) for process in METRICS_PROCESSES},
}


def with_generated_parts(text: str) -> str:
    """
    Raises:
        GenerationError: a part that nothing generates, or that lacks something in the code.
    """
    return _MARKER.sub(lambda found: _generated(found[1]), text)


def _generated(part: str) -> str:
    if part not in _PARTS:
        raise UnknownPartError(part)
    return _PARTS[part]()
