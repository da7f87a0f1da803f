"""Consistency tokens and cursors: signed, opaque, base64url.

A token says "this reader has seen the log up to here". Layout before encoding: kind (1 byte), log_id (16),
first and last position (8 each, unsigned big-endian), tenant (UTF-8); behind it HMAC-SHA256 over all of it,
16 bytes. A cursor carries JSON instead of positions.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

MAX_TOKENS = 8
_MAX_TEXT = 4096
_SIGNATURE_BYTES = 16
_TOKEN = b"\x01"
_CURSOR = b"\x02"
_POSITIONS = struct.Struct(">16sQQ")


class MalformedTokenError(Exception):
    """The consistency token is not one that this service signed."""


class MalformedCursorError(Exception):
    """The cursor is not one that this service signed for this list, or it has expired."""


class WrongDatabaseError(Exception):
    """The consistency token is of another tenant."""


@dataclass(frozen=True, slots=True)
class ConsistencyToken:
    """Positions `first` to `last` of log `log_id` (both inclusive) are what the holder wrote or saw."""

    log_id: UUID
    tenant: str
    first: int
    last: int


class Signer:
    """Signs with the newest key and accepts all of them, so that keys can be rotated."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys:
            raise ValueError("at least one signing key is needed")
        self._keys = [hashlib.sha256(b"aindusdb-token" + key).digest() for key in keys]

    def sign_token(self, token: ConsistencyToken) -> str:
        body = _POSITIONS.pack(token.log_id.bytes, token.first, token.last) + token.tenant.encode()
        return self._sign(_TOKEN + body)

    def read_token(self, text: str) -> ConsistencyToken:
        """
        Raises:
            MalformedTokenError: not signed by one of the keys.
        """
        body = self._verify(text, _TOKEN)
        if body is None or len(body) < _POSITIONS.size:
            raise MalformedTokenError("the consistency token is not one that this service signed")
        log_id, first, last = _POSITIONS.unpack_from(body)
        return ConsistencyToken(UUID(bytes=log_id), body[_POSITIONS.size :].decode(), first, last)

    def sign_cursor(self, scope: str, key: dict[str, Any], *, lifetime_seconds: int = 24 * 3600) -> str:
        """`scope` names the list that the cursor belongs to; `key` is where the next page begins."""
        payload = {"scope": scope, "key": key, "expires": int(time.time()) + lifetime_seconds}
        return self._sign(_CURSOR + orjson.dumps(payload))

    def read_cursor(self, text: str, scope: str) -> dict[str, Any]:
        """
        Raises:
            MalformedCursorError: not signed by one of the keys, of another list, or expired.
        """
        body = self._verify(text, _CURSOR)
        if body is None:
            raise MalformedCursorError("the cursor is not one that this service signed")
        payload: dict[str, Any] = orjson.loads(body)
        if payload["scope"] != scope:
            raise MalformedCursorError("the cursor belongs to another list")
        if payload["expires"] < time.time():
            raise MalformedCursorError("the cursor has expired; start the list again")
        key: dict[str, Any] = payload["key"]
        return key

    def _sign(self, message: bytes) -> str:
        signature = hmac.new(self._keys[0], message, hashlib.sha256).digest()[:_SIGNATURE_BYTES]
        return base64.urlsafe_b64encode(message + signature).decode("ascii").rstrip("=")

    def _verify(self, text: str, kind: bytes) -> bytes | None:
        if not 0 < len(text) <= _MAX_TEXT or not text.isascii():
            return None
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except binascii.Error:
            return None
        message, signature = raw[:-_SIGNATURE_BYTES], raw[-_SIGNATURE_BYTES:]
        if message[:1] != kind:
            return None
        for key in self._keys:
            expected = hmac.new(key, message, hashlib.sha256).digest()[:_SIGNATURE_BYTES]
            if hmac.compare_digest(expected, signature):
                return message[1:]
        return None
