"""`aindusdb collections reembed` follows a move to its end, or says in a sentence what somebody has to do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aindusdb.commands import reembedding
from tests.cli.conftest import Invoke
from tests.cli.fake_service import FakeService

MOVE = ("collections", "reembed", "a", "--model", "new")


def moving(state: str, **changes: Any) -> dict[str, Any]:
    return {
        "model": "new", "provider": "openai", "dimension": 3, "from_model": None if state == "none" else "old",
        "state": state, "embedded": 5, "remaining": 7, "without_content": {"count": 0, "ids": []}, "since_position": 4,
        "reason": None, **changes,
    }  # fmt: skip


@pytest.fixture(autouse=True)
def collection(service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reembedding, "WATCH_INTERVAL_SECONDS", 0.0)
    service.add_collection("a")


def test_a_move_is_asked_for_and_watched_to_its_end(invoke: Invoke, service: FakeService) -> None:
    service.reembeddings = [moving("embedding")]
    begun = invoke(*MOVE, "--dimension", "3")
    assert (begun.exit_code, begun.stdout) == (0, "a moves to the model 'new' (openai, 3 dimensions)\n")
    assert "aindusdb collections reembedding a" in begun.stderr
    assert {name: service.collections["a"][name] for name in ("model", "dimension")} == {"model": "new", "dimension": 3}
    states = ("embedding", "embedding", "building", "finishing", "none")
    service.reembeddings = [moving(state) for state in states]
    watched = invoke(*MOVE, "--watch", "--json")
    assert (watched.exit_code, json.loads(watched.stdout)["state"]) == (0, "none")
    assert len(service.reembeddings) == 1
    assert invoke(*MOVE, "--watch").stdout == "a has the model 'new' (openai, 3 dimensions)\n"
    service.reembeddings = [moving("none", model=None, provider="client")]
    back = invoke("collections", "reembed", "a", "--no-model", "--watch")
    assert (back.stdout, service.collections["a"]["model"]) == ("a has no model (client, 3 dimensions)\n", None)


def test_what_holds_a_move_up_ends_the_watching_with_what_to_do(invoke: Invoke, service: FakeService) -> None:
    def refused(*states: dict[str, Any]) -> str:
        service.reembeddings = list(states)
        done = invoke(*MOVE, "--watch")
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.output
        return done.stderr

    without = {"count": 12, "ids": ["v\x1b[2J", "w"]}
    blocked = refused(moving("embedding"), moving("blocked", without_content=without, reason="so it is"))
    assert "held up by 12 vectors without content: v\\x1b[2J, w, …. Give each a content" in blocked
    assert "is held up: too long" in refused(moving("blocked", reason="too long"))
    assert "moves elsewhere by now: to the model 'old'" in refused(moving("embedding", model="old"))
    failed = {
        "state": "failed",
        "generation": 2,
        "position": 3,
        "target": 3,
        "reason": "no place",
        "since": "2026-01-05",
    }
    service.collections["a"]["change"] = {**failed, "since": "2026-01-05T08:30:00Z"}
    assert refused(moving("building")).endswith("is tried again by itself: no place\n")


def test_a_model_is_named_or_said_to_be_none(invoke: Invoke) -> None:
    for arguments in (MOVE[:3], (*MOVE, "--no-model")):
        assert invoke(*arguments).exit_code == 2


def test_how_far_a_move_is_shows_as_a_table(invoke: Invoke, service: FakeService) -> None:
    def shown(found: dict[str, Any]) -> dict[str, str]:
        service.reembeddings = [found]
        lines = invoke("collections", "reembedding", "a").stdout.splitlines()
        return {line[:15].strip(): line[15:].strip() for line in lines}

    blocked = moving("blocked", remaining=None, without_content={"count": 1, "ids": ["v"]}, reason="one has none")
    assert shown(blocked) == {
        "state": "blocked: held up", "to": "the model 'new' (openai, 3 dimensions)", "from": "the model 'old'",
        "embedded": "5 vectors", "remaining": "not counted yet", "since": "position 4",
        "without content": "1 vector without content: v", "reason": "one has none",
    }  # fmt: skip
    service.reembeddings = [moving("none")]
    assert "none: it does not move" in invoke("collections", "reembedding", "a").stdout
    as_json = json.loads(invoke("collections", "reembedding", "a", "--json").stdout)
    assert as_json["without_content"] == {"count": 0, "ids": []}
