"""Links of the built site: everything it refers to is in it, and it fetches nothing from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_FETCHING = {("script", "src"), ("link", "href"), ("img", "src"), ("source", "src"), ("iframe", "src")}
_FOREIGN_IN_CSS = re.compile(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", re.IGNORECASE)


@dataclass
class _Page(HTMLParser):
    """What a page offers (`anchors`) and asks for (`links`, of which `fetched` are loaded with it)."""

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if value is None:
                continue
            if name == "id":
                self.anchors.add(value)
            elif (tag, name) in _FETCHING:
                self.fetched.append(value)
            elif (tag, name) == ("a", "href"):
                self.links.append(value)


def faults_of_site(site: Path) -> list[str]:
    """Links that lead nowhere and assets that are not the site's own, as sentences."""
    pages = {path: _read(path) for path in sorted(site.rglob("*.html"))}
    return [
        *(fault for path, page in pages.items() for fault in _faults(site, path, page, pages)),
        *(
            f"{path.relative_to(site)} fetches from elsewhere"
            for path in sorted(site.rglob("*.css"))
            if _FOREIGN_IN_CSS.search(path.read_text())
        ),
    ]


def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text())
    return page


def _faults(site: Path, path: Path, page: _Page, pages: dict[Path, _Page]) -> Iterator[str]:
    here = path.relative_to(site)
    for target in (*page.links, *page.fetched):
        parts = urlsplit(target)
        if parts.scheme or parts.netloc:
            if target in page.fetched and parts.scheme != "data":
                yield f"{here} fetches {target}, which is not the site's own"
            continue
        aim = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if not aim.is_file():
            yield f"{here}: the link {target} leads to no file of the site"
        elif parts.fragment and aim in pages and unquote(parts.fragment) not in pages[aim].anchors:
            yield f"{here}: the link {target} leads to no place of that page"
