"""The operations of one client: what it asks, and what it is told, into the history."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import orjson

from benchmarks.lean_http import Connection, request
from shared.tokens import Signer
from tests.consistency.history import Change, Question, Read, Write
from tests.consistency.recorder import Recorder
from tests.consistency.values import ALIASES, DIMENSION, target_mark
from tests.consistency.wire import (
    Call,
    acknowledged,
    answered,
    call_of,
    call_of_batch,
    call_of_changes,
    call_of_matching,
    problem_name,
)

REQUEST_SECONDS = 15.0
RETRY_SECONDS = 15.0
"""How long a write with a key is repeated until it is answered."""
PAUSE_SECONDS = 0.05
"""Before something that failed is tried again."""

_REFUSALS = (503, 504)


@dataclass(frozen=True, slots=True)
class Token:
    """A consistency token, and the number of the operation whose answer brought it. `covers` is its last position."""

    number: int
    text: str
    covers: int


@dataclass(frozen=True, slots=True)
class Collection:
    """`name` is what requests call it; `identity` tells it from others that have borne the name. `stays`: it was there
    before the clients, and nobody drops it."""

    name: str
    identity: str
    stays: bool = False
    index: str = "hnsw"
    is_alias: bool = False
    """It is known from the answer only which collection was meant."""

    @property
    def path(self) -> str:
        return f"/api/v1/collections/{self.name}"

    @property
    def refusals(self) -> tuple[str, ...]:
        """With which a read of it may be answered."""
        if self.identity == ALIASES:
            return ("alias-not-found",)
        if self.is_alias:
            return ("collection-not-found",)
        return ("vector-not-found",) if self.stays else ("vector-not-found", "collection-not-found")

    @property
    def vectors(self) -> str:
        return "/api/v1/aliases" if self.identity == ALIASES else f"{self.path}/vectors"


ALIASED = Collection("aliases", ALIASES, stays=True)
"""What histories hold of aliases."""


@dataclass(frozen=True, slots=True)
class Asked:
    """How a read is asked besides its question."""

    server: str
    tokens: Sequence[Token] = ()
    timeout_ms: int = 2_000
    max_staleness_ms: int | None = None
    cursor: str | None = None
    in_header: bool = True
    """Where the tokens go: in a header, or in the body or the query string."""

    def options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"timeout_ms": self.timeout_ms}
        if self.max_staleness_ms is not None:
            options["max_staleness_ms"] = self.max_staleness_ms
        if self.tokens and not self.in_header:
            options["consistency_token"] = self._text()
        return options

    def header(self) -> str:
        return f"X-Consistency-Token: {self._text()}\r\n" if self.tokens and self.in_header else ""

    def _text(self) -> str:
        return ",".join(token.text for token in self.tokens)


class NotSentError(Exception):
    """No connection could be made, so nothing was asked."""


class NotAnsweredError(Exception):
    """The connection broke, or no answer came in time: what was asked may have been done."""


class Client:
    def __init__(self, command_url: str, recorder: Recorder, signer: Signer) -> None:
        self._command_url = command_url
        self._recorder = recorder
        self._signer = signer
        self._connections: dict[str, Connection] = {}

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()

    async def read(
        self, question: Question, collection: Collection, asked: Asked, *, final: bool = False
    ) -> tuple[Read, Token | None, str | None] | None:
        """The read as it was recorded, the token of its answer and the cursor of the next page, as far as there are
        any. None: it was refused, or not answered at all."""
        recorder, number = self._recorder, self._recorder.number()
        call = call_of(question, collection.vectors, asked.options(), asked.cursor)
        invoked = time.monotonic()
        outcome = await self._answer(call, asked)
        if outcome is None:
            return None
        status, body, completed = outcome
        name = problem_name(body) if status != 200 else ""
        if status != 200 and name not in collection.refusals:
            recorder.unexpected.append(f"{call.method} {call.path} {call.body}: {status} {name}")
            return None
        document = orjson.loads(body)
        token = self._token(number, document["freshness"]["token"]) if status == 200 else None
        if collection.is_alias:
            # An alias that is not there is as if it had been asked for itself.
            itself = Question("get", ALIASES, id=collection.name)
            question = replace(question, collection=document["collection"]) if status == 200 else itself
        read = _read(number, question, invoked, completed, asked)
        read = answered(read, status, document, token.covers if token else 0)
        (recorder.final if final else recorder.reads).append(read)
        if collection.is_alias and status == 200:
            resolved = Question("resolve", ALIASES, id=collection.name)
            recorder.reads.append(
                replace(read, number=recorder.number(), question=resolved, shown=(), more=False,
                        count=target_mark(question.collection))
            )  # fmt: skip
        return read, token, document.get("next_cursor")

    async def search_batch(self, questions: Sequence[Question], collection: Collection, asked: Asked) -> Token | None:
        """Several searches that are answered together; None: they were not."""
        recorder, number = self._recorder, self._recorder.number()
        call = call_of_batch(questions, collection.vectors, asked.options())
        invoked = time.monotonic()
        outcome = await self._answer(call, asked)
        if outcome is None:
            return None
        status, body, completed = outcome
        if status != 200:
            recorder.unexpected.append(f"{call.method} {call.path} {call.body}: {status} {problem_name(body)}")
            return None
        document = orjson.loads(body)
        token = self._token(number, document["freshness"]["token"])
        for place, (question, result) in enumerate(zip(questions, document["results"], strict=True)):
            own = number if place == 0 else recorder.number()
            read = replace(_read(own, question, invoked, completed, asked), batch=number)
            recorder.reads.append(answered(read, status, {**document, **result}, token.covers))
        return token

    async def _answer(self, call: Call, asked: Asked) -> tuple[int, bytes, float] | None:
        """The status and body that a read was answered with, and when. None: it was refused, or not answered at all."""
        recorder = self._recorder
        try:
            status, body = await self._send(asked.server, call, asked.header())
        except NotSentError:
            await asyncio.sleep(PAUSE_SECONDS)
            return None
        except NotAnsweredError:
            recorder.sent += 1
            recorder.counts["unanswered"] += 1
            return None
        recorder.sent += 1
        if status in _REFUSALS:
            recorder.counts["refused"] += 1
            return None
        return status, body, time.monotonic()

    async def change_matching(
        self, collection: Collection, change: Change, version: int, tokens: Sequence[Token], *, with_key: bool
    ) -> tuple[Write, Token] | None:
        """Changes the vector if a filter finds that it has this version, where the tokens are covered. Recorded as a
        read of whether it has, and as a write if that was done. As `change`."""
        recorder = self._recorder
        asked = Asked(self._command_url, tokens)
        call = call_of_matching(change, version, collection.vectors, asked.options())
        invoked = time.monotonic()
        write = Write(recorder.number(), collection.identity, invoked, math.inf, (change,))
        outcome = await self._settled(write, call, with_key=with_key, headers=asked.header())
        if outcome is None:
            return None
        status, body, completed = outcome
        if status != 200:
            recorder.unexpected.append(f"{call.method} {call.path} {call.body}: {status} {problem_name(body)}")
            return None
        document: dict[str, Any] = orjson.loads(body)
        matched = Question("match", collection.identity, id=change.id, version=version)
        read = _read(recorder.number(), matched, invoked, completed, asked)
        recorder.reads.append(replace(read, count=document["matched"]))
        if not document["deleted" if change.kind == "delete" else "changed"]:
            return None
        token = self._token(write.number, document["consistency_token"])
        done = replace(change, version=version + 1, position=document["last_position"])
        write = replace(write, completed=completed, changes=(done,), covers=token.covers)
        recorder.writes.append(write)
        return write, token

    async def change(
        self, collection: Collection, changes: Sequence[Change], *, with_key: bool
    ) -> tuple[Write, Token] | None:
        """The write as it was acknowledged, and the token of its answer. None: it was refused, or its outcome is
        unknown."""
        return await self._write(collection, call_of_changes(changes, collection.vectors), changes, with_key=with_key)

    async def create(self, collection: Collection) -> Token | None:
        body = {"name": collection.name, "dimension": DIMENSION, "index": {"kind": collection.index}}
        written = await self._write(collection, Call("POST", "/api/v1/collections", body), (), with_key=True)
        return written and written[1]

    async def set_alias(self, alias: Collection, target: Collection, change: Change) -> tuple[Write, Token] | None:
        """As `change`, of what the alias stands for."""
        call = Call("PUT", f"/api/v1/aliases/{alias.name}", {"collection": target.name})
        return await self._write(ALIASED, call, (change,), with_key=True)

    async def drop(self, collection: Collection) -> Token | None:
        written = await self._write(collection, Call("DELETE", collection.path), (), with_key=True, drops=True)
        return written and written[1]

    async def _write(
        self, collection: Collection, call: Call, changes: Sequence[Change], *, with_key: bool, drops: bool = False
    ) -> tuple[Write, Token] | None:
        """`with_key`: it is repeated under its key until it is answered."""
        recorder, number = self._recorder, self._recorder.number()
        write = Write(number, collection.identity, time.monotonic(), math.inf, tuple(changes), drops=drops)
        outcome = await self._settled(write, call, with_key=with_key)
        if outcome is None:
            return None
        status, body, completed = outcome
        if status in (200, 201):
            document: dict[str, Any] = orjson.loads(body)
            token = self._token(number, document["consistency_token"])
            done = acknowledged(changes, document) if changes else ()
            write = replace(write, completed=completed, changes=done, covers=token.covers)
            recorder.writes.append(write)
            return write, token
        if (name := problem_name(body)) in ("vector-not-found", "vector-exists"):
            recorder.counts["declined"] += 1
        else:
            recorder.unexpected.append(f"{call.method} {call.path} {call.body}: {status} {name}")
        return None

    async def _settled(
        self, write: Write, call: Call, *, with_key: bool, headers: str = ""
    ) -> tuple[int, bytes, float] | None:
        """The status and body that settle the write, and when. None: nothing was written, or whether it was is unknown;
        then it is recorded so."""
        recorder = self._recorder
        try:
            status, body = await self._outcome(call, with_key=with_key, headers=headers)
        except NotSentError:
            return None
        except NotAnsweredError:
            recorder.sent += 1
            recorder.counts["unknown"] += 1
            recorder.writes.append(write)
            return None
        recorder.sent += 1
        return status, body, time.monotonic()

    async def _outcome(self, call: Call, *, with_key: bool, headers: str = "") -> tuple[int, bytes]:
        """The status and body of an answer that settles it.

        Raises:
            NotSentError, NotAnsweredError
        """
        headers += f"Idempotency-Key: {uuid4()}\r\n" if with_key else ""
        give_up_at = time.monotonic() + (RETRY_SECONDS if with_key else 0)
        failure: NotSentError | NotAnsweredError = NotSentError()
        while True:
            try:
                status, body = await self._send(self._command_url, call, headers)
            except NotSentError:
                pass
            except NotAnsweredError as error:
                failure = error
            else:
                if status not in _REFUSALS:
                    return status, body
                failure = NotAnsweredError()
                self._recorder.counts["refused"] += 1
            await asyncio.sleep(PAUSE_SECONDS)
            if time.monotonic() >= give_up_at:
                raise failure

    async def _send(self, url: str, call: Call, headers: str) -> tuple[int, bytes]:
        raw = request(url, call.method, call.path, call.body, headers)
        connection = self._connections.get(url)
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                if connection is None or not connection.is_open:
                    connection = self._connections[url] = await Connection.open(url)
        except (OSError, TimeoutError) as error:
            raise NotSentError from error
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                return await connection.send(raw)
        except (OSError, TimeoutError) as error:
            connection.close()
            raise NotAnsweredError from error

    def _token(self, number: int, text: str) -> Token:
        return Token(number, text, self._signer.read_token(text).last)


def _read(number: int, question: Question, invoked: float, completed: float, asked: Asked) -> Read:
    return Read(
        number, question, invoked, completed, freshness=None,
        carried=tuple(one.number for one in asked.tokens),
        demanded=max((one.covers for one in asked.tokens), default=0),
        max_staleness_ms=asked.max_staleness_ms,
        server=asked.server,
    )  # fmt: skip
