"""The same vectors from every kind of file arrive as the same vectors."""

from __future__ import annotations

import base64
import csv
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from aindusdb.commands.import_lines import Line
from aindusdb.commands.import_sources import Format, open_source
from tests.cli.conftest import Invoke
from tests.cli.fake_service import FakeService

COUNT = 2_300
NUMBERS = np.random.default_rng(5).standard_normal((COUNT, 2)).astype(np.float32)
VECTORS = [
    {"id": f"v{n}", "embedding": NUMBERS[n].tolist(), "content": f"{n}\nä", "metadata": {"lang": "en", "n": n}}
    for n in range(COUNT)
]


def write_jsonl(path: Path) -> list[str]:
    path.write_text("".join(json.dumps(one) + "\n" for one in VECTORS))
    return []


def write_parquet(path: Path) -> list[str]:
    columns = {
        "id": [one["id"] for one in VECTORS],
        "embedding": pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(NUMBERS.ravel()), 2),
        "content": [one["content"] for one in VECTORS],
        "metadata": ['{"lang": "en"}'] * COUNT,
        "n": range(COUNT),
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=700)
    return []


def write_csv(path: Path) -> list[str]:
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["n", "lang", "embedding", "content", "id"])
        for n, one in enumerate(VECTORS):
            embedding = json.dumps(one["embedding"]) if n % 2 else base64.b64encode(NUMBERS[n].tobytes()).decode()
            rows.writerow([n, "en", embedding, one["content"], one["id"]])
    return []


def write_npy(path: Path) -> list[str]:
    np.save(path, NUMBERS.astype(np.float64))
    ids = path.with_name("ids.npy")
    np.save(ids, np.array([one["id"] for one in VECTORS]))
    return ["--ids", str(ids)]


WRITERS = {"jsonl": write_jsonl, "parquet": write_parquet, "csv": write_csv, "npy": write_npy}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_of_file_brings_the_same_vectors(
    invoke: Invoke, service: FakeService, tmp_path: Path, kind: str
) -> None:
    service.add_collection("a")
    path = tmp_path / f"data.{kind}"
    options = WRITERS[kind](path)
    done = invoke("import", str(path), "--collection", "a", "--batch-size", "1000", "--json", *options)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["created"] == COUNT
    for n, wanted in enumerate(VECTORS):
        got = service.vectors[f"v{n}"]
        assert np.frombuffer(base64.b64decode(got["embedding"]), "<f4").tolist() == wanted["embedding"]
        if kind != "npy":
            assert (got["content"], got["metadata"]) == (wanted["content"], wanted["metadata"])


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("behind", [0, 1, 699, 700, 1_000, 2_299, 2_300])
def test_reading_goes_on_behind_any_row(tmp_path: Path, kind: str, behind: int) -> None:
    path = tmp_path / f"data.{kind}"
    ids = WRITERS[kind](path)
    source = open_source(path, Format(kind), Path(ids[1]) if ids else None)
    everything: list[Line] = list(source.lines())
    start = everything[behind - 1].end if behind else 0
    assert list(source.lines(start=start, number=behind)) == everything[behind:]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("data.bin", b"", "--format"),
        ("data.parquet", b"no", "is no Parquet file"),
        ("data.csv", b"a,b\n1,2\n", "neither a column"),
        ("data.npy", b"no", "is no NumPy file"),
        ("absent.csv", None, "No such file"),
    ],
)
def test_a_file_that_is_something_else_is_refused_in_one_sentence(
    invoke: Invoke, service: FakeService, tmp_path: Path, name: str, content: bytes | None, sentence: str
) -> None:
    service.add_collection("a")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    done = invoke("import", str(tmp_path / name), "--collection", "a")
    assert done.exit_code == 1
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


def test_bad_rows_are_named_and_rejected_as_lines(invoke: Invoke, service: FakeService, tmp_path: Path) -> None:
    service.add_collection("a")
    path, rejects = tmp_path / "data.csv", tmp_path / "rejects.jsonl"
    path.write_text('id,embedding,metadata\na,"[1,2]",{}\nb,"[1]",{}\nc,"[1,2]",{\n')
    stopped = invoke("import", str(path), "--collection", "a")
    assert "row 2: /embedding: the collection's dimension is 2" in stopped.stderr
    assert "row 3: /metadata: not valid JSON" in stopped.stderr
    options = ["--on-error", "skip", "--rejects", str(rejects), "--json"]
    skipped: Any = json.loads(invoke("import", str(path), "--collection", "a", *options).stdout)
    assert (skipped["created"], skipped["skipped"]) == (1, 2)
    assert json.loads(rejects.read_text().splitlines()[0])["id"] == "b"


def test_without_pyarrow_it_is_said_what_to_install(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_name: str) -> None:
        raise ModuleNotFoundError

    monkeypatch.setattr(importlib, "import_module", missing)
    (tmp_path / "data.parquet").touch()
    done = invoke("import", str(tmp_path / "data.parquet"), "--collection", "a")
    assert "pip install 'aindusdb-core[files]'" in done.stderr
