"""The kinds of files that can be imported: each gives lines, in the same order whenever it is read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Literal, Protocol

from aindusdb.commands.import_arrays import ArrayFile
from aindusdb.commands.import_lines import Line, read_lines
from aindusdb.commands.import_tables import CsvFile, ParquetFile
from aindusdb.commands.output import CommandRefusedError


class Format(StrEnum):
    JSONL = "jsonl"
    PARQUET = "parquet"
    CSV = "csv"
    NUMPY = "npy"


_SUFFIXES = {
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".json": Format.JSONL,
    ".parquet": Format.PARQUET,
    ".pq": Format.PARQUET,
    ".csv": Format.CSV,
    ".npy": Format.NUMPY,
}


class Source(Protocol):
    """`total` counts bytes or rows, as `measure` says; the `end` of a line is so far into it."""

    noun: Literal["line", "row"]
    measure: Literal["bytes", "rows"]
    total: int

    def lines(self, *, start: int = 0, number: int = 0) -> Iterator[Line]:
        """From behind the line `number`, which ends at `start`."""


class JsonLines:
    noun: Literal["line", "row"] = "line"
    measure: Literal["bytes", "rows"] = "bytes"

    def __init__(self, path: Path) -> None:
        self._path = path
        self.total = path.stat().st_size

    def lines(self, *, start: int = 0, number: int = 0) -> Iterator[Line]:
        with self._path.open("rb") as file:
            yield from read_lines(file, start=start, number=number)


def format_of(path: Path, named: Format | None) -> Format:
    """
    Raises:
        CommandRefusedError: the file's name does not say it.
    """
    found = named or _SUFFIXES.get(path.suffix.lower())
    if found is None:
        raise CommandRefusedError(f"{path.name} does not say what it holds; name it with --format.")
    return found


def open_source(path: Path, kind: Format, ids: Path | None) -> Source:
    """
    Raises:
        CommandRefusedError: it is no file of this kind, or a library is missing that reads such files.
    """
    if ids is not None and kind is not Format.NUMPY:
        raise CommandRefusedError("--ids goes with a NumPy file; other files hold the ids themselves.")
    match kind:
        case Format.JSONL:
            return JsonLines(path)
        case Format.PARQUET:
            return ParquetFile(path)
        case Format.CSV:
            return CsvFile(path)
        case Format.NUMPY:
            return ArrayFile(path, ids)


def digest_of(path: Path, ids: Path | None) -> str:
    """Of all that is imported: what makes an import the same one when it is run again."""
    digest = _digest(path)
    return digest if ids is None else hashlib.sha256(f"{digest} {_digest(ids)}".encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
