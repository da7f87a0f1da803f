"""Texts through a real model in the services: import, the same import again, searches, memory, and who waits."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import numpy as np

from aindusdb.client import Client
from benchmarks.figures import Target, arguments, conclude, percentiles_ms, say
from benchmarks.loading import PATIENCE
from benchmarks.material import Document, corpus, judgements, model_dir, queries
from benchmarks.stack import Stack, stack

BATCH = 200
TOP = 10
PROBE_PAUSE_SECONDS = 0.02
PROBED_AT_REST_SECONDS = 3.0
TARGETS = (
    Target("second_import_events", 0, at_most=True),
    Target("second_import_computed", 0, at_most=True),
    Target("command_service_peak_mb", 500, at_most=True),
    Target("search_by_text_p50_ms", 30, at_most=True),
    Target("ndcg_at_10", 0.49),
    Target("single_write_during_import_p99_ms", 100, at_most=True),
)


def main() -> int:
    options = arguments(__doc__).parse_args()
    # Two of the abstracts are empty, and the service refuses them.
    documents, questions = [one for one in corpus() if one.text.strip()], queries()
    os.environ["AINDUSDB_EMBEDDING_MODEL"] = "sentence-transformers/all-MiniLM-L6-v2"
    os.environ["AINDUSDB_EMBEDDING_PATH"] = str(model_dir())
    with stack(options) as running, Client(running.command_url, retries=PATIENCE) as client:
        plain = f"plain-{uuid4().hex[:12]}"
        client.create_collection(plain, dimension=3)
        at_rest: list[float] = []
        with probing(running, plain, at_rest):
            time.sleep(PROBED_AT_REST_SECONDS)
        texts = client.create_collection(f"texts-{uuid4().hex[:12]}").name
        during: list[float] = []
        with probing(running, plain, during):
            seconds, token = imported(client, texts, documents)
        before = position(running), computed(running.command_url)
        seconds_again, _ = imported(client, texts, documents)
        after = position(running), computed(running.command_url)
        found, searches = searched(running, texts, questions, token)
        figures: dict[str, object] = {
            "texts": len(documents),
            "texts_per_second": round(len(documents) / seconds, 1),
            "second_import_seconds": round(seconds_again, 2),
            "second_import_events": after[0] - before[0],
            "second_import_computed": after[1] - before[1],
            **percentiles_ms(searches, "search_by_text"),
            **percentiles_ms(at_rest, "single_write_at_rest"),
            **percentiles_ms(during, "single_write_during_import"),
            "ndcg_at_10": round(ndcg(found), 3),
            **memory(running),
        }
    return conclude(figures, TARGETS, check=options.check)


def imported(client: Client, collection: str, documents: Sequence[Document]) -> tuple[float, str]:
    """Seconds, and the last token."""
    started, token = time.perf_counter(), ""
    for start in range(0, len(documents), BATCH):
        operations = [{"op": "upsert", "id": one.id, "content": one.text} for one in documents[start : start + BATCH]]
        token = client.write_batch(collection, operations).consistency_token
        say(f"written {min(start + BATCH, len(documents)):,} of {len(documents):,}")
    return time.perf_counter() - started, token


@contextmanager
def probing(running: Stack, collection: str, seconds: list[float]) -> Iterator[None]:
    """Single writes of embeddings beside whatever the body does, each with its latency."""
    ended = threading.Event()

    def probe() -> None:
        url = f"{running.command_url}/api/v1/collections/{collection}/vectors/probe"
        with httpx.Client(trust_env=False, timeout=30) as http:
            number = 0
            while not ended.wait(PROBE_PAUSE_SECONDS):
                number += 1
                started = time.perf_counter()
                http.put(url, json={"embedding": [1, 2, number]}).raise_for_status()
                seconds.append(time.perf_counter() - started)

    thread = threading.Thread(target=probe, name="probe")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def searched(
    running: Stack, collection: str, questions: Sequence[Document], token: str
) -> tuple[dict[str, list[str]], list[float]]:
    """The ids found for each question, and the latencies; the first search, which loads the model, is left out."""
    found: dict[str, list[str]] = {}
    seconds: list[float] = []
    url = f"{running.query_url}/api/v1/collections/{collection}/vectors/search"
    with httpx.Client(trust_env=False, timeout=60) as http:
        parameters: dict[str, Any] = {"query": "any", "k": TOP, "include": "metadata"}
        covered = {**parameters, "consistency_token": token, "timeout_ms": 30_000}
        http.get(url, params=covered).raise_for_status()
        for question in questions:
            started = time.perf_counter()
            answer = http.get(url, params={**parameters, "query": question.text})
            seconds.append(time.perf_counter() - started)
            found[question.id] = [hit["id"] for hit in answer.raise_for_status().json()["hits"]]
    return found, seconds


def ndcg(found: dict[str, list[str]]) -> float:
    """nDCG@10 with every judged pair relevant, the mean over the questions (Järvelin and Kekäläinen, 2002)."""
    discounts = 1 / np.log2(np.arange(2, TOP + 2))
    relevant = judgements()
    scores = [
        float(discounts[[one in relevant[question] for one in ids]].sum() / discounts[: len(relevant[question])].sum())
        for question, ids in found.items()
    ]
    return float(np.mean(scores))


def computed(url: str) -> int:
    start = 'aindusdb_embedding_texts_total{source="computed"} '
    lines = httpx.get(f"{url}/metrics", trust_env=False).text.splitlines()
    return next(int(float(line.removeprefix(start))) for line in lines if line.startswith(start))


def position(running: Stack) -> int:
    """Of the last event that the command service has appended."""
    start = "aindusdb_log_position "
    lines = httpx.get(f"{running.command_url}/metrics", trust_env=False).text.splitlines()
    return next(int(float(line.removeprefix(start))) for line in lines if line.startswith(start))


def memory(running: Stack) -> dict[str, float]:
    """What the services hold now and held at most, in MB."""
    figures: dict[str, float] = {}
    for process in running.status().get("processes", []):
        if process["name"] in ("Command service", "Query service"):
            name = process["name"].lower().replace(" ", "_")
            figures[f"{name}_mb"] = round(process["rss_bytes"] / 1_000_000, 1)
            figures[f"{name}_peak_mb"] = peak_mb(process["pid"])
    return figures


def peak_mb(pid: int) -> float:
    """The greatest resident size so far, as Linux remembers it."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) * 1024 / 1_000_000, 1)
    raise LookupError(f"/proc/{pid}/status says nothing of the peak")


if __name__ == "__main__":
    sys.exit(main())
