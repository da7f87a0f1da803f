"""Bodies that come packed, by gzip or Zstandard: unpacked as they are read, never more at once than was asked for.

A few hundred bytes can stand for gigabytes, so what counts against every limit is the unpacked size, piece by piece.
"""

from __future__ import annotations

import asyncio
import sys
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Protocol

from starlette.types import Message, Receive

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_PIECE_BYTES = 64 * 1024
_LARGEST_WINDOW_LOG = 23
"""A Zstandard frame may ask for up to 8 MiB to look back into, as its specification recommends to support."""


class MalformedBodyError(Exception):
    """The body is not what its Content-Encoding says."""

    def __init__(self, encoding: str) -> None:
        super().__init__(f"the body is not valid {encoding} data")


class _Unpacker(Protocol):
    """One stream of packed data."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def unpack(self, data: bytes) -> bytes:
        """At most _PIECE_BYTES of what this and all before it unpack to; what is left comes with the next calls."""

    @property
    def has_more(self) -> bool:
        """Whether more may come without more data."""


class _Gzip:
    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=31)
        self._full = False

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    @property
    def has_more(self) -> bool:
        return not self.eof and (bool(self._stream.unconsumed_tail) or self._full)

    def unpack(self, data: bytes) -> bytes:
        piece = self._stream.decompress(self._stream.unconsumed_tail + data, _PIECE_BYTES)
        self._full = len(piece) == _PIECE_BYTES
        return piece


class _Zstandard:
    def __init__(self) -> None:
        self._stream = zstd.ZstdDecompressor(
            options={int(zstd.DecompressionParameter.window_log_max): _LARGEST_WINDOW_LOG}
        )

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    @property
    def has_more(self) -> bool:
        return not self.eof and not self._stream.needs_input

    def unpack(self, data: bytes) -> bytes:
        return self._stream.decompress(data, _PIECE_BYTES)


ENCODINGS: Mapping[str, Callable[[], _Unpacker]] = {"gzip": _Gzip, "zstd": _Zstandard}
"""Content-Encoding -> what unpacks it."""


def unpacked(receive: Receive, encoding: str) -> Receive:
    """The same body, unpacked. Several streams one behind the other are one body, as both formats say.

    Raises:
        MalformedBodyError: from the returned function, when the data is not what `encoding` says, or ends too early.
    """
    make = ENCODINGS[encoding]
    interruption: Message | None = None

    async def packed() -> AsyncIterator[bytes]:
        nonlocal interruption
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                interruption = message
                return
            yield message.get("body", b"")
            more = message.get("more_body", False)

    async def unpack() -> AsyncIterator[bytes]:
        stream: _Unpacker | None = None
        async for data in packed():
            while data or (stream is not None and stream.has_more):
                stream = stream or make()
                try:
                    piece = stream.unpack(data)
                except (zlib.error, zstd.ZstdError) as error:
                    raise MalformedBodyError(encoding) from error
                data = b""
                if stream.eof:
                    data, stream = stream.unused_data, None
                if piece:
                    yield piece
                    # Unpacking waits for nothing, and others must have their turn.
                    await asyncio.sleep(0)
        if stream is not None and interruption is None:
            raise MalformedBodyError(encoding)

    pieces = unpack()
    ended = False

    async def next_message() -> Message:
        nonlocal ended
        if ended:
            return await receive()
        async for piece in pieces:
            return {"type": "http.request", "body": piece, "more_body": True}
        ended = True
        return interruption or {"type": "http.request", "body": b"", "more_body": False}

    return next_message
