"""The file of rejects: the skipped lines as they were, rows as JSON, to be corrected and imported on their own."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from aindusdb.commands.import_lines import BadLine

CHUNK_BYTES = 1024 * 1024


class Rejects:
    """Copies stretches of `source`. With no path it writes nothing.

    `size_bytes` is remembered with the progress: what a killed import wrote beyond it is cut off when the import
    goes on, so that no line is there twice.
    """

    def __init__(self, path: Path | None, source: Path, *, size_bytes: int) -> None:
        self._path = path
        self._source_path = source
        self._source: BinaryIO | None = None
        self._file: BinaryIO | None = None
        self.size_bytes = size_bytes

    def __enter__(self) -> Self:
        if self._path is not None:
            self._file = self._path.open("r+b" if self.size_bytes and self._path.exists() else "wb")
            self._file.truncate(min(self.size_bytes, os.fstat(self._file.fileno()).st_size))
            self.size_bytes = self._file.seek(0, os.SEEK_END)
            self._source = self._source_path.open("rb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for file in (self._file, self._source):
            if file is not None:
                file.close()

    def add(self, lines: Iterable[BadLine]) -> None:
        if self._file is None or self._source is None:
            return
        for line in lines:
            if line.text is not None:
                self._file.write(line.text + b"\n")
                continue
            self._source.seek(line.start)
            left = line.end - line.start
            last = b""
            while left and (chunk := self._source.read(min(left, CHUNK_BYTES))):
                self._file.write(chunk)
                left -= len(chunk)
                last = chunk[-1:]
            if last != b"\n":
                self._file.write(b"\n")
        self._file.flush()
        self.size_bytes = self._file.tell()
