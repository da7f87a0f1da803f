"""Pages that show the code which other pages link to, so that such a link leads somewhere within the site too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.builders.html import StandaloneHTMLBuilder

from docs.builder.repository import DOCS, ROOT, is_in_repository, repository_files

_LANGUAGES = {".json": "json", ".md": "markdown", ".py": "python", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml"}


class CodePages:
    """A page for each linked file, and for each linked folder one that lists it, with the pages of all it lists."""

    def __init__(self) -> None:
        self._linked: set[Path] = set()

    def lead_links(self, app: Sphinx, doctree: nodes.document) -> None:
        """Turns links to files that are no pages, and to folders, into links to pages of theirs. One that leads to
        nothing stays as it is, and Sphinx complains of it."""
        docname = app.env.current_document.docname
        folder = Path(app.env.doc2path(docname)).parent
        for node in [*doctree.findall(addnodes.download_reference), *doctree.findall(addnodes.pending_xref)]:
            target: str = node["reftarget"]
            # A page, or what would be one if it lay in docs/, is named without its ending.
            aim = (DOCS / f"{target}.md" if node["refdomain"] == "doc" else folder / target).resolve()
            if target not in app.env.found_docs and is_in_repository(aim):
                self._linked.add(aim)
                uri = app.builder.get_relative_uri(docname, _page_name(aim))
                node.replace_self(nodes.reference("", "", *node.children, refuri=uri, internal=True))

    def collect(self, app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
        builder = app.builder
        assert isinstance(builder, StandaloneHTMLBuilder)
        files = {file for file in repository_files() if self._is_shown(file)}
        folders = {folder for file in files for folder in file.parents if self._is_shown(folder)}
        for file in sorted(files):
            language = _LANGUAGES.get(file.suffix, "text")
            yield _page(file, builder.highlighter.highlight_block(file.read_text(), language, force=True))
        for folder in sorted(folders):
            below = sorted(path for path in files | folders if path.parent == folder)
            rows = "".join(_row(builder.get_relative_uri(_page_name(folder), _page_name(path)), path) for path in below)
            yield _page(
                folder, f'<div class="table-wrapper"><table class="docutils"><tbody>{rows}</tbody></table></div>'
            )

    def _is_shown(self, path: Path) -> bool:
        return path in self._linked or not self._linked.isdisjoint(path.parents)


def _page_name(path: Path) -> str:
    return f"code/{path.relative_to(ROOT).as_posix()}"


def _page(path: Path, shown: str) -> tuple[str, dict[str, Any], str]:
    title = escape(path.relative_to(ROOT).as_posix())
    return _page_name(path), {"title": title, "body": f"<h1>{title}</h1>{shown}"}, "page.html"


def _row(uri: str, path: Path) -> str:
    name = escape(path.name + "/" if path.is_dir() else path.name)
    return f'<tr><td><a href="{escape(uri)}"><code>{name}</code></a></td><td>{escape(_purpose(path))}</td></tr>'


def _purpose(path: Path) -> str:
    """The first line of its docstring."""
    module = path / "__init__.py" if path.is_dir() else path
    if module.suffix != ".py" or not module.is_file():
        return ""
    return (ast.get_docstring(ast.parse(module.read_text())) or "").split("\n", 1)[0]
