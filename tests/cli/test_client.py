from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from aindusdb.client import Client, ProblemError, RetryPolicy, UnexpectedAnswerError, UnreachableError
from tests.cli.fake_service import problem

QUICK = RetryPolicy(patience_seconds=5.0, first_pause_seconds=0.001, longest_pause_seconds=0.002)
BATCH = {"results": [], "first_position": 1, "last_position": 1, "consistency_token": "t"}


def client_of(handle: Callable[[httpx.Request], httpx.Response], retries: RetryPolicy = QUICK) -> Client:
    return Client("http://service", retries=retries, transport=httpx.MockTransport(handle))


class Answers:
    """One after the other; an exception is raised instead."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.left = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def overloaded(retry_after: str = "0") -> httpx.Response:
    return httpx.Response(503, json=problem(503, "overloaded", "busy"), headers={"Retry-After": retry_after})


def test_a_problem_carries_its_whole_document() -> None:
    document = problem(412, "version-mismatch", "it moved", expected=1, current=2)
    with client_of(Answers(httpx.Response(412, json=document))) as client, pytest.raises(ProblemError) as caught:
        client.collection("a")
    assert caught.value.document == document
    assert caught.value.name == "version-mismatch"
    assert str(caught.value) == "it moved"


def test_a_read_is_repeated_while_the_service_is_overloaded() -> None:
    answers = Answers(overloaded(), httpx.ConnectError("refused"), httpx.Response(200, json={"items": []}))
    with client_of(answers) as client:
        assert list(client.collections()) == []
    assert len(answers.requests) == 3


def test_creating_a_collection_is_not_repeated() -> None:
    answers = Answers(overloaded())
    with client_of(answers) as client, pytest.raises(ProblemError):
        client.create_collection("a", dimension=3)
    assert len(answers.requests) == 1


@pytest.mark.parametrize(
    ("operation", "key"), [({"op": "upsert", "id": "a"}, None), ({"op": "create", "id": "a"}, "key")]
)
def test_a_batch_that_is_safe_to_repeat_is_repeated(operation: dict[str, str], key: str | None) -> None:
    answers = Answers(httpx.ReadError("broken"), httpx.Response(200, json=BATCH))
    with client_of(answers) as client:
        client.write_batch("a", [operation], idempotency_key=key)
    assert [request.headers.get("Idempotency-Key") for request in answers.requests] == [key, key]


@pytest.mark.parametrize("operation", [{"op": "create"}, {"op": "patch"}, {"op": "upsert", "if_version": 1}])
def test_a_batch_that_is_not_safe_to_repeat_is_sent_once(operation: dict[str, object]) -> None:
    answers = Answers(httpx.ReadError("broken"))
    with client_of(answers) as client, pytest.raises(UnreachableError):
        client.write_batch("a", [operation])
    assert len(answers.requests) == 1


def test_an_answer_that_was_waited_for_in_vain_is_not_waited_for_again() -> None:
    answers = Answers(httpx.Response(503, json=problem(503, "not-fresh-enough")))
    with client_of(answers) as client, pytest.raises(ProblemError):
        client.search("a", embedding=[1.0])
    assert len(answers.requests) == 1


def test_a_pause_longer_than_the_patience_is_not_begun() -> None:
    answers = Answers(overloaded("600"))
    with client_of(answers) as client, pytest.raises(ProblemError) as caught:
        client.collection("a")
    assert caught.value.retry_after_seconds == 600


@pytest.mark.parametrize(
    "answer", [httpx.Response(200, text="<html>"), httpx.Response(200, json=[]), httpx.Response(418, json={"a": 1})]
)
def test_an_answer_of_something_else_is_told_apart(answer: httpx.Response) -> None:
    with client_of(Answers(answer)) as client, pytest.raises(UnexpectedAnswerError):
        client.collection("a")


def test_names_are_escaped_in_paths() -> None:
    answers = Answers(httpx.Response(404, json=problem(404, "collection-not-found")))
    with client_of(answers) as client, pytest.raises(ProblemError):
        client.collection("a/b?c")
    assert answers.requests[0].url.raw_path == b"/api/v1/collections/a%2Fb%3Fc"
