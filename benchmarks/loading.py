"""Puts embeddings into a new collection over HTTP and waits until they can be found."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any
from uuid import uuid4

from aindusdb.client import Client, CreatedCollection, ProblemError, RetryPolicy
from benchmarks.figures import say
from benchmarks.stack import Stack
from events_schema.embedding import Float32Array, encode

BATCH = 500
CATCH_UP_SECONDS = 300.0
PATIENCE = RetryPolicy(patience_seconds=60.0)


def new_collection(stack: Stack, dimension: int, **definition: Any) -> CreatedCollection:
    """Under a name that no earlier run has used."""
    with Client(stack.command_url) as client:
        return client.create_collection(f"benchmark-{uuid4().hex[:12]}", dimension=dimension, **definition)


def load(
    stack: Stack,
    collection: str,
    ids: Sequence[str],
    embeddings: Float32Array,
    metadata: Sequence[Mapping[str, Any]] | None = None,
) -> str:
    """Returns the token of the last batch, which covers all before it."""
    token = ""
    with Client(stack.command_url, retries=PATIENCE) as client:
        for start in range(0, len(ids), BATCH):
            chosen = slice(start, start + BATCH)
            operations = [
                {"op": "upsert", "id": vector_id, "embedding": encode(embedding), "metadata": fields}
                for vector_id, embedding, fields in zip(
                    ids[chosen], embeddings[chosen], metadata[chosen] if metadata else repeat({}), strict=False
                )
            ]
            token = client.write_batch(collection, operations).consistency_token
            say(f"written {min(start + BATCH, len(ids)):,} of {len(ids):,}")
    return token


def wait_until_searchable(stack: Stack, collection: str, token: str, any_embedding: Float32Array) -> float:
    """Seconds until a read covers the token."""
    started = time.monotonic()
    with Client(stack.query_url, retries=PATIENCE) as client:
        while True:
            try:
                client.search(collection, embedding=encode(any_embedding), k=1, token=token, timeout_ms=20_000)
            except ProblemError as error:
                if time.monotonic() - started > CATCH_UP_SECONDS:
                    raise
                say(f"waiting for the read model: {error}")
                time.sleep(0.5)
            else:
                return time.monotonic() - started


def wait_until_indexed(stack: Stack, collection: str) -> float:
    """Seconds until searches use the collection's index."""
    started = time.monotonic()
    with Client(stack.query_url, retries=PATIENCE) as client:
        while True:
            if client.collection(collection).active.indexed:
                return time.monotonic() - started
            if time.monotonic() - started > CATCH_UP_SECONDS:
                raise SystemExit(f"the index of {collection} was not made within {CATCH_UP_SECONDS:g} seconds")
            time.sleep(0.1)
