"""`aindusdb restore`: what one request changed or deleted comes back, page by page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any

import typer

from aindusdb.client import Client, Restored
from aindusdb.client.models import Skipped
from aindusdb.commands.output import JsonOption, UrlOption, counted, print_json, refusals, say, service_url

SHOWN_SKIPS = 100

_REASONS = {
    "created": "made by the request",
    "changed_since": "changed since; --force takes this back too",
    "collection_deleted": "the collection is deleted",
    "no_embedding": "no embedding that the collection can hold, and no content that it can embed",
}


def register(app: typer.Typer) -> None:
    @app.command()
    def restore(
        request_id: Annotated[str, typer.Argument(metavar="REQUEST_ID", help="The X-Request-ID of its answer.")],
        force: Annotated[bool, typer.Option("--force", help="Also what was changed since.")] = False,
        url: UrlOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Take back what one request changed or deleted, by new events. Run again, it goes on where it was."""
        with refusals(), Client(service_url(url)) as client:
            pages = Pages(lambda cursor: client.restore_request(request_id, force=force, cursor=cursor))
            report_pages(pages, f"{request_id} is taken back", as_json)


class Pages:
    """A restore from its first page to its last, added up."""

    def __init__(self, ask: Callable[[str | None], Restored]) -> None:
        self._ask = ask
        self.restored = 0
        self.unchanged = 0
        self.reasons: Counter[str] = Counter()
        self.skipped: list[Skipped] = []
        self.token: str | None = None

    def run(self) -> Restored:
        """The last page."""
        cursor = None
        while True:
            page = self._ask(cursor)
            self.restored += page.restored
            self.unchanged += page.unchanged
            self.reasons.update(one.reason for one in page.skipped)
            self.skipped += page.skipped[: SHOWN_SKIPS - len(self.skipped)]
            self.token = page.consistency_token or self.token
            cursor = page.next_cursor
            if cursor is None:
                return page


def report_pages(pages: Pages, done: str, as_json: bool) -> None:
    last = pages.run()
    if as_json:
        added_up: dict[str, Any] = {
            "restored": pages.restored,
            "unchanged": pages.unchanged,
            "skipped": [one.model_dump(mode="json") for one in pages.skipped],
            "skipped_count": pages.reasons.total(),
            "consistency_token": pages.token,
        }
        print_json(last.model_dump(mode="json", exclude={"next_cursor"}) | added_up)
        return
    typer.echo(f"{done}: {counted(pages.restored, 'vector')} restored, {pages.unchanged:,} were so already")
    for reason, count in sorted(pages.reasons.items()):
        say(f"{counted(count, 'vector')} left as found: {_REASONS.get(reason, reason)}.")
