"""The order of the pages. It stands here and not in the pages, which are read as plain Markdown too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_BELOW: Mapping[str, Sequence[tuple[str, Sequence[str]]]] = {
    "index": (
        ("Use it", ("quickstart", "clients/README", "concepts/README", "api/README", "problems/README")),
        ("Run it", ("operations/README",)),
        ("How it is made", ("architecture", "decisions/README")),
    ),
    "concepts/README": (
        (
            "",
            (
                "events",
                "positions",
                "freshness",
                "collections",
                "writing",
                "expiry",
                "embeddings",
                "asking",
                "time-travel",
                "filters",
                "text-embedding",
                "another-model",
                "generations",
            ),
        ),
    ),
    "clients/README": (("", ("python", "command-line", "typescript")),),
    "api/README": (("", ("collections", "aliases", "vectors", "history", "snapshots", "health")),),
    "operations/README": (
        ("", ("settings", "metrics", "databases", "replay", "kafka", "pgbouncer", "failover", "backups")),
    ),
    "problems/README": (("", ("*",)),),
    "decisions/README": (("", ("*",)),),
}
"""Page -> groups of the pages below it, each with its caption; a star stands for all others of the folder."""


def navigation_of(docname: str) -> str:
    """The page's part of the navigation, in Sphinx's words."""
    return "".join(
        "\n\n```{toctree}\n:hidden:\n"
        + (f":caption: {caption}\n" if caption else "")
        + (":glob:\n" if "*" in pages else "")
        + "\n".join(("", *pages))
        + "\n```\n"
        for caption, pages in _BELOW.get(docname, ())
    )
