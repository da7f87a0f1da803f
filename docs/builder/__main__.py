"""`python -m docs.builder`: the site in site/; exit code 1 if a page or a link is at fault."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from sphinx.cmd.build import build_main

from docs.builder.built_links import faults_of_site
from docs.builder.generated import unshown_parts
from docs.builder.markdown_links import faults_of_repository
from docs.builder.repository import DOCS, ROOT

SITE = ROOT / "site"


def main() -> int:
    shutil.rmtree(SITE, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="aindusdb-docs-") as doctrees:
        arguments = ["--fail-on-warning", "--quiet", "--builder", "html", "--doctree-dir", doctrees]
        configuration = str(Path(__file__).parent)
        if build_main([*arguments, "--conf-dir", configuration, str(DOCS), str(SITE)]) != 0:
            return 1
    pages = [page.read_text() for page in DOCS.rglob("*.md")]
    faults = [
        *(f"no page shows {part!r}, which is generated" for part in unshown_parts(pages)),
        *faults_of_repository(),
        *faults_of_site(SITE),
    ]
    for fault in faults:
        print(fault, file=sys.stderr)
    if not faults:
        print(f"The documentation is built: {SITE / 'index.html'}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
