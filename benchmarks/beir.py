"""A test collection for retrieval: texts, questions, and which texts answer which question."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LAYOUT = "corpus.jsonl, queries.jsonl, and qrels.tsv or qrels/test.tsv"


class NoCollectionError(Exception):
    """The test collection cannot be had. The message says what to do."""


@dataclass(frozen=True, slots=True)
class TestCollection:
    """`relevance`: question id -> text id -> how relevant the text is (0: not at all)."""

    name: str
    texts: Mapping[str, str]
    titles: Mapping[str, str]
    questions: Mapping[str, str]
    relevance: Mapping[str, Mapping[str, int]]


def read_folder(folder: Path) -> TestCollection:
    """A folder in BEIR's layout. A text is its title and its body.

    Raises:
        NoCollectionError: it is none.
    """
    judged = next((path for path in (folder / "qrels.tsv", folder / "qrels" / "test.tsv") if path.is_file()), None)
    if judged is None or not (folder / "corpus.jsonl").is_file() or not (folder / "queries.jsonl").is_file():
        raise NoCollectionError(f"{folder} is no folder in BEIR's layout: it must hold {_LAYOUT}")
    documents = _lines(folder / "corpus.jsonl")
    relevance: dict[str, dict[str, int]] = {}
    with judged.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            relevance.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
    questions = {one["_id"]: one["text"] for one in _lines(folder / "queries.jsonl")}
    return TestCollection(
        name=folder.name,
        texts={one["_id"]: _text(one["_id"], one.get("title", ""), one["text"]) for one in documents},
        titles={one["_id"]: one.get("title", "") for one in documents},
        questions={number: text for number, text in questions.items() if number in relevance},
        relevance=relevance,
    )


def download(name: str) -> TestCollection:
    """One of ir_datasets' collections, fetched from where its owners keep it.

    Raises:
        NoCollectionError
    """
    try:
        import ir_datasets
    except ImportError as error:
        raise NoCollectionError("ir_datasets is not installed; `make demo` installs it") from error
    try:
        dataset = ir_datasets.load(name)
        documents = list(dataset.docs_iter())
        questions = {one.query_id: one.default_text() for one in dataset.queries_iter()}
        relevance: dict[str, dict[str, int]] = {}
        for judgement in dataset.qrels_iter():
            relevance.setdefault(judgement.query_id, {})[judgement.doc_id] = max(judgement.relevance, 0)
    except KeyError as error:
        raise NoCollectionError(f"ir_datasets knows no collection {name!r}") from error
    except (OSError, RuntimeError) as error:
        raise NoCollectionError(
            f"the collection {name!r} cannot be downloaded ({type(error).__name__}); name a folder in BEIR's layout "
            "with --data"
        ) from error
    titles = {one.doc_id: str(getattr(one, "title", "")) for one in documents}
    return TestCollection(
        name=name,
        texts={one.doc_id: _text(one.doc_id, "", one.default_text()) for one in documents},
        titles=titles,
        questions={number: text for number, text in questions.items() if number in relevance},
        relevance=relevance,
    )


def _text(document_id: str, title: str, body: str) -> str:
    """A text that says nothing cannot be embedded; it is stored under its own name."""
    return f"{title} {body}".strip() or f"(no text: {document_id})"


def _lines(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]
