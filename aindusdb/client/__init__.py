"""The client of the HTTP API, synchronous and asynchronous. It imports nothing of the server."""

from __future__ import annotations

from aindusdb.client import errors
from aindusdb.client.asynchronous.client import AsyncClient, AsyncSession
from aindusdb.client.batches import PutSummary, Vector, vectors_of
from aindusdb.client.calls import UNSET
from aindusdb.client.embeddings import decode_embedding, encode_embedding
from aindusdb.client.errors import ClientError, MissingExtraError, ProblemError, UnexpectedAnswerError, UnreachableError
from aindusdb.client.frames import frame_of, vectors_of_frame
from aindusdb.client.models import (
    BatchAnswer,
    Collection,
    CountAnswer,
    CreatedCollection,
    DescribedCollection,
    Event,
    FeedEvent,
    Freshness,
    Health,
    Hit,
    ImportAnswer,
    OperationResult,
    ReadCollection,
    ReadVector,
    Restored,
    RestoredCollection,
    SearchAnswer,
    StoredVector,
    VectorWritten,
)
from aindusdb.client.retries import RetryPolicy
from aindusdb.client.synchronous.client import Client, Session

__all__ = [
    "UNSET",
    "AsyncClient",
    "AsyncSession",
    "BatchAnswer",
    "Client",
    "ClientError",
    "Collection",
    "CountAnswer",
    "CreatedCollection",
    "DescribedCollection",
    "Event",
    "FeedEvent",
    "Freshness",
    "Health",
    "Hit",
    "ImportAnswer",
    "MissingExtraError",
    "OperationResult",
    "ProblemError",
    "PutSummary",
    "ReadCollection",
    "ReadVector",
    "Restored",
    "RestoredCollection",
    "RetryPolicy",
    "SearchAnswer",
    "Session",
    "StoredVector",
    "UnexpectedAnswerError",
    "UnreachableError",
    "Vector",
    "VectorWritten",
    "decode_embedding",
    "encode_embedding",
    "errors",
    "frame_of",
    "vectors_of",
    "vectors_of_frame",
]
