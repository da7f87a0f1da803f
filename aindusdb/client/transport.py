"""One HTTP exchange with its timeouts, its retries and its refusals."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import httpx

from aindusdb.client.errors import ClientError, ProblemError, UnexpectedAnswerError, UnreachableError
from aindusdb.client.retries import RetryPolicy, is_transient

WaitListener = Callable[[ClientError, float], None]
"""Called before each pause with its cause and its length in seconds."""

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


class Transport:
    """May be used by several threads at once."""

    def __init__(
        self,
        url: str,
        *,
        retries: RetryPolicy,
        timeout_seconds: float,
        on_wait: WaitListener | None,
        http: httpx.BaseTransport | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._retries = retries
        self._on_wait = on_wait
        self._closing = threading.Event()
        # trust_env off: a proxy meant for the internet must not stand before a local database.
        self._http = httpx.Client(timeout=httpx.Timeout(timeout_seconds, connect=5.0), trust_env=False, transport=http)

    def close(self) -> None:
        """Ends the pauses of other threads as well: their requests fail at once."""
        self.give_up()
        self._http.close()

    def give_up(self) -> None:
        """From now on nothing is sent a second time."""
        self._closing.set()

    def exchange(
        self,
        method: Method,
        path: str,
        *,
        body: bytes | None = None,
        parameters: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool,
    ) -> dict[str, Any]:
        """The JSON object of a successful answer. A request that is not `repeatable` is sent once.

        Raises:
            ProblemError, UnreachableError, UnexpectedAnswerError
        """
        deadline = time.monotonic() + self._retries.patience_seconds
        failures = 0
        while True:
            try:
                return self._once(method, path, body, parameters, headers)
            except (ProblemError, UnreachableError) as failure:
                failures += 1
                if not repeatable or not _may_pass(failure):
                    raise
                asked = failure.retry_after_seconds if isinstance(failure, ProblemError) else None
                pause = self._retries.pause_seconds(failures, asked)
                if time.monotonic() + pause > deadline:
                    raise
                if self._on_wait is not None:
                    self._on_wait(failure, pause)
                if self._closing.wait(pause):
                    raise

    def _once(
        self,
        method: Method,
        path: str,
        body: bytes | None,
        parameters: Mapping[str, str | int] | None,
        headers: Mapping[str, str] | None,
    ) -> dict[str, Any]:
        sent = dict(headers or {})
        if body is not None:
            sent["Content-Type"] = "application/json"
        try:
            answer = self._http.request(method, self._url + path, content=body, params=parameters, headers=sent)
        except httpx.TimeoutException as error:
            raise UnreachableError(self._url, "no answer came in time") from error
        except httpx.InvalidURL as error:
            raise UnreachableError(self._url, f"it is no URL ({error})") from error
        except (httpx.TransportError, RuntimeError) as error:  # RuntimeError: the client was closed meanwhile
            raise UnreachableError(self._url, str(error) or type(error).__name__) from error
        return self._read(answer)

    def _read(self, answer: httpx.Response) -> dict[str, Any]:
        try:
            document = json.loads(answer.content)
        except ValueError as error:
            raise UnexpectedAnswerError(self._url, answer.status_code, "the answer is not JSON") from error
        if not isinstance(document, dict):
            raise UnexpectedAnswerError(self._url, answer.status_code, "the answer is no JSON object")
        if answer.is_success:
            return document
        if "type" not in document:
            raise UnexpectedAnswerError(self._url, answer.status_code, "the answer is no problem document")
        raise ProblemError(
            answer.status_code, document, retry_after_seconds=_seconds(answer.headers.get("Retry-After"))
        )


def _may_pass(failure: ProblemError | UnreachableError) -> bool:
    return isinstance(failure, UnreachableError) or is_transient(failure.status, failure.name)


def _seconds(retry_after: str | None) -> float | None:
    return float(retry_after) if retry_after is not None and retry_after.isdecimal() else None
