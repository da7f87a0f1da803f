"""`/problems/<name>`: where the `type` of a problem leads whoever opens it.

The pages are those of docs/problems, to which the folder `problem_pages` beside this file is a link.
"""

from __future__ import annotations

import re
from functools import cache
from html import escape
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from shared.http.problems import PROBLEMS

PATH = "/problems"
_PAGES = Path(__file__).with_name("problem_pages")
_LIST = "README"
_PAGE_LINK = re.compile(r"([a-z-]+|README)\.md\Z")
_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}

_HTML = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1rem/1.6 system-ui, sans-serif; max-width: 42rem; margin: 2rem auto; padding: 0 1rem; }}
code {{ font: 0.9em ui-monospace, monospace; overflow-wrap: anywhere; }}
table {{ border-collapse: collapse; }}
th, td {{ text-align: left; vertical-align: top; padding: 0.2rem 1rem 0.2rem 0; }}
</style>
</head>
<body>
{navigation}
{body}
</body>
</html>
"""
_TO_THE_LIST = f'<p><a href="{PATH}">All problems</a></p>'


@cache
def problem_page(name: str | None) -> HTMLResponse | None:
    """The page of a problem, or of the list of all for None; None where there is no such page."""
    if name is not None and name not in PROBLEMS:
        return None
    try:
        text = (_PAGES / f"{name or _LIST}.md").read_text()
    except FileNotFoundError:
        return None
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    for token in tokens:
        _lead_links(token.children or [])
    html = _HTML.format(
        title=escape(name or "Problems"),
        navigation="" if name is None else _TO_THE_LIST,
        body=markdown.renderer.render(tokens, markdown.options, {}),
    )
    return HTMLResponse(html, headers=_HEADERS)


def _lead_links(inline: list[Token]) -> None:
    """Links between pages to their routes; one to another part of the documentation, which is not served here,
    becomes plain text."""
    is_text = False
    for token in inline:
        if token.type == "link_open":
            page = _PAGE_LINK.match(str(token.attrGet("href")))
            is_text = page is None
            if page is not None:
                token.attrSet("href", PATH if page[1] == _LIST else f"{PATH}/{page[1]}")
        if is_text and token.type in ("link_open", "link_close"):
            token.tag, token.attrs = "span", {}


def problem_page_routes() -> list[Route]:
    """Public, like the documents of a service, and no part of its API."""
    return [Route(PATH, _page), Route(f"{PATH}/{{name}}", _page)]


async def _page(request: Request) -> HTMLResponse:
    page = problem_page(request.path_params.get("name"))
    if page is None:
        raise HTTPException(404)
    return page
