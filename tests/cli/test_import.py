from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Invoke
from tests.cli.fake_service import Answer, FakeService, problem

REPOSITORY = Path(__file__).parents[2]


def write_lines(path: Path, *lines: Any) -> Path:
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in lines))
    return path


def vectors(count: int) -> list[dict[str, Any]]:
    return [{"id": f"v{number}", "embedding": [1.0, number]} for number in range(1, count + 1)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "data.jsonl", *vectors(10))


def progress_files(folder: Path) -> list[Path]:
    return list(folder.glob("*.aindusdb-progress*"))


def test_lines_arrive_and_the_counts_are_told(invoke: Invoke, service: FakeService, file: Path) -> None:
    service.add_collection("a")
    done = invoke("import", str(file), "--collection", "a", "--batch-size", "4", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert (report["created"], report["updated"], report["unchanged"], report["skipped"]) == (10, 0, 0, 0)
    assert report["consistency_token"].startswith("token-")
    assert set(service.vectors) == {f"v{number}" for number in range(1, 11)}
    assert sorted(len(operations) for _, operations in service.batches) == [2, 4, 4]
    assert progress_files(file.parent) == []


def test_importing_again_changes_nothing(invoke: Invoke, service: FakeService, tmp_path: Path) -> None:
    service.add_collection("a")
    file = write_lines(tmp_path / "data.jsonl", {"embedding": [1, 0]}, {"embedding": [0, 1]})
    invoke("import", str(file), "--collection", "a")
    done = invoke("import", str(file), "--collection", "a", "--json")
    assert json.loads(done.stdout)["unchanged"] == 2
    assert len(service.vectors) == 2


def test_importing_again_after_a_deletion_writes_again(invoke: Invoke, service: FakeService, file: Path) -> None:
    service.add_collection("a")
    invoke("import", str(file), "--collection", "a")
    service.vectors.clear()
    invoke("import", str(file), "--collection", "a")
    assert len(service.vectors) == 10
    assert len({key for key, _ in service.batches}) == 2


def test_a_missing_collection_is_created_on_request(invoke: Invoke, service: FakeService, file: Path) -> None:
    assert "--create" in invoke("import", str(file), "--collection", "a").stderr
    done = invoke("import", str(file), "--collection", "a", "--create", "--dimension", "2")
    assert done.exit_code == 0, done.output
    assert service.collections["a"]["dimension"] == 2


def test_a_collection_is_created_as_the_first_line_is(invoke: Invoke, service: FakeService, tmp_path: Path) -> None:
    texts = write_lines(tmp_path / "texts.jsonl", {"content": "wing"}, {"content": "flutter"})
    assert invoke("import", str(texts), "--collection", "texts", "--create").exit_code == 0
    assert service.collections["texts"]["model"] == "the-service-model"
    assert [one.get("embedding") for one in service.vectors.values()] == [None, None]
    vectors = write_lines(
        tmp_path / "vectors.jsonl", {"embedding": [1, 2, 3], "content": " "}, {"embedding": [2, 3, 4]}
    )
    assert invoke("import", str(vectors), "--collection", "vectors", "--create").exit_code == 0
    assert service.collections["vectors"]["dimension"] == 3
    assert invoke("import", str(texts), "--collection", "named", "--create", "--model", "m").exit_code == 0
    assert service.collections["named"]["model"] == "m"
    refused = invoke("import", str(texts), "--collection", "named", "--create", "--model", "n")
    assert (refused.exit_code, "has model m, not n" in refused.stderr) == (1, True)


def test_texts_that_are_longer_than_the_model_sees_are_counted(
    invoke: Invoke, service: FakeService, tmp_path: Path
) -> None:
    service.add_collection("a")
    file = write_lines(tmp_path / "texts.jsonl", {"content": "x" * 200}, {"content": "x"})
    done = invoke("import", str(file), "--collection", "a", "--json")
    assert json.loads(done.stdout)["truncated"] == 1
    again = invoke("import", str(file), "--collection", "a", "--restart")
    assert "1 contents are longer than the model sees" in again.stderr


BAD_LINES = {
    "not json": "not valid JSON",
    '{"id": "x", "id": "y", "embedding": [1, 2]}': "duplicate key",
    '{"id": "x", "embedding": [1, 2, 3]}': "dimension is 2",
    '{"id": "x", "embedding": [NaN, 2]}': "not valid JSON",
    '{"id": "x", "embedding": [1e39, 2]}': "not finite",
    '{"id": "x", "embedding": [0, 0]}': "zero vector",
    "[1, 2]": "one JSON object",
    '{"id": "x", "embedding": [1, 2], "colour": 1}': "/colour",
    '{"id": "a/b", "embedding": [1, 2]}': "'/'",
    '{"id": "x"}': "/embedding",
    '{"id": "x", "content": " "}': "blank content",
    '{"id": "x", "embedding": [1, 2], "content": "' + "x" * 1_100_000 + '"}': "at most 1,048,576 bytes",
}


@pytest.mark.parametrize(("line", "rule"), BAD_LINES.items(), ids=BAD_LINES.values())
def test_a_bad_line_is_named_and_nothing_is_written(
    invoke: Invoke, service: FakeService, tmp_path: Path, line: str, rule: str
) -> None:
    service.add_collection("a")
    file = write_lines(tmp_path / "data.jsonl", *vectors(3), "", line, *vectors(2))
    done = invoke("import", str(file), "--collection", "a", "--json")
    assert done.exit_code == 1
    assert done.stdout == ""
    assert "line 5: " in done.stderr
    assert rule in done.stderr
    assert "nothing was written" in done.stderr
    assert service.batches == []


def test_bad_lines_are_skipped_on_request_and_copied(invoke: Invoke, service: FakeService, tmp_path: Path) -> None:
    service.add_collection("a")
    long = json.dumps({"id": "long", "content": "x" * 3_000_000})
    file = write_lines(tmp_path / "data.jsonl", *vectors(3), "no", long, *["[]"] * 30, {"id": "z", "embedding": [1, 1]})
    rejects = tmp_path / "rejects.jsonl"
    arguments = ["import", str(file), "--collection", "a", "--on-error", "skip", "--rejects", str(rejects)]
    done = invoke(*arguments, "--batch-size", "5", "--json")
    assert done.exit_code == 1
    report = json.loads(done.stdout)
    assert (report["created"], report["skipped"], len(report["first_skipped"])) == (4, 32, 20)
    assert report["first_skipped"][0]["line"] == 4
    assert rejects.read_text().splitlines() == ["no", long, *["[]"] * 30]
    assert "z" in service.vectors


def refuse_v3(_number: int, operations: list[dict[str, Any]]) -> Answer | None:
    for index, one in enumerate(operations):
        if one["id"] == "v3":
            error = {"pointer": f"/operations/{index}/id", "type": "validation", "detail": "no such luck"}
            return 422, problem(422, "validation", errors=[error]), {}
    return None


def test_what_the_service_refuses_is_traced_to_its_line(invoke: Invoke, service: FakeService, file: Path) -> None:
    service.add_collection("a")
    service.fault = refuse_v3
    stopped = invoke("import", str(file), "--collection", "a", "--batch-size", "2")
    assert stopped.exit_code == 1
    assert "line 3: /id: no such luck" in stopped.stderr
    skipped = invoke("import", str(file), "--collection", "a", "--batch-size", "2", "--on-error", "skip", "--json")
    assert json.loads(skipped.stdout)["first_skipped"] == [{"line": 3, "rule": "/id: no such luck"}]
    assert set(service.vectors) == {f"v{number}" for number in range(1, 11)} - {"v3"}


def test_overload_and_broken_connections_are_waited_out(invoke: Invoke, service: FakeService, file: Path) -> None:
    service.add_collection("a")
    refusals: list[Answer] = [(503, problem(503, "overloaded"), {"Retry-After": "1"}), (0, {}, {})]
    service.fault = lambda _number, _operations: refusals.pop() if refusals else None
    done = invoke("import", str(file), "--collection", "a", "--json")
    assert json.loads(done.stdout)["created"] == 10
    assert len({key for key, _ in service.batches}) == 1


def test_the_later_of_two_lines_with_one_id_wins(invoke: Invoke, service: FakeService, tmp_path: Path) -> None:
    service.add_collection("a")
    file = write_lines(tmp_path / "d.jsonl", *({"id": "x", "embedding": [1, n], "content": str(n)} for n in range(9)))
    done = invoke("import", str(file), "--collection", "a")
    assert done.exit_code == 0, done.output
    assert service.vectors["x"]["content"] == "8"


def test_a_refused_run_goes_on_where_it_stopped(invoke: Invoke, service: FakeService, file: Path) -> None:
    service.add_collection("a")
    forbidden: Answer = (403, problem(403, "forbidden", "not you"), {})
    # Several requests are on their way at once, so nothing can be said of their order.
    service.fault = lambda _number, operations: forbidden if int(operations[0]["id"][1:]) > 4 else None
    stopped = invoke("import", str(file), "--collection", "a", "--batch-size", "2")
    assert stopped.exit_code == 1
    assert "not you" in stopped.stderr
    assert "line 4" in stopped.stderr
    service.fault = lambda _number, _operations: None
    service.batches.clear()
    resumed = invoke("import", str(file), "--collection", "a", "--batch-size", "2", "--json")
    assert json.loads(resumed.stdout)["created"] == 10
    sent = [one["id"] for _, operations in service.batches for one in operations]
    assert sorted(sent) == sorted(f"v{number}" for number in range(5, 11))


def import_command(service: FakeService, file: Path) -> list[str]:
    arguments = ["import", str(file), "--collection", "a", "--batch-size", "5", "--json", "--url", service.url]
    return [sys.executable, "-m", "tests.cli.data_commands", *arguments]


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGINT])
def test_an_import_that_is_interrupted_goes_on_without_duplicates(
    service: FakeService, tmp_path: Path, signal_number: signal.Signals
) -> None:
    service.add_collection("a")
    lines = [{"embedding": [1.0, number]} for number in range(400)]
    file = write_lines(tmp_path / "data.jsonl", *lines)

    def slow(_number: int, _operations: list[dict[str, Any]]) -> None:
        time.sleep(0.02)

    service.fault = slow
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    first = subprocess.Popen(import_command(service, file), env=environment, stderr=subprocess.PIPE)
    while len(service.batches) < 20:
        assert first.poll() is None
        time.sleep(0.01)
    first.send_signal(signal_number)
    _, said = first.communicate(timeout=20)
    assert first.returncode == (130 if signal_number == signal.SIGINT else -signal_number)
    assert b"Traceback" not in said
    sent_before = len(service.batches)
    assert len(progress_files(tmp_path)) == 1

    second = subprocess.run(import_command(service, file), env=environment, capture_output=True, check=True, timeout=60)
    report = json.loads(second.stdout)
    assert len(service.vectors) == 400
    assert report["created"] + report["unchanged"] == 400
    assert len(service.batches) - sent_before <= 80 - sent_before + 3, "it goes on where it stopped"
