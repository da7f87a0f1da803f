"""What a request asks and what its answer means, without sending anything: both clients send these."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar
from urllib.parse import quote
from uuid import uuid4

import httpx
import pydantic

from aindusdb.client.embeddings import EmbeddingInput, encode_embedding
from aindusdb.client.errors import ProblemError, UnexpectedAnswerError, UnreachableError
from aindusdb.client.models import Answer, Page

PREFIX = "/api/v1"
TOKEN_HEADER = "X-Consistency-Token"  # noqa: S105
KEY_HEADER = "Idempotency-Key"

AnswerT = TypeVar("AnswerT", bound=Answer)
PageT = TypeVar("PageT", bound=Page)
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Parameter: TypeAlias = str | int | Sequence[str]


Moment: TypeAlias = Mapping[str, int | str]
"""Of the past: one of `position`, `time` (ISO 8601) and `snapshot`, with its value."""


class Unset(Enum):
    """What was not given, where None has a meaning of its own: it removes."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET


@dataclass(frozen=True, slots=True)
class Call(Generic[AnswerT]):
    """One request. `repeatable`: sent twice, it takes effect once."""

    method: Method
    path: str
    answer: type[AnswerT]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    media_type: str = "application/json"
    repeatable: bool = True
    takes_tokens: bool = False

    def carrying(self, tokens: Iterable[str]) -> Call[AnswerT]:
        """The same, of a state that covers the tokens."""
        joined = ",".join(tokens)
        return replace(self, headers={**self.headers, TOKEN_HEADER: joined}) if joined and self.takes_tokens else self

    def sent_headers(self) -> dict[str, str]:
        return {**self.headers, **({} if self.body is None else {"Content-Type": self.media_type})}


def reading(
    path: str,
    answer: type[AnswerT],
    *,
    parameters: Mapping[str, Parameter | None] | None = None,
    body: Mapping[str, Any] | None = None,
) -> Call[AnswerT]:
    """A read; with a body it is a POST. What is None is left out."""
    return Call(
        "GET" if body is None else "POST",
        path,
        answer,
        parameters=given(parameters or {}),
        body=None if body is None else encode(given(body)),
        takes_tokens=True,
    )


def writing(
    method: Method,
    path: str,
    answer: type[AnswerT],
    body: Mapping[str, Any] | bytes | None = None,
    *,
    idempotency_key: str | None = None,
    if_version: int | None = None,
    takes_tokens: bool = False,
) -> Call[AnswerT]:
    """A write under an idempotency key, so that it can be repeated without harm. `takes_tokens`: it reads first what it
    is to change."""
    headers = {KEY_HEADER: idempotency_key or uuid4().hex}
    if if_version is not None:
        headers["If-Match"] = f'"{if_version}"'
    encoded = body if isinstance(body, bytes) or body is None else encode(body)
    return Call(method, path, answer, headers=headers, body=encoded, takes_tokens=takes_tokens)


def alias_path(name: str) -> str:
    return "/".join((PREFIX, "aliases", quote(name, safe="")))


def collection_path(name: str, *rest: str) -> str:
    return "/".join((PREFIX, "collections", *(quote(part, safe="") for part in (name, *rest))))


def vector_path(collection: str, *rest: str) -> str:
    return collection_path(collection, "vectors", *rest)


def vector_body(
    embedding: EmbeddingInput | str | None,
    content: str | Unset | None,
    metadata: Mapping[str, Any] | Unset | None,
    model: str | None,
    expires_at: datetime | str | Unset | None = UNSET,
) -> dict[str, Any]:
    """The parts that were given. An embedding that is a text is base64 already.

    Raises:
        ValueError: the instant has no zone.
    """
    return {
        **({} if embedding is None else {"embedding": as_base64(embedding)}),
        **({} if content is UNSET else {"content": content}),
        **({} if metadata is UNSET else {"metadata": metadata}),
        **({} if model is None else {"model": model}),
        **({} if expires_at is UNSET else {"expires_at": _instant(expires_at)}),
    }


def _instant(given: datetime | str | Unset | None) -> Any:
    if not isinstance(given, datetime):
        return given
    if given.utcoffset() is None:
        raise ValueError(f"{given.isoformat()} has no zone, such as datetime.UTC")
    return given.isoformat()


def shown(include: Sequence[str] | None, exclude: Sequence[str] | None = None) -> dict[str, Any]:
    """What is answered of each vector; embeddings as base64."""
    return {
        **({} if include is None else {"include": list(include)}),
        **({} if exclude is None else {"exclude": list(exclude)}),
        **({"embedding_format": "base64"} if include is not None and "embedding" in include else {}),
    }


def as_base64(embedding: EmbeddingInput | str) -> str:
    return embedding if isinstance(embedding, str) else encode_embedding(embedding)


def moment_text(moment: Moment | None) -> str | None:
    """As a parameter takes it."""
    return None if moment is None else json.dumps(moment)


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is None: that takes the service's default."""
    return {name: value for name, value in options.items() if value is not None}


def encode(body: Any) -> bytes:
    """
    Raises:
        ValueError: a number is not finite.
        TypeError: something is no JSON.
    """
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def read_answer(call: Call[AnswerT], url: str, response: httpx.Response) -> AnswerT:
    """
    Raises:
        ProblemError, UnexpectedAnswerError
    """
    document = _document(url, response)
    try:
        return call.answer.model_validate(document)
    except pydantic.ValidationError as error:
        fault = error.errors()[0]
        where = "/".join(map(str, fault["loc"]))
        raise UnexpectedAnswerError(url, response.status_code, f"{where}: {fault['msg']}") from error


def _document(url: str, response: httpx.Response) -> dict[str, Any]:
    try:
        document = json.loads(response.content)
    except ValueError as error:
        raise UnexpectedAnswerError(url, response.status_code, "the answer is not JSON") from error
    if not isinstance(document, dict):
        raise UnexpectedAnswerError(url, response.status_code, "the answer is no JSON object")
    if response.is_success:
        return document
    if "type" not in document:
        raise UnexpectedAnswerError(url, response.status_code, "the answer is no problem document")
    retry_after = response.headers.get("Retry-After")
    seconds = float(retry_after) if retry_after is not None and retry_after.isdecimal() else None
    raise ProblemError.of(response.status_code, document, retry_after_seconds=seconds)


@contextmanager
def reached(url: str) -> Iterator[None]:
    """Says in one way that no answer came.

    Raises:
        UnreachableError
    """
    try:
        yield
    except httpx.TimeoutException as error:
        raise UnreachableError(url, "no answer came in time") from error
    except httpx.InvalidURL as error:
        raise UnreachableError(url, f"it is no URL ({error})") from error
    except (httpx.TransportError, httpx.StreamError, RuntimeError) as error:
        # RuntimeError: the client was closed meanwhile.
        raise UnreachableError(url, str(error) or type(error).__name__) from error
