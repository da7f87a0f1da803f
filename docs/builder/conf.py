"""Sphinx's configuration: docs/ is the source, this folder only says how it is built."""

from __future__ import annotations

from importlib.metadata import version as version_of

project = "AindusDB Core"
author = "The AindusDB Core authors"
copyright = author  # noqa: A001 - the name that Sphinx asks for
release = version = version_of("aindusdb-core")

extensions = ["myst_parser", "docs.builder.extension"]
exclude_patterns = ["builder"]
root_doc = "index"
nitpicky = True

myst_heading_anchors = 4
myst_enable_extensions: list[str] = []

html_theme = "furo"
html_title = f"{project} {release}"
html_copy_source = False
html_use_index = False
html_show_sourcelink = False
html_static_path = ["static"]
html_css_files = ["site.css"]
html_permalinks_icon = "#"
pygments_style = "default"
pygments_dark_style = "native"
