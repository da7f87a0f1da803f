"""Links of every Markdown file of the repository, as whoever reads the files themselves follows them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.anchors import anchors_plugin

from docs.builder.generated import with_generated_parts
from docs.builder.repository import ROOT, is_in_repository, repository_files


def faults_of_repository() -> list[str]:
    """Links that lead nowhere, as sentences. Those to other hosts are not followed."""
    pages = sorted(file for file in repository_files() if file.suffix == ".md")
    return [fault for page in pages for fault in faults_of_page(page, page.read_text())]


def faults_of_page(page: Path, text: str) -> Iterator[str]:
    """Those of a page with this text at this place."""
    here = page.relative_to(ROOT)
    for target in _links(text):
        parts = urlsplit(target)
        if parts.scheme or parts.netloc:
            continue
        aim = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        if parts.path and not is_in_repository(aim):
            yield f"{here}: the link {target} leads to no file or folder of the repository"
        elif parts.fragment and parts.fragment not in (_anchors_of(aim) if parts.path else _anchors(text)):
            yield f"{here}: the link {target} leads to no heading"


def _tokens(text: str) -> list[Token]:
    markdown = MarkdownIt("commonmark").enable("table").use(anchors_plugin, max_level=6)
    return markdown.parse(with_generated_parts(text))


def _links(text: str) -> Iterator[str]:
    for token in _tokens(text):
        for inline in token.children or ():
            target = inline.attrGet("href") or inline.attrGet("src")
            if target:
                yield str(target)


@cache
def _anchors_of(page: Path) -> set[str]:
    return _anchors(page.read_text()) if page.suffix == ".md" else set()


def _anchors(text: str) -> set[str]:
    return {str(token.attrGet("id")) for token in _tokens(text) if token.type == "heading_open"}
