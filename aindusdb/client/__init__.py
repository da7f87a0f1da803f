"""A synchronous client of the HTTP API. It imports nothing of the server."""

from __future__ import annotations

from aindusdb.client.api import Client
from aindusdb.client.embeddings import encode_embedding
from aindusdb.client.errors import ClientError, ProblemError, UnexpectedAnswerError, UnreachableError
from aindusdb.client.models import (
    BatchAnswer,
    Collection,
    CreatedCollection,
    DescribedCollection,
    Hit,
    OperationResult,
    SearchAnswer,
)
from aindusdb.client.retries import RetryPolicy

__all__ = [
    "BatchAnswer",
    "Client",
    "ClientError",
    "Collection",
    "CreatedCollection",
    "DescribedCollection",
    "Hit",
    "OperationResult",
    "ProblemError",
    "RetryPolicy",
    "SearchAnswer",
    "UnexpectedAnswerError",
    "UnreachableError",
    "encode_embedding",
]
