"""The calls that look for what is near."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aindusdb.client.asynchronous.asking import AsyncAsking
from aindusdb.client.calls import Moment, reading, vector_path
from aindusdb.client.embeddings import EmbeddingInput
from aindusdb.client.models import GroupsAnswer, Part, SearchAnswer, SearchBatchAnswer, Strategy
from aindusdb.client.searches import ExampleInput, SearchQuery, example_body


class AsyncSearchCalls(AsyncAsking):
    async def search(
        self,
        collection: str,
        *,
        embedding: EmbeddingInput | str | None = None,
        query: str | None = None,
        id: str | None = None,
        k: int | None = None,
        filter: Mapping[str, Any] | None = None,
        ef_search: int | None = None,
        exact: bool | None = None,
        min_score: float | None = None,
        include: Sequence[Part] | None = None,
        exclude: Sequence[Part] | None = None,
        model: str | None = None,
        explain: bool | None = None,
        as_of: Moment | None = None,
        token: str | None = None,
        timeout_ms: int | None = None,
        max_staleness_ms: int | None = None,
    ) -> SearchAnswer:
        """The `k` vectors nearest to an embedding, to a text (`query`), or to the stored vector `id`, one of the three.

        An embedding that is a text is base64 of little-endian float32. The answer covers `token`, for which the service
        waits at most `timeout_ms`. With `explain` the answer says how it was found. `as_of` is a moment of the past:
        {"position": 15}, {"time": "2026-01-05T08:30:00Z"} or {"snapshot": "release-1"}.

        Raises:
            DimensionMismatchError, InvalidFilterError, NotFreshEnoughError
            SnapshotNotFoundError, SnapshotNotReadyError: nothing holds the collection as it was then.
        """
        wanted = SearchQuery(embedding, query, id, k, filter, ef_search, exact, min_score, include, exclude, model)
        return await self._ask(
            reading(
                vector_path(collection, "search"),
                SearchAnswer,
                body={
                    **wanted.body(),
                    "explain": explain,
                    "timeout_ms": timeout_ms,
                    "max_staleness_ms": max_staleness_ms,
                    "as_of": as_of,
                },
            ),
            token,
        )

    async def search_batch(
        self,
        collection: str,
        queries: Iterable[SearchQuery],
        *,
        explain: bool | None = None,
        as_of: Moment | None = None,
        token: str | None = None,
        timeout_ms: int | None = None,
        max_staleness_ms: int | None = None,
    ) -> SearchBatchAnswer:
        """At most 100 searches, which are all answered from one snapshot, or none is.

        Raises:
            As `search`.
        """
        body = {
            "queries": [one.body() for one in queries],
            "explain": explain,
            "timeout_ms": timeout_ms,
            "max_staleness_ms": max_staleness_ms,
            "as_of": as_of,
        }
        return await self._ask(reading(vector_path(collection, "search", "batch"), SearchBatchAnswer, body=body), token)

    async def search_groups(
        self,
        collection: str,
        group_by: str,
        *,
        groups: int | None = None,
        per_group: int | None = None,
        embedding: EmbeddingInput | str | None = None,
        query: str | None = None,
        id: str | None = None,
        filter: Mapping[str, Any] | None = None,
        ef_search: int | None = None,
        exact: bool | None = None,
        min_score: float | None = None,
        include: Sequence[Part] | None = None,
        exclude: Sequence[Part] | None = None,
        model: str | None = None,
        explain: bool | None = None,
        as_of: Moment | None = None,
        token: str | None = None,
        timeout_ms: int | None = None,
        max_staleness_ms: int | None = None,
    ) -> GroupsAnswer:
        """The nearest vectors by what they have in the field `group_by`, such as `metadata.lang`: at most `per_group`
        of each value, for the `groups` values that have the nearest ones.

        Raises:
            As `search`.
        """
        wanted = SearchQuery(embedding, query, id, None, filter, ef_search, exact, min_score, include, exclude, model)
        body = {
            **wanted.body(),
            "group_by": group_by,
            "groups": groups,
            "per_group": per_group,
            "explain": explain,
            "timeout_ms": timeout_ms,
            "max_staleness_ms": max_staleness_ms,
            "as_of": as_of,
        }
        return await self._ask(reading(vector_path(collection, "search", "groups"), GroupsAnswer, body=body), token)

    async def recommend(
        self,
        collection: str,
        positive: Sequence[ExampleInput],
        negative: Sequence[ExampleInput] = (),
        *,
        strategy: Strategy | None = None,
        k: int | None = None,
        filter: Mapping[str, Any] | None = None,
        ef_search: int | None = None,
        exact: bool | None = None,
        min_score: float | None = None,
        include: Sequence[Part] | None = None,
        exclude: Sequence[Part] | None = None,
        model: str | None = None,
        explain: bool | None = None,
        as_of: Moment | None = None,
        token: str | None = None,
        timeout_ms: int | None = None,
        max_staleness_ms: int | None = None,
    ) -> SearchAnswer:
        """Vectors near to the positive examples and not to the negative ones. An example is the id of a stored vector,
        which is then left out of the hits, an embedding, or an `Example`, which can be a text too.

        Raises:
            As `search`.
            VectorNotFoundError: an example is not there.
        """
        wanted = SearchQuery(None, None, None, k, filter, ef_search, exact, min_score, include, exclude, model)
        body = {
            **wanted.body(),
            "positive": [example_body(one) for one in positive],
            "negative": [example_body(one) for one in negative],
            "strategy": strategy,
            "explain": explain,
            "timeout_ms": timeout_ms,
            "max_staleness_ms": max_staleness_ms,
            "as_of": as_of,
        }
        return await self._ask(reading(vector_path(collection, "recommend"), SearchAnswer, body=body), token)
