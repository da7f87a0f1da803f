from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke
from tests.cli.fake_service import FakeService


def test_collections_are_created_listed_shown_and_deleted(invoke: Invoke, service: FakeService) -> None:
    assert "no collections" in invoke("collections", "list").stdout
    created = invoke("collections", "create", "a", "--dimension", "3", "--json")
    assert json.loads(created.stdout)["consistency_token"] == "token-create"
    assert [one["name"] for one in json.loads(invoke("collections", "list", "--json").stdout)] == ["a"]
    assert "hnsw m=16" in invoke("collections", "show", "a").stdout
    assert invoke("collections", "delete", "a").exit_code == 0
    assert service.collections == {}


def test_a_refusal_is_one_sentence_and_exit_code_1(invoke: Invoke) -> None:
    done = invoke("collections", "show", "nothing", "--json")
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr == "there is no collection 'nothing'\n"


def test_hits_are_shown_without_giving_the_terminal_orders(invoke: Invoke, service: FakeService) -> None:
    service.add_collection("a")
    done = invoke("search", "--collection", "a", "--vector", "[1, 2]")
    assert done.exit_code == 0, done.output
    assert "\x1b" not in done.stdout
    assert "a\\x1b[2J" in done.stdout
    as_json = invoke("search", "--collection", "a", "--vector", "[1, 2]", "--json")
    assert json.loads(as_json.stdout)["hits"][0]["id"] == "a\x1b[2J"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--vector", "[1"),
        ("--vector", '["a"]'),
        ("--vector", "[1]", "--filter", "{"),
        ("--vector", "[1e99]"),
        ("--vector", "[1]", "--query", "wing"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused_before_it_is_sent(invoke: Invoke, arguments: tuple[str, ...]) -> None:
    done = invoke("search", "--collection", "a", *arguments)
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1


def test_an_embedding_can_come_from_a_file(invoke: Invoke, service: FakeService, tmp_path: Path) -> None:
    service.add_collection("a")
    (tmp_path / "vector.json").write_text("[0.5, 1]")
    done = invoke("search", "--collection", "a", "--vector-file", str(tmp_path / "vector.json"), "--json")
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("option", ["--query", "--text"])
def test_a_search_by_text_sends_the_text(invoke: Invoke, service: FakeService, option: str) -> None:
    service.add_collection("a")
    assert invoke("search", "--collection", "a", option, "wing flutter").exit_code == 0
    assert service.searches[0]["query"] == "wing flutter"
    assert "embedding" not in service.searches[0]


def test_a_collection_is_created_with_a_model(invoke: Invoke, service: FakeService) -> None:
    assert invoke("collections", "create", "a", "--model", "m").exit_code == 0
    assert service.collections["a"]["model"] == "m"
    assert "m" in invoke("collections", "list").stdout
