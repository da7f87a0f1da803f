"""The whole product on a real test collection: texts in through Kafka, answers out of a replica, and how good they are.

Everything is started in a temporary folder and stopped at the end. The last line is one JSON object of figures."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytrec_eval
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from aindusdb.client import Client, RetryPolicy
from benchmarks.beir import NoCollectionError, TestCollection, download, read_folder
from benchmarks.figures import Target, conclude
from benchmarks.lag import measure_lag
from benchmarks.material import model_dir, shared_dir
from benchmarks.stack import Stack, stack

K = 10
BATCH = 100
COLLECTION = "demo"
SHOWN = 3
LAG_RATE = 100.0
LAG_WRITES = 1_000
PATIENCE = RetryPolicy(patience_seconds=120.0)
TARGETS = (
    Target("ndcg_at_10", 0.49),
    Target("overlap_at_10", 0.98),
    Target("missing", 0, at_most=True),
    Target("duplicated", 0, at_most=True),
    Target("second_import_events", 0, at_most=True),
    Target("second_import_embeddings", 0, at_most=True),
    Target("lag_ms_p50", 100, at_most=True),
    Target("lag_ms_p99", 400, at_most=True),
)

_console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Imported:
    seconds: float
    token: str
    last_position: int


def main() -> int:
    options = _arguments()
    try:
        texts = _collection(options)
    except NoCollectionError as error:
        raise SystemExit(str(error)) from None
    _choose_model(options.model)
    _console.print(f"{texts.name}: {len(texts.texts):,} texts, {len(texts.questions):,} questions")
    with stack(options) as running:
        figures = _run(running, texts)
    return conclude(figures, TARGETS, check=options.check)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--data", type=Path, help="a folder in BEIR's layout; by default Cranfield")
    parser.add_argument("--dataset", default="cranfield", help="where there is no folder: a collection of ir_datasets")
    parser.add_argument("--model", help="a model of fastembed by name, or the folder of one")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed")
    parser.set_defaults(url_command=None, url_query=None, data_dir=None, kafka=True, replicas=1)
    return parser.parse_args()


def _collection(options: argparse.Namespace) -> TestCollection:
    if options.data is not None:
        return read_folder(options.data)
    shared = shared_dir() / "data" / options.dataset
    return read_folder(shared) if shared.is_dir() else download(options.dataset)


def _choose_model(given: str | None) -> None:
    """The stack's services read it from the environment."""
    if given is not None and not Path(given).is_dir():
        os.environ["AINDUSDB_EMBEDDING_MODEL"] = given
    elif given is not None or model_dir().is_dir():
        os.environ["AINDUSDB_EMBEDDING_PATH"] = str(Path(given or model_dir()).absolute())


def _run(running: Stack, texts: TestCollection) -> dict[str, object]:
    with Client(running.command_url, retries=PATIENCE) as writer:
        # Neither a dimension nor a model: the collection takes texts, and the service's model embeds them.
        writer.create_collection(COLLECTION)
        first = _import(writer, texts, "Importing")
        computed = _embeddings_computed(running)
        again = _import(writer, texts, "The same once more")
    asked = _search_all(running, texts, first.token)
    asked.show(texts)
    listed = _listed(running, again.token)
    lag = asyncio.run(measure_lag(running, LAG_RATE, LAG_WRITES))
    return {
        **_quality(texts, asked.found),
        "overlap_at_10": round(float(np.mean(asked.overlaps)), 4),
        "index_used": asked.index_used,
        "documents": len(set(listed)),
        "missing": len(texts.texts.keys() - set(listed)),
        "duplicated": len(listed) - len(set(listed)),
        "second_import_events": again.last_position - first.last_position,
        "second_import_embeddings": _embeddings_computed(running) - computed,
        "import_per_second": round(len(texts.texts) / first.seconds, 1),
        **_percentiles("search_ms", asked.seconds, 50, 99),
        **_percentiles("search_vector_ms", asked.vector_seconds, 50),
        "lag_ms_p50": lag["lag_p50_ms"],
        "lag_ms_p99": lag["lag_p99_ms"],
        "transport": "kafka",
        "replica": asked.on_replica,
    }


def _import(writer: Client, texts: TestCollection, what: str) -> Imported:
    ids = list(texts.texts)
    started = time.perf_counter()
    token, last = "", 0
    with _progress() as progress:
        task = progress.add_task(what, total=len(ids))
        for start in range(0, len(ids), BATCH):
            batch = ids[start : start + BATCH]
            answer = writer.write_batch(COLLECTION, [_upsert(texts, one) for one in batch])
            token, last = answer.consistency_token, max(last, answer.last_position)
            progress.advance(task, len(batch))
    return Imported(time.perf_counter() - started, token, last)


def _upsert(texts: TestCollection, document_id: str) -> dict[str, Any]:
    metadata = {"title": texts.titles[document_id]} if texts.titles[document_id] else {}
    return {"op": "upsert", "id": document_id, "content": texts.texts[document_id], "metadata": metadata}


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=_console)


def _embeddings_computed(running: Stack) -> int:
    """How many texts the command service's model was given so far."""
    metrics = httpx.get(f"{running.command_url}/metrics", timeout=10).text
    found = re.search(r'^aindusdb_embedding_texts_total\{source="computed"\} ([0-9.e+]+)', metrics, re.MULTILINE)
    return int(float(found[1])) if found else 0


@dataclass(slots=True)
class Asked:
    """What the questions were answered with: question id -> text id -> score."""

    found: dict[str, dict[str, float]]
    overlaps: list[float]
    seconds: list[float]
    vector_seconds: list[float]
    index_used: bool = True
    on_replica: bool = True

    def show(self, texts: TestCollection) -> None:
        for question in list(self.found)[:SHOWN]:
            table = Table(title=texts.questions[question], title_justify="left", show_edge=False)
            table.add_column("score", justify="right")
            table.add_column("relevant")
            table.add_column("answer")
            for document_id, score in list(self.found[question].items())[:SHOWN]:
                judged = "yes" if texts.relevance[question].get(document_id, 0) > 0 else ""
                table.add_row(f"{score:.3f}", judged, texts.titles[document_id] or texts.texts[document_id][:80])
            _console.print(table)


def _search_all(running: Stack, texts: TestCollection, token: str) -> Asked:
    asked = Asked({}, [], [], [])
    with Client(running.query_url, retries=PATIENCE) as client, _progress() as progress:
        # Waits until the replica has everything, and the model until it is loaded.
        client.search(COLLECTION, query="warm", k=1, token=token, timeout_ms=30_000)
        for question, text in progress.track(texts.questions.items(), description="Asking"):
            started = time.perf_counter()
            answer = client.search(COLLECTION, query=text, k=K, include=[], token=token)
            asked.seconds.append(time.perf_counter() - started)
            asked.found[question] = {hit.id: hit.score for hit in answer.hits}
            exact = client.search(COLLECTION, query=text, k=K, include=[], token=token, exact=True)
            asked.overlaps.append(len(asked.found[question].keys() & {hit.id for hit in exact.hits}) / K)
    with httpx.Client(base_url=running.query_url, timeout=30) as http:
        path = f"/api/v1/collections/{COLLECTION}/vectors"
        for question, text in list(texts.questions.items()):
            explained = http.post(f"{path}/search", json={"query": text, "k": K, "explain": True}).json()["explain"]
            asked.index_used &= explained["scan"] == "index" and any(
                name.endswith("_hnsw") for name in explained["indexes"]
            )
            asked.on_replica &= explained["role"] == "replica"
            nearest = next(iter(asked.found[question]))
            stored = http.get(f"{path}/{nearest}", params={"include": "embedding"}).json()["embedding"]
            started = time.perf_counter()
            http.post(f"{path}/search", json={"embedding": stored, "k": K, "include": []}).raise_for_status()
            asked.vector_seconds.append(time.perf_counter() - started)
    return asked


def _listed(running: Stack, token: str) -> list[str]:
    with Client(running.query_url, retries=PATIENCE) as client:
        return [one.id for one in client.vectors(COLLECTION, token=token)]


def _quality(texts: TestCollection, found: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Means over all questions that have judgements."""
    judged = {question: dict(texts.relevance[question]) for question in found}
    evaluator = pytrec_eval.RelevanceEvaluator(judged, {f"ndcg_cut.{K}", f"recall.{K}"})
    measured = evaluator.evaluate({question: dict(scores) for question, scores in found.items()}).values()
    return {
        "ndcg_at_10": round(float(np.mean([one[f"ndcg_cut_{K}"] for one in measured])), 4),
        "recall_at_10": round(float(np.mean([one[f"recall_{K}"] for one in measured])), 4),
    }


def _percentiles(name: str, seconds: Sequence[float], *percents: int) -> dict[str, float]:
    values = np.percentile(np.asarray(seconds) * 1000, percents)
    return {f"{name}_p{percent}": round(float(value), 2) for percent, value in zip(percents, values, strict=True)}


if __name__ == "__main__":
    sys.exit(main())
