"""Parts of pages that are made from the code when the site is built, so that they cannot go stale.

A page says where with a comment of its own, such as `<!-- generated: settings -->`, which is not seen elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial

from docs.builder.api_reference import operations, tags
from docs.builder.errors import UnknownPartError
from docs.builder.event_reference import event_types
from docs.builder.metrics_reference import METRICS_PROCESSES, metrics_of
from docs.builder.settings_reference import SETTINGS_GROUPS, settings_of

_MARKER = re.compile(r"^<!-- generated: (.*) -->$", re.MULTILINE)


def with_generated_parts(text: str) -> str:
    """
    Raises:
        GenerationError: a part that nothing generates, or that lacks something in the code.
    """
    return _MARKER.sub(lambda found: _generated(found[1]), text)


def unshown_parts(pages: Iterable[str]) -> list[str]:
    """Parts that none of the pages with these texts shows."""
    shown = {part for text in pages for part in _MARKER.findall(text)}
    return sorted(_parts().keys() - shown)


@cache
def _parts() -> Mapping[str, Callable[[], str]]:
    return {
        **{f"operations {tag}": partial(operations, tag) for tag in tags()},
        "event types": event_types,
        **{f"settings {group}": partial(settings_of, group) for group in SETTINGS_GROUPS},
        **{f"metrics {process}": partial(metrics_of, process) for process in METRICS_PROCESSES},
    }


def _generated(part: str) -> str:
    if part not in _parts():
        raise UnknownPartError(part)
    return _parts()[part]()
