"""Packed bodies: they unpack to what was packed, piece by piece, and what is broken or endless is refused."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive

from shared.http.unpacking import MalformedBodyError, unpacked

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_PACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstd.compress}
_LARGEST_PIECE = 64 * 1024


def _received(parts: list[bytes]) -> Receive:
    messages: list[Message] = [
        {"type": "http.request", "body": part, "more_body": number < len(parts)}
        for number, part in enumerate(parts, start=1)
    ]
    messages.append({"type": "http.disconnect"})

    async def receive() -> Message:
        return messages.pop(0)

    return receive


async def _whole(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        assert message["type"] == "http.request"
        assert len(message["body"]) <= _LARGEST_PIECE
        body += bytes(message["body"])
        if not message["more_body"]:
            return body


def _cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


_bodies = st.builds(lambda piece, times: piece * times, st.binary(max_size=300), st.integers(0, 1000))


@pytest.mark.parametrize("encoding", _PACK)
@given(streams=st.lists(_bodies, min_size=1, max_size=3), places=st.lists(st.integers(0), max_size=6))
async def test_streams_unpack_to_what_was_packed_however_they_are_cut(
    encoding: str, streams: list[bytes], places: list[int]
) -> None:
    packed = b"".join(_PACK[encoding](one) for one in streams)
    assert await _whole(unpacked(_received(_cut(packed, places)), encoding)) == b"".join(streams)


@pytest.mark.parametrize("encoding", _PACK)
@given(cut=st.integers(1), places=st.lists(st.integers(0), max_size=3))
async def test_a_body_that_ends_too_early_is_malformed(encoding: str, cut: int, places: list[int]) -> None:
    packed = _PACK[encoding](b'{"embedding": [1, 2, 3]}' * 20)
    part = packed[: 1 + cut % (len(packed) - 1)]
    with pytest.raises(MalformedBodyError):
        await _whole(unpacked(_received(_cut(part, places)), encoding))


@pytest.mark.parametrize("encoding", _PACK)
async def test_what_is_not_packed_at_all_is_malformed(encoding: str) -> None:
    with pytest.raises(MalformedBodyError):
        await _whole(unpacked(_received([b'{"embedding": [1, 2, 3]}']), encoding))


@pytest.mark.parametrize("encoding", _PACK)
async def test_an_empty_body_stays_empty_and_a_disconnection_is_passed_on(encoding: str) -> None:
    receive = unpacked(_received([b""]), encoding)
    assert await _whole(receive) == b""
    assert (await receive())["type"] == "http.disconnect"
