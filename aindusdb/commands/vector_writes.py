"""`aindusdb vectors put`, `patch`, `delete` and `restore`: one vector, or all that a filter matches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from aindusdb.client import UNSET, Client, DeletedByFilter, PatchedByFilter, RetryPolicy, VectorWritten
from aindusdb.commands.options import (
    TOKEN_PATIENCE_MS,
    CollectionOption,
    IfVersionOption,
    TokenOption,
    VectorFileOption,
    VectorOption,
    embedding_of,
    filter_of,
    json_of,
    require_one,
)
from aindusdb.commands.output import (
    CommandRefusedError,
    JsonOption,
    UrlOption,
    counted,
    print_json,
    printable,
    refusals,
    say,
    service_url,
)

PATIENCE = RetryPolicy(patience_seconds=120.0)
MOST_AT_ONCE = 100_000
"""Vectors that one request changes by a filter, as the service allows."""

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The vector's id.")]
IdOrFilterArgument = Annotated[
    str | None,
    typer.Argument(metavar="ID", help="The vector's id; or --filter says which vectors.", show_default=False),
]
ByFilterOption = Annotated[
    str | None, typer.Option("--filter", metavar="JSON", help="All vectors that match this filter.")
]
ContentOption = Annotated[str | None, typer.Option("--content", help="The text.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only count what matches the filter.")]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="What made the embedding: refused if it is not the collection's.")
]

ExpiresAtOption = Annotated[
    str | None,
    typer.Option(
        "--expires-at", metavar="INSTANT", help="From then on no read shows it: RFC 3339, as in 2030-05-31T12:00:00Z."
    ),
]


def register(group: typer.Typer) -> None:
    @group.command()
    def put(
        vector_id: IdArgument,
        collection: CollectionOption,
        content: ContentOption = None,
        vector: VectorOption = None,
        vector_file: VectorFileOption = None,
        metadata: Annotated[str | None, typer.Option(metavar="JSON", help="Its metadata, an object.")] = None,
        model: ModelOption = None,
        expires_at: ExpiresAtOption = None,
        if_version: IfVersionOption = None,
        url: UrlOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Write a vector, whatever was there. Without an embedding, the service embeds the content."""
        if (content, vector, vector_file) == (None, None, None):
            raise typer.BadParameter("give --content, --vector or --vector-file", param_hint="--content")
        if vector is not None and vector_file is not None:
            raise typer.BadParameter("it cannot go with --vector", param_hint="--vector-file")
        with refusals(), Client(service_url(url)) as client:
            fields = None if metadata is None else _metadata_of(metadata)
            if metadata is not None and fields is None:
                raise CommandRefusedError("--metadata is not a JSON object.")
            written = client.put(
                collection,
                vector_id,
                embedding=embedding_of(vector, vector_file),
                content=content,
                metadata=fields,
                model=model,
                expires_at=expires_at,
                if_version=if_version,
            )
        _report_one(written, "is written", as_json)

    @group.command()
    def patch(
        collection: CollectionOption,
        vector_id: IdOrFilterArgument = None,
        where: ByFilterOption = None,
        metadata: Annotated[
            str | None,
            typer.Option(metavar="JSON", help="Merged into the metadata: null removes a field, or all of it."),
        ] = None,
        content: ContentOption = None,
        no_content: Annotated[bool, typer.Option("--no-content", help="Remove the content.")] = False,
        vector: VectorOption = None,
        vector_file: VectorFileOption = None,
        model: ModelOption = None,
        expires_at: ExpiresAtOption = None,
        no_expiry: Annotated[bool, typer.Option("--no-expiry", help="It no longer expires by itself.")] = False,
        if_version: IfVersionOption = None,
        limit: Annotated[
            int, typer.Option(min=1, max=MOST_AT_ONCE, help="With --filter: change at most so many.")
        ] = MOST_AT_ONCE,
        dry_run: DryRunOption = False,
        token: TokenOption = None,
        url: UrlOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Change parts of a vector, or the metadata of all vectors that a filter matches. What is not given stays."""
        require_one({"ID": vector_id, "--filter": where})
        of_one = (content, vector, vector_file, model, expires_at, if_version) != (None,) * 6 or no_content or no_expiry
        if where is not None and of_one:
            raise typer.BadParameter("with a filter only --metadata can be changed", param_hint="--filter")
        if where is not None and metadata is None:
            raise typer.BadParameter("say what is merged into the metadata", param_hint="--metadata")
        if vector_id is not None and dry_run:
            raise typer.BadParameter("it goes with --filter", param_hint="--dry-run")
        if vector_id is not None and not of_one and metadata is None:
            raise typer.BadParameter("say what is to be changed, such as --metadata", param_hint="ID")
        if content is not None and no_content:
            raise typer.BadParameter("it cannot go with --content", param_hint="--no-content")
        if expires_at is not None and no_expiry:
            raise typer.BadParameter("it cannot go with --expires-at", param_hint="--no-expiry")
        with refusals(), Client(service_url(url), retries=PATIENCE) as client:
            fields = UNSET if metadata is None else _metadata_of(metadata)
            if vector_id is not None:
                written = client.patch(
                    collection,
                    vector_id,
                    embedding=embedding_of(vector, vector_file),
                    content=None if no_content else UNSET if content is None else content,
                    metadata=fields,
                    model=model,
                    expires_at=None if no_expiry else UNSET if expires_at is None else expires_at,
                    if_version=if_version,
                )
                _report_one(written, "is changed", as_json)
                return
            wanted = filter_of(where) or {}
            assert fields is not UNSET
            report = client.patch_matching(
                collection,
                wanted,
                fields,
                limit=limit,
                dry_run=dry_run or None,
                token=token,
                timeout_ms=TOKEN_PATIENCE_MS,
            )
        _report_patched(report, as_json)

    @group.command()
    def delete(
        collection: CollectionOption,
        vector_id: IdOrFilterArgument = None,
        where: ByFilterOption = None,
        if_version: IfVersionOption = None,
        limit: Annotated[
            int | None, typer.Option(min=1, help="With --filter: delete at most so many; by default all.")
        ] = None,
        dry_run: DryRunOption = False,
        token: TokenOption = None,
        url: UrlOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Delete a vector, or all vectors that a filter matches. `restore` brings a deleted one back."""
        require_one({"ID": vector_id, "--filter": where})
        if vector_id is not None and (dry_run or limit is not None):
            raise typer.BadParameter("it goes with --filter", param_hint="--dry-run" if dry_run else "--limit")
        if where is not None and if_version is not None:
            raise typer.BadParameter("it goes with an ID", param_hint="--if-version")
        with refusals(), Client(service_url(url), retries=PATIENCE) as client:
            if vector_id is not None:
                written = client.delete(collection, vector_id, if_version=if_version)
                _report_one(written, "is deleted", as_json)
                return
            report = _delete_all(client, collection, filter_of(where) or {}, limit, token, dry_run=dry_run)
        _report_deleted(report, as_json)

    @group.command()
    def restore(
        vector_id: IdArgument,
        collection: CollectionOption,
        version: Annotated[int, typer.Option(min=1, help="The version whose contents come back.")],
        if_version: IfVersionOption = None,
        url: UrlOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Bring a vector back as it was at a version, by a new event."""
        with refusals(), Client(service_url(url)) as client:
            written = client.restore(collection, vector_id, version, if_version=if_version)
        _report_one(written, f"is as it was at version {version}", as_json)


def _metadata_of(text: str) -> dict[str, Any] | None:
    document = json_of(text, "--metadata")
    if document is not None and not isinstance(document, dict):
        raise CommandRefusedError("--metadata is neither a JSON object nor null.")
    return document


def _delete_all(
    client: Client, name: str, wanted: Mapping[str, Any], limit: int | None, token: str | None, *, dry_run: bool
) -> DeletedByFilter:
    """In as many requests as it takes, added up. Those behind the first see what it deleted, in the same collection,
    whatever an alias stands for by then."""
    session = client.session()
    total: DeletedByFilter | None = None
    while True:
        left = MOST_AT_ONCE if limit is None else min(MOST_AT_ONCE, limit - (total.matched if total else 0))
        report = session.delete_matching(
            name, wanted, limit=left, dry_run=dry_run or None, token=token, timeout_ms=TOKEN_PATIENCE_MS
        )
        total = report if total is None else _added(total, report)
        name = report.collection
        if dry_run or not report.limit_reached or report.deleted == 0 or (limit is not None and total.matched >= limit):
            return total


def _added(total: DeletedByFilter, report: DeletedByFilter) -> DeletedByFilter:
    return report.model_copy(
        update={
            "matched": total.matched + report.matched,
            "deleted": total.deleted + report.deleted,
            "conflicts": total.conflicts + report.conflicts,
            "skipped": [*total.skipped, *report.skipped],
            "first_position": total.first_position or report.first_position,
            "last_position": report.last_position or total.last_position,
            "consistency_token": report.consistency_token or total.consistency_token,
        }
    )


def _report_one(written: VectorWritten, done: str, as_json: bool) -> None:
    if as_json:
        print_json(written.model_dump(mode="json"))
        return
    typer.echo(f"{printable(written.id)} {done}; it has version {written.version} now")
    if written.truncated:
        say("The content is longer than the model sees: the embedding is of its beginning.")


def _report_patched(report: PatchedByFilter, as_json: bool) -> None:
    if as_json:
        print_json(report.model_dump(mode="json"))
        return
    if not report.dry_run:
        typer.echo(
            f"Changed {counted(report.changed, 'vector')} of {report.collection}; {report.unchanged:,} were so already"
        )
    _say_what_is_left(report)


def _report_deleted(report: DeletedByFilter, as_json: bool) -> None:
    if as_json:
        print_json(report.model_dump(mode="json"))
        return
    if not report.dry_run:
        typer.echo(f"Deleted {counted(report.deleted, 'vector')} of {report.collection}")
    _say_what_is_left(report)


def _say_what_is_left(report: PatchedByFilter | DeletedByFilter) -> None:
    if report.dry_run:
        least = "At least " if report.limit_reached else ""
        verb = "matches" if report.matched == 1 else "match"
        typer.echo(f"{least}{counted(report.matched, 'vector')} of {report.collection} {verb}")
    elif report.limit_reached:
        say("So many were allowed; others may match.")
    if report.conflicts:
        say(f"{counted(report.conflicts, 'vector')} changed meanwhile, by somebody else: left as found.")
