"""What is added to Sphinx: navigation, generated parts of pages, and pages that show the code which is linked to."""

from __future__ import annotations

import logging
from typing import TypedDict

import structlog
from sphinx.application import Sphinx

from docs.builder.code_pages import CodePages
from docs.builder.generated import with_generated_parts
from docs.builder.navigation import navigation_of


class _Metadata(TypedDict):
    parallel_read_safe: bool
    parallel_write_safe: bool


def setup(app: Sphinx) -> _Metadata:
    # The processes are asked for what they offer; their log lines about it are of no interest here.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    code_pages = CodePages()
    app.connect("source-read", _read)
    # Before Sphinx itself looks at what a page links to.
    app.connect("doctree-read", code_pages.lead_links, priority=100)
    app.connect("html-collect-pages", code_pages.collect)
    return {"parallel_read_safe": False, "parallel_write_safe": False}


def _read(app: Sphinx, docname: str, source: list[str]) -> None:
    source[0] = with_generated_parts(source[0]) + navigation_of(docname)
