"""Where the material lies that is too large for the repository: the Cranfield collection and an embedding model."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULT_SHARED_DIR = "../shared"


@dataclass(frozen=True, slots=True)
class Document:
    id: str
    text: str


def shared_dir() -> Path:
    """AINDUSDB_SHARED_DIR; a relative one counts from the repository."""
    return (REPOSITORY / os.environ.get("AINDUSDB_SHARED_DIR", DEFAULT_SHARED_DIR)).resolve()


def model_dir() -> Path:
    """all-MiniLM-L6-v2, 384 dimensions."""
    return shared_dir() / "models" / "all-MiniLM-L6-v2-int8"


def corpus() -> list[Document]:
    """The 1,400 abstracts, title first."""
    return [Document(one["_id"], f"{one['title']} {one['text']}") for one in _lines("corpus.jsonl")]


def queries() -> list[Document]:
    return [Document(one["_id"], one["text"]) for one in _lines("queries.jsonl")]


def judgements() -> dict[str, set[str]]:
    """For each question's id those of the abstracts that people judged relevant to it."""
    relevant: dict[str, set[str]] = {}
    with (shared_dir() / "data" / "cranfield" / "qrels.tsv").open(encoding="utf-8") as file:
        for line in list(file)[1:]:
            question, document, _score = line.split("\t")
            relevant.setdefault(question, set()).add(document)
    return relevant


def _lines(name: str) -> list[dict[str, Any]]:
    with (shared_dir() / "data" / "cranfield" / name).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]
