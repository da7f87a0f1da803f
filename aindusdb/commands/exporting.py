"""`aindusdb export`: vectors of a collection into a file that `aindusdb import` reads."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from aindusdb.client import Client, RetryPolicy, StoredVector, encode_embedding
from aindusdb.client.calls import Moment
from aindusdb.commands.import_tables import arrow
from aindusdb.commands.options import (
    TOKEN_PATIENCE_MS,
    AsOfOption,
    CollectionOption,
    FilterOption,
    TokenOption,
    filter_of,
    moment_of,
)
from aindusdb.commands.output import CommandRefusedError, JsonOption, UrlOption, print_json, refusals, service_url
from aindusdb.commands.progress_display import progress_of

PATIENCE = RetryPolicy(patience_seconds=120.0)
BLOCK_ROWS = 1_000
PARTS = ("content", "metadata", "embedding")

Write = Callable[[list[StoredVector]], None]


class ExportFormat(StrEnum):
    JSONL = "jsonl"
    PARQUET = "parquet"


_SUFFIXES = {
    ".jsonl": ExportFormat.JSONL,
    ".ndjson": ExportFormat.JSONL,
    ".parquet": ExportFormat.PARQUET,
    ".pq": ExportFormat.PARQUET,
}


def register(app: typer.Typer) -> None:
    @app.command("export")
    def export_file(
        file: Annotated[Path, typer.Argument(help="Where the vectors are written; its name says the format.")],
        collection: CollectionOption,
        kind: Annotated[
            ExportFormat | None, typer.Option("--format", help="jsonl: embeddings as base64. parquet: as lists.")
        ] = None,
        where: FilterOption = None,
        as_of: AsOfOption = None,
        token: TokenOption = None,
        url: UrlOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Export the vectors of a collection, all or those that match a filter, in the order of their ids. The file
        appears once it is whole."""
        started = time.monotonic()
        with refusals():
            try:
                wanted = filter_of(where)
                count = _export(
                    file, _format_of(file, kind), collection, wanted, moment_of(as_of), token, service_url(url)
                )
            except OSError as error:
                raise CommandRefusedError(f"{error.filename or file}: {error.strerror or error}") from error
        seconds = time.monotonic() - started
        if as_json:
            print_json({"file": str(file), "vectors": count, "seconds": round(seconds, 3)})
        else:
            typer.echo(f"{count:,} vectors in {seconds:.1f} s ({count / max(seconds, 1e-9):,.0f} vectors/s)")


def _format_of(file: Path, named: ExportFormat | None) -> ExportFormat:
    found = named or _SUFFIXES.get(file.suffix.lower())
    if found is None:
        raise CommandRefusedError(f"{file.name} does not say what it is to hold; name it with --format.")
    return found


def _export(
    file: Path,
    kind: ExportFormat,
    collection: str,
    wanted: Mapping[str, Any] | None,
    as_of: Moment | None,
    token: str | None,
    url: str,
) -> int:
    unfinished = file.with_name(file.name + ".unfinished")
    writing = _json_lines if kind is ExportFormat.JSONL else _parquet
    exported = 0
    # A session, so that a later page is not of an older state than an earlier one.
    with Client(url, retries=PATIENCE) as client, _progress() as progress:
        session = client.session()
        found = session.count(collection, filter=wanted, as_of=as_of, token=token, timeout_ms=TOKEN_PATIENCE_MS)
        bar = progress.add_task("exporting", total=found.count)
        # By its own name: an alias may stand for another collection by the next page.
        vectors = session.scroll(
            found.collection, filter=wanted, include=PARTS, as_of=as_of, token=token, timeout_ms=TOKEN_PATIENCE_MS
        )
        with writing(unfinished) as write:
            while block := list(islice(vectors, BLOCK_ROWS)):
                write(block)
                exported += len(block)
                progress.update(bar, completed=exported)
    unfinished.replace(file)
    return exported


def _progress() -> Progress:
    return progress_of(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


@contextmanager
def _json_lines(path: Path) -> Iterator[Write]:
    with path.open("w", encoding="utf-8") as file:

        def write(vectors: list[StoredVector]) -> None:
            file.writelines(json.dumps(_line(one), ensure_ascii=False) + "\n" for one in vectors)

        yield write


def _line(vector: StoredVector) -> dict[str, Any]:
    assert vector.embedding is not None
    return {
        "id": vector.id,
        "embedding": encode_embedding(vector.embedding),
        **({} if vector.content is None else {"content": vector.content}),
        "metadata": vector.metadata or {},
        **({} if vector.expires_at is None else {"expires_at": vector.expires_at.isoformat()}),
    }


@contextmanager
def _parquet(path: Path) -> Iterator[Write]:
    lib = arrow("pyarrow.lib")
    # Metadata is JSON: fields of any names and kinds come back as they were.
    schema = lib.schema(
        [
            lib.field("id", lib.string(), nullable=False),
            lib.field("embedding", lib.list_(lib.float32()), nullable=False),
            lib.field("content", lib.string()),
            lib.field("metadata", lib.string(), nullable=False),
            lib.field("expires_at", lib.timestamp("us", "UTC")),
        ]
    )
    with arrow("pyarrow.parquet").ParquetWriter(path, schema, compression="zstd") as writer:

        def write(vectors: list[StoredVector]) -> None:
            columns = {
                "id": [one.id for one in vectors],
                "embedding": [one.embedding for one in vectors],
                "content": [one.content for one in vectors],
                "metadata": [json.dumps(one.metadata or {}, ensure_ascii=False) for one in vectors],
                "expires_at": [one.expires_at for one in vectors],
            }
            writer.write_batch(lib.RecordBatch.from_pydict(columns, schema=schema))

        yield write
