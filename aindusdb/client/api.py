"""The calls of the API, typed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from aindusdb.client.errors import UnexpectedAnswerError
from aindusdb.client.models import BatchAnswer, Collection, CollectionPage, CreatedCollection, SearchAnswer
from aindusdb.client.retries import RetryPolicy
from aindusdb.client.transport import Transport, WaitListener

_Model = TypeVar("_Model", bound=BaseModel)

_PREFIX = "/api/v1"
_TOKEN_HEADER = "X-Consistency-Token"  # noqa: S105


class Client:
    """Use it as a context manager. `url` is that of the edge, the gateway, or one service.

    Every method raises `ProblemError` when the service refuses, `UnreachableError` when no answer comes, and
    `UnexpectedAnswerError` when something else answers. Reads, and writes that may be repeated without harm, are
    sent again as `retries` says; others are sent once.
    """

    def __init__(
        self,
        url: str,
        *,
        retries: RetryPolicy | None = None,
        timeout_seconds: float = 60.0,
        on_wait: WaitListener | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._url = url
        self._transport = Transport(
            url,
            retries=retries or RetryPolicy(),
            timeout_seconds=timeout_seconds,
            on_wait=on_wait,
            http=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

    def give_up(self) -> None:
        """From now on no failure is waited out, in no thread."""
        self._transport.give_up()

    def collections(self) -> Iterator[Collection]:
        """All of them, page by page."""
        parameters: dict[str, str | int] = {"limit": 1000}
        while True:
            page = self._read(
                CollectionPage,
                self._transport.exchange("GET", f"{_PREFIX}/collections", parameters=parameters, repeatable=True),
            )
            yield from page.items
            if page.next_cursor is None:
                return
            parameters["cursor"] = page.next_cursor

    def collection(self, name: str, *, token: str | None = None) -> Collection:
        """With `token` at least as new as the write that answered it."""
        headers = {_TOKEN_HEADER: token} if token else None
        answer = self._transport.exchange("GET", _collection(name), headers=headers, repeatable=True)
        return self._read(Collection, answer)

    def create_collection(self, name: str, **definition: Any) -> CreatedCollection:
        """`definition` as the API takes it: dimension, metric, type, index, model, description. With the service's
        model, or with neither model nor dimension, the collection takes texts."""
        body = _encode({"name": name, **definition})
        answer = self._transport.exchange("POST", f"{_PREFIX}/collections", body=body, repeatable=False)
        return self._read(CreatedCollection, answer)

    def update_collection(self, name: str, **changes: Any) -> CreatedCollection:
        """`changes` as the API takes them; None removes a description."""
        answer = self._transport.exchange("PATCH", _collection(name), body=_encode(changes), repeatable=True)
        return self._read(CreatedCollection, answer)

    def delete_collection(self, name: str) -> dict[str, Any]:
        return self._transport.exchange("DELETE", _collection(name), repeatable=False)

    def write_batch(
        self, collection: str, operations: Sequence[Mapping[str, Any]], *, idempotency_key: str | None = None
    ) -> BatchAnswer:
        """All operations take effect or none. Where one has `content` and no `embedding`, the service embeds it, if the
        collection takes texts. Repeated on failure if it has a key, or holds upserts only."""
        plain_upserts = all(one["op"] == "upsert" and one.get("if_version") is None for one in operations)
        answer = self._transport.exchange(
            "POST",
            f"{_collection(collection)}/vectors/batch",
            body=_encode({"operations": operations}),
            headers={"Idempotency-Key": idempotency_key} if idempotency_key else None,
            repeatable=plain_upserts or idempotency_key is not None,
        )
        return self._read(BatchAnswer, answer)

    def vectors(
        self, collection: str, *, token: str | None = None, **parameters: str | int
    ) -> Iterator[dict[str, Any]]:
        """All of them in the order of their ids, page by page. `parameters` as the API takes them: limit, include."""
        headers = {_TOKEN_HEADER: token} if token else None
        asked: dict[str, str | int] = {"limit": 1000, **parameters}
        while True:
            page = self._transport.exchange(
                "GET", f"{_collection(collection)}/vectors", parameters=asked, headers=headers, repeatable=True
            )
            yield from page["items"]
            if page.get("next_cursor") is None:
                return
            asked["cursor"] = page["next_cursor"]

    def search(self, collection: str, **request: Any) -> SearchAnswer:
        """`request` as the API takes it: embedding, query or id, and k, filter, exact, include, consistency_token …"""
        answer = self._transport.exchange(
            "POST", f"{_collection(collection)}/vectors/search", body=_encode(request), repeatable=True
        )
        return self._read(SearchAnswer, answer)

    def _read(self, model: type[_Model], answer: dict[str, Any]) -> _Model:
        try:
            return model.model_validate(answer)
        except ValidationError as error:
            fault = error.errors()[0]
            where = "/".join(map(str, fault["loc"]))
            raise UnexpectedAnswerError(self._url, 200, f"{where}: {fault['msg']}") from error


def _collection(name: str) -> str:
    return f"{_PREFIX}/collections/{quote(name, safe='')}"


def _encode(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
