"""Parquet and CSV files as lines. The columns `id`, `embedding`, `content`, `metadata` and `expires_at` are what they
are named for; all others become fields of the metadata. pyarrow is an extra: it is imported when such a file is
opened."""

from __future__ import annotations

import base64
import importlib
import json
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from aindusdb.commands.import_lines import Line
from aindusdb.commands.output import CommandRefusedError
from shared.strict_json import MalformedJsonError, parse_json

BLOCK_ROWS = 1_000
BLOCK_BYTES = 4 * 1024 * 1024
KNOWN_COLUMNS = ("id", "embedding", "content", "metadata", "expires_at")


def arrow(module: str) -> Any:
    """
    Raises:
        CommandRefusedError: pyarrow is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise CommandRefusedError(
            "Parquet and CSV need pyarrow, which is not installed: pip install 'aindusdb-core[files]'."
        ) from error


class ParquetFile:
    noun: Literal["line", "row"] = "row"
    measure: Literal["bytes", "rows"] = "rows"

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._opened() as file:
            self.total: int = file.metadata.num_rows
            _check_columns(path, file.schema_arrow.names)

    def lines(self, *, start: int = 0, number: int = 0) -> Iterator[Line]:
        with self._opened() as file:
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            group = skipped = 0
            while group < len(sizes) and skipped + sizes[group] <= start:
                skipped += sizes[group]
                group += 1
            # Whole row groups ahead of need would be held in memory.
            batches = file.iter_batches(BLOCK_ROWS, row_groups=range(group, len(sizes)), use_threads=False)
            yield from _lines(self._path, batches, skipped, number)

    def _opened(self) -> Any:
        parquet, lib = arrow("pyarrow.parquet"), arrow("pyarrow.lib")
        try:
            return parquet.ParquetFile(self._path, pre_buffer=False, memory_map=False, buffer_size=BLOCK_BYTES)
        except lib.ArrowInvalid as error:
            raise CommandRefusedError(f"{self._path} is no Parquet file: {error}") from error


class CsvFile:
    """With a header; embeddings are JSON arrays or base64, metadata is JSON. An empty field is none."""

    noun: Literal["line", "row"] = "row"
    measure: Literal["bytes", "rows"] = "rows"

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            # As good as the number of rows where no field goes over several lines; only the progress bar asks.
            self.total = max(0, sum(1 for _ in file) - 1)
        with self._opened() as reader:
            _check_columns(path, reader.schema.names)

    def lines(self, *, start: int = 0, number: int = 0) -> Iterator[Line]:
        del start
        with self._opened() as reader:
            yield from _lines(self._path, reader, 0, number)

    def _opened(self) -> Any:
        csv, lib = arrow("pyarrow.csv"), arrow("pyarrow.lib")
        try:
            return csv.open_csv(
                self._path,
                read_options=csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
                parse_options=csv.ParseOptions(newlines_in_values=True),
                convert_options=csv.ConvertOptions(column_types=dict.fromkeys(KNOWN_COLUMNS, lib.string())),
            )
        except lib.ArrowInvalid as error:
            raise CommandRefusedError(f"{self._path} cannot be read as CSV: {error}") from error


def _check_columns(path: Path, names: Sequence[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise CommandRefusedError(f"{path} has several columns {repeated[0]!r}.")
    if not {"embedding", "content"} & set(names):
        raise CommandRefusedError(f"{path} has neither a column `embedding` nor `content`.")


def _lines(path: Path, batches: Any, before: int, number: int) -> Iterator[Line]:
    """The rows behind the row `number`, as lines; `before` rows precede the first batch."""
    invalid = arrow("pyarrow.lib").ArrowInvalid
    try:
        for batch in batches:
            ahead = min(batch.num_rows, max(0, number - before))
            before += batch.num_rows
            for row in _rows(batch.slice(ahead)):
                number += 1
                yield _line(number, row)
    except invalid as error:
        raise CommandRefusedError(f"{path} cannot be read behind row {number:,}: {error}") from error


def _rows(batch: Any) -> Iterator[dict[str, Any]]:
    names = batch.schema.names
    columns = [
        _embeddings(batch.column(at)) if name == "embedding" else batch.column(at).to_pylist()
        for at, name in enumerate(names)
    ]
    for values in zip(*columns, strict=True):
        yield dict(zip(names, values, strict=True))


def _embeddings(column: Any) -> list[str | None]:
    """As base64; texts as they are."""
    types = arrow("pyarrow.types")
    kind = column.type
    if not (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)):
        texts: list[str | None] = column.to_pylist()
        return texts
    sizes = arrow("pyarrow.compute").list_value_length(column).to_pylist()
    with np.errstate(over="ignore"):
        numbers = column.flatten().to_numpy(zero_copy_only=False).astype("<f4")
    ends = [0, *accumulate(size or 0 for size in sizes)]
    return [
        None if size is None else base64.b64encode(numbers[first:last].tobytes()).decode("ascii")
        for size, (first, last) in zip(sizes, pairwise(ends), strict=True)
    ]


def _line(number: int, row: dict[str, Any]) -> Line:
    try:
        text = json.dumps(_vector(row), default=_plain, ensure_ascii=False).encode()
    except (MalformedJsonError, TypeError, UnicodeEncodeError) as error:
        return Line(number, number - 1, number, b"", is_made=True, fault=str(error))
    return Line(number, number - 1, number, text, is_made=True)


def _vector(row: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in row.items() if value is not None and value != ""}
    vector: dict[str, Any] = {name: given[name] for name in ("content", "expires_at") if name in given}
    if "id" in given:
        vector["id"] = str(given["id"])
    embedding = given.get("embedding")
    if embedding is not None:
        is_json = isinstance(embedding, str) and embedding.lstrip().startswith("[")
        vector["embedding"] = _parsed("embedding", embedding) if is_json else embedding
    metadata = given.get("metadata", {})
    fields = {name: value for name, value in given.items() if name not in KNOWN_COLUMNS}
    metadata = _parsed("metadata", metadata) if isinstance(metadata, str) else metadata
    vector["metadata"] = {**metadata, **fields} if isinstance(metadata, dict) else metadata
    return vector


def _parsed(name: str, text: str) -> Any:
    try:
        return parse_json(text.encode())
    except MalformedJsonError as error:
        raise MalformedJsonError(f"/{name}: not valid JSON: {error}") from error


def _plain(value: Any) -> Any:
    """What tables hold beyond JSON."""
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(f"/metadata: a {type(value).__name__} is no JSON")
