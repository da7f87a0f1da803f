"""Both clients have one surface, and a class for each refusal of the services."""

from __future__ import annotations

import inspect
import re

import pytest

from aindusdb.client import AsyncClient, AsyncSession, Client, ProblemError, Session
from aindusdb.client import errors as refusals
from clients import synchronous
from shared.http.problems import PROBLEMS


def surface(kind: type) -> dict[str, str]:
    """Each public method with its parameters and their types, in the words of the synchronous client."""
    methods = {
        name: member for name, member in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")
    }
    return {
        "close" if name == "aclose" else name: re.sub(r"\bAsync(?=[A-Z])", "", str(inspect.signature(member)))
        for name, member in methods.items()
    }


@pytest.mark.parametrize(("asynchronous", "blocking"), [(AsyncClient, Client), (AsyncSession, Session)])
def test_both_clients_have_the_same_surface(asynchronous: type, blocking: type) -> None:
    assert surface(asynchronous) == surface(blocking)
    assert {"search", "put_many", "events", "import_lines", "history"} <= surface(blocking).keys()


def test_the_synchronous_client_is_what_the_asynchronous_one_gives() -> None:
    assert synchronous.faults() == []


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_problem_has_a_class_of_its_own(name: str) -> None:
    error = ProblemError.of(400, {"type": f"/problems/{name}", "detail": "no", "errors": [{"pointer": "/a"}]})
    assert type(error) is not ProblemError
    assert getattr(refusals, type(error).__name__) is type(error)
    assert (error.name, str(error), error.errors) == (name, "no", [{"pointer": "/a"}])


def test_a_problem_that_the_client_does_not_know_is_a_problem() -> None:
    assert type(ProblemError.of(418, {"type": "/problems/from-the-future"})) is ProblemError
