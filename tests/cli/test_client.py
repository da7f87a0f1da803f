from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from aindusdb.client import Client, ProblemError, RetryPolicy, UnexpectedAnswerError, UnreachableError
from aindusdb.client.errors import ProjectionLagError
from tests.cli.fake_service import problem

QUICK = RetryPolicy(patience_seconds=5.0, first_pause_seconds=0.001, longest_pause_seconds=0.002)


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


def slowed(retry_after: str = "0") -> httpx.Response:
    return httpx.Response(429, json=problem(429, "projection-lag", "slower"), headers={"Retry-After": retry_after})


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


def test_every_write_is_repeated_under_the_key_of_its_first_attempt() -> None:
    writes: list[Callable[[Client], object]] = [
        lambda client: client.create("a", embedding=[1.0]),
        lambda client: client.put("a", "x", embedding=[1.0]),
        lambda client: client.patch("a", "x", content=None),
        lambda client: client.delete("a", "x"),
        lambda client: client.restore("a", "x", 1),
        lambda client: client.set_alias("b", "a"),
        lambda client: client.remove_alias("b"),
        lambda client: client.delete_matching("a", {}),
        lambda client: client.patch_matching("a", {}, {"content": None}),
    ]
    changed = {"dry_run": False, "matched": 0, "conflicts": 0, "skipped": [], "limit_reached": False}
    written = {
        "id": "x", "name": "b", "collection": "a", "collection_id": "c", "version": 1, "position": 1,
        "consistency_token": "t", "deleted": 0, "changed": 0, "unchanged": 0, **changed,
    }  # fmt: skip
    keys = set()
    for write in writes:
        answers = Answers(overloaded(), httpx.ReadError("broken"), httpx.Response(200, json=written))
        with client_of(answers) as client:
            write(client)
        [key] = {request.headers["Idempotency-Key"] for request in answers.requests}
        [body] = {request.content for request in answers.requests}
        assert b"content" not in body or b'"content":null' in body
        keys.add(key)
    assert len(keys) == len(writes)


def test_an_import_from_an_iterator_is_sent_once() -> None:
    answers = Answers(httpx.ReadError("broken"))
    with client_of(answers) as client, pytest.raises(UnreachableError):
        client.import_lines("a", iter([b"{}"]))
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


def test_a_write_that_is_slowed_waits_beyond_the_patience_for_failures() -> None:
    written = httpx.Response(
        200, json={"id": "x", "version": 1, "position": 1, "collection": "a", "consistency_token": "t"}
    )
    waits: list[float] = []
    impatient = RetryPolicy(patience_seconds=0.9, first_pause_seconds=0.001, longest_pause_seconds=0.002)
    answers = Answers(slowed("1"), slowed(), overloaded(), written)
    with Client(
        "http://service", retries=impatient, transport=httpx.MockTransport(answers),
        on_wait=lambda _cause, seconds: waits.append(seconds),
    ) as client:  # fmt: skip
        client.put("a", "x", embedding=[1.0])
    assert waits[0] == 1
    assert len(waits) == 3


def test_patience_with_being_slowed_ends_too() -> None:
    answers = Answers(slowed("2"))
    policy = RetryPolicy(slowed_patience_seconds=1.0)
    with client_of(answers, policy) as client, pytest.raises(ProjectionLagError) as caught:
        client.put("a", "x", embedding=[1.0])
    assert caught.value.retry_after_seconds == 2


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
