"""A link that leads nowhere is found: between files as they lie, and between pages as they are built."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.builder.built_links import faults_of_site
from docs.builder.markdown_links import faults_of_page, faults_of_repository
from docs.builder.repository import DOCS, ROOT


def test_every_link_of_the_repository_leads_somewhere() -> None:
    assert faults_of_repository() == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[a](quickstart.md)", 0),
        ("[a](quickstart.md#writing) [b](#here)\n\n# Here", 0),
        ("[a](../shared/http/problems.py) [b](../shared/http) [c](https://example.org/nowhere)", 0),
        ("[a](api/vectors.md#find-the-nearest-vectors)", 0),
        ("`[a](nowhere.md)`", 0),
        ("[a](nowhere.md)", 1),
        ("[a](quickstart.md#nowhere)", 1),
        ("[a](#nowhere)", 1),
        ("[a](../shared/nowhere.py)", 1),
        ("[a](../shared/http/problems.py#nowhere)", 1),
        ("[a](../site/index.html)", 1),
        ("| a |\n| --- |\n| [a](nowhere.md) |", 1),
        ("![a](nowhere.png)", 1),
    ],
)
def test_a_link_of_a_page_that_leads_nowhere_is_found(text: str, found: int) -> None:
    assert len(list(faults_of_page(DOCS / "page.md", text))) == found


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "below").mkdir()
    (tmp_path / "index.html").write_text('<h2 id="a"></h2><a href="below/page.html#b">b</a><link href="site.css">')
    (tmp_path / "below" / "page.html").write_text('<p id="b"></p><a href="../index.html#a">a</a> <a href="#b">b</a>')
    (tmp_path / "site.css").write_text("p { background: url(data:image/png;base64,AA) }")
    return tmp_path


def test_a_site_that_is_whole_has_no_faults(site: Path) -> None:
    assert faults_of_site(site) == []


@pytest.mark.parametrize(
    "added",
    [
        '<a href="nowhere.html">x</a>',
        '<a href="below/page.html#nowhere">x</a>',
        '<a href="#nowhere">x</a>',
        '<script src="https://example.org/x.js"></script>',
        '<link rel="stylesheet" href="//example.org/x.css">',
        '<img src="nowhere.png">',
    ],
)
def test_a_fault_of_a_built_page_is_found(site: Path, added: str) -> None:
    page = site / "index.html"
    page.write_text(page.read_text() + added)
    assert len(faults_of_site(site)) == 1


@pytest.mark.parametrize("rule", ['@import "https://example.org/x.css";', "p { background: url(//example.org/x.png) }"])
def test_a_stylesheet_that_fetches_from_elsewhere_is_found(site: Path, rule: str) -> None:
    (site / "site.css").write_text(rule)
    assert len(faults_of_site(site)) == 1


def test_no_page_says_where_this_repository_lies_on_a_disk() -> None:
    assert not [page for page in DOCS.rglob("*.md") if str(ROOT) in page.read_text()]
