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
        ("search", "--vector", "[1"),
        ("search", "--vector", '["a"]'),
        ("search", "--vector", "[1]", "--filter", "{"),
        ("search", "--vector", "[1]", "--filter", "[]"),
        ("search", "--vector", "[1e99]"),
        ("vectors", "put", "x", "--content", "text", "--metadata", "null"),
        ("vectors", "patch", "x", "--metadata", "[]"),
        ("vectors", "delete", "--filter", "7"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_before_it_is_sent(invoke: Invoke, arguments: tuple[str, ...]) -> None:
    done = invoke(*arguments, "--collection", "a")
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("search",), "--query"),
        (("search", "--vector", "[1]", "--query", "wing"), "--query"),
        (("search", "--id", "x", "--groups", "3"), "--group-by"),
        (("search", "--id", "x", "--group-by", "metadata.lang", "-k", "3"), "--k"),
        (("vectors", "put", "x"), "--content"),
        (("vectors", "patch"), "ID"),
        (("vectors", "patch", "x"), "--metadata"),
        (("vectors", "patch", "x", "--filter", "{}"), "ID"),
        (("vectors", "patch", "--filter", "{}"), "--metadata"),
        (("vectors", "patch", "--filter", "{}", "--metadata", "{}", "--content", "text"), "--filter"),
        (("vectors", "patch", "x", "--metadata", "{}", "--dry-run"), "--dry-run"),
        (("vectors", "delete"), "ID"),
        (("vectors", "delete", "x", "--limit", "3"), "--limit"),
        (("vectors", "delete", "--filter", "{}", "--if-version", "3"), "--if-version"),
    ],
)
def test_options_that_do_not_go_together_are_refused_by_name(
    invoke: Invoke, arguments: tuple[str, ...], named: str
) -> None:
    done = invoke(*arguments, "--collection", "a")
    assert done.exit_code == 2
    assert named in done.stderr


@pytest.mark.parametrize(
    "arguments", [("--m", "8"), ("--description", "x", "--no-description"), ("--metadata-index", "price"), ()]
)
def test_an_update_that_says_nothing_whole_is_refused(invoke: Invoke, arguments: tuple[str, ...]) -> None:
    assert invoke("collections", "update", "a", *arguments).exit_code == 2


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
