"""What an import sends: lines from a file, from memory, or one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from aindusdb.client.batches import Vector
from aindusdb.client.calls import encode, given

MEDIA_TYPE = "application/x-ndjson"
PIECE_BYTES = 256 * 1024

Line: TypeAlias = bytes | Vector | Mapping[str, Any]
Lines: TypeAlias = Path | bytes | Iterable[Line]


def starts_anew(lines: Lines) -> bool:
    """Whether they can be read from the start once more; an iterator cannot."""
    return isinstance(lines, Path | bytes | Sequence)


def pieces_of(lines: Lines) -> Iterator[bytes]:
    """The body, in pieces of about `PIECE_BYTES`."""
    if isinstance(lines, Path):
        with lines.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece
        return
    if isinstance(lines, bytes):
        yield lines
        return
    gathered = bytearray()
    for line in lines:
        gathered += _encoded(line)
        gathered += b"\n"
        if len(gathered) >= PIECE_BYTES:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)


def _encoded(line: Line) -> bytes:
    if isinstance(line, bytes):
        return line.rstrip(b"\r\n")
    if isinstance(line, Vector):
        return encode({**given({"id": line.id}), **line.body()})
    return encode(line)
