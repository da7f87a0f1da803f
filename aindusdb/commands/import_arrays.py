"""NumPy files as lines: an array of embeddings, shape (vectors, dimension), and beside it a file of ids.

Blocks are read, not mapped: pages of a mapped file count as the process's memory.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from aindusdb.commands.import_lines import Line
from aindusdb.commands.output import CommandRefusedError

BLOCK_ROWS = 1_000
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


@dataclass(frozen=True, slots=True)
class _Array:
    """Where the numbers of a .npy file begin, and how they lie."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    begins_at: int

    def blocks(self, start: int) -> Iterator[NDArray[Any]]:
        """The rows from `start` on, `BLOCK_ROWS` at a time."""
        rows, *rest = self.shape
        row_bytes = int(np.prod(rest, dtype=np.int64)) * self.dtype.itemsize
        with self.path.open("rb") as file:
            file.seek(self.begins_at + start * row_bytes)
            while start < rows:
                count = min(BLOCK_ROWS, rows - start)
                raw = file.read(count * row_bytes)
                if len(raw) < count * row_bytes:
                    raise CommandRefusedError(f"{self.path} ends before its {rows:,} rows do.")
                yield np.frombuffer(raw, self.dtype).reshape(count, *rest)
                start += count


class ArrayFile:
    noun: Literal["line", "row"] = "row"
    measure: Literal["bytes", "rows"] = "rows"

    def __init__(self, path: Path, ids: Path | None) -> None:
        """
        Raises:
            CommandRefusedError: it is no array of embeddings, or there are not as many ids.
        """
        self._array = _open(path)
        if len(self._array.shape) != 2 or self._array.dtype.kind not in "fiu":
            raise CommandRefusedError(
                f"{path} holds an array of shape {self._array.shape} and type {self._array.dtype}; embeddings are "
                "numbers of shape (vectors, dimension)."
            )
        self.total = self._array.shape[0]
        self._ids = None if ids is None else _ids_of(ids)
        if self._ids is not None and self._ids.count != self.total:
            raise CommandRefusedError(f"{ids} has {self._ids.count:,} ids, and {path} {self.total:,} embeddings.")

    def lines(self, *, start: int = 0, number: int = 0) -> Iterator[Line]:
        ids: Iterator[str | None] = repeat(None) if self._ids is None else self._ids.behind(number)
        for block in self._array.blocks(start):
            with np.errstate(over="ignore"):
                packed = np.ascontiguousarray(block, dtype="<f4")
            for embedding in packed:
                number += 1
                vector_id = next(ids)
                line = {"embedding": base64.b64encode(embedding).decode("ascii")}
                if vector_id is not None:
                    line = {"id": vector_id, **line}
                yield Line(number, number - 1, number, json.dumps(line).encode(), is_made=True)


class _TextIds:
    """One a line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            self.count = sum(1 for _ in file)

    def behind(self, number: int) -> Iterator[str | None]:
        try:
            with self._path.open(encoding="utf-8") as file:
                for at, line in enumerate(file):
                    if at >= number:
                        yield line.rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise CommandRefusedError(f"{self._path} is not UTF-8: {error}") from error


class _ArrayIds:
    """Texts or whole numbers, in a .npy file."""

    def __init__(self, path: Path) -> None:
        self._array = _open(path)
        if len(self._array.shape) != 1 or self._array.dtype.kind not in "Uiu":
            raise CommandRefusedError(
                f"{path} holds an array of shape {self._array.shape} and type {self._array.dtype}; ids are texts or "
                "whole numbers in one dimension."
            )
        self.count = self._array.shape[0]

    def behind(self, number: int) -> Iterator[str | None]:
        for block in self._array.blocks(number):
            yield from map(str, block.tolist())


def _ids_of(path: Path) -> _TextIds | _ArrayIds:
    return _ArrayIds(path) if path.suffix.lower() == ".npy" else _TextIds(path)


def _open(path: Path) -> _Array:
    with path.open("rb") as file:
        try:
            shape, is_fortran, dtype = _header(file)
        except ValueError as error:
            raise CommandRefusedError(f"{path} is no NumPy file: {error}") from error
        begins_at = file.tell()
    if dtype.hasobject or (is_fortran and len(shape) > 1):
        what = "Python objects" if dtype.hasobject else "its numbers by columns"
        raise CommandRefusedError(f"{path} holds {what}; save a plain array, row by row (np.ascontiguousarray).")
    return _Array(path, shape, dtype, begins_at)


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"its format is version {version}")
    return _HEADERS[version](file)
