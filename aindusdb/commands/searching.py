"""`aindusdb search` and `recommend`: the nearest vectors as a table."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from aindusdb.client import Client, GroupsAnswer, SearchAnswer
from aindusdb.commands.hit_display import print_groups, print_hits
from aindusdb.commands.options import (
    TOKEN_PATIENCE_MS,
    AsOfOption,
    CollectionOption,
    FilterOption,
    IncludeOption,
    TokenOption,
    VectorFileOption,
    VectorOption,
    embedding_of,
    filter_of,
    moment_of,
    require_one,
)
from aindusdb.commands.output import JsonOption, UrlOption, print_json, refusals, service_url

DEFAULT_INCLUDE = ("content", "metadata")

KOption = Annotated[int | None, typer.Option("-k", "--k", min=1, help="How many hits; 10 if not given.")]
MinScoreOption = Annotated[float | None, typer.Option("--min-score", help="Leave out hits with a lower score.")]
ExactOption = Annotated[bool, typer.Option("--exact", help="Compare with every vector, without the index.")]
EfSearchOption = Annotated[int | None, typer.Option("--ef-search", min=1, help="hnsw: candidates while searching.")]
ExplainOption = Annotated[bool, typer.Option("--explain", help="Say how it was found; with --json, the whole plan.")]


class Strategy(StrEnum):
    AVERAGE_VECTOR = "average_vector"
    BEST_SCORE = "best_score"


def register(app: typer.Typer) -> None:
    @app.command()
    def search(
        collection: CollectionOption,
        query: Annotated[
            str | None, typer.Option("--query", "--text", help="A text, in a collection that takes texts.")
        ] = None,
        vector: VectorOption = None,
        vector_file: VectorFileOption = None,
        vector_id: Annotated[str | None, typer.Option("--id", help="A stored vector; itself it is left out.")] = None,
        k: KOption = None,
        where: FilterOption = None,
        min_score: MinScoreOption = None,
        group_by: Annotated[
            str | None, typer.Option(metavar="FIELD", help="The nearest of each value of a field: metadata.lang.")
        ] = None,
        groups: Annotated[int | None, typer.Option(min=1, help="How many groups; 10 if not given.")] = None,
        per_group: Annotated[int | None, typer.Option(min=1, help="Hits of each group; 3 if not given.")] = None,
        include: IncludeOption = None,
        exact: ExactOption = False,
        ef_search: EfSearchOption = None,
        explain: ExplainOption = False,
        as_of: AsOfOption = None,
        token: TokenOption = None,
        url: UrlOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Search a collection by a text, an embedding, or a vector that it holds."""
        require_one({"--query": query, "--vector": vector, "--vector-file": vector_file, "--id": vector_id})
        if group_by is None and (groups, per_group) != (None, None):
            raise typer.BadParameter("name the field that groups are made by", param_hint="--group-by")
        if group_by is not None and k is not None:
            raise typer.BadParameter("with --group-by, --groups and --per-group say how many", param_hint="--k")
        with refusals(), Client(service_url(url)) as client:
            embedding, wanted = embedding_of(vector, vector_file), filter_of(where)
            answer: SearchAnswer | GroupsAnswer
            if group_by is None:
                answer = client.search(
                    collection, embedding=embedding, query=query, id=vector_id, k=k, filter=wanted,
                    min_score=min_score, include=include or DEFAULT_INCLUDE, exact=exact or None, ef_search=ef_search,
                    explain=explain or None, as_of=moment_of(as_of), token=token, timeout_ms=TOKEN_PATIENCE_MS,
                )  # fmt: skip
            else:
                answer = client.search_groups(
                    collection, group_by, groups=groups, per_group=per_group, embedding=embedding, query=query,
                    id=vector_id, filter=wanted, min_score=min_score, include=include or DEFAULT_INCLUDE,
                    exact=exact or None, ef_search=ef_search, explain=explain or None,
                    as_of=moment_of(as_of), token=token, timeout_ms=TOKEN_PATIENCE_MS,
                )  # fmt: skip
        _show(answer, as_json)

    @app.command()
    def recommend(
        collection: CollectionOption,
        positive: Annotated[
            list[str], typer.Option("--positive", metavar="ID", help="To be near to; may be given several times.")
        ],
        negative: Annotated[
            list[str] | None,
            typer.Option("--negative", metavar="ID", help="To be away from; may be given several times."),
        ] = None,
        strategy: Annotated[
            Strategy | None,
            typer.Option(help="average_vector: around one point. best_score: by the nearest example; compares all."),
        ] = None,
        k: KOption = None,
        where: FilterOption = None,
        min_score: MinScoreOption = None,
        include: IncludeOption = None,
        exact: ExactOption = False,
        ef_search: EfSearchOption = None,
        explain: ExplainOption = False,
        as_of: AsOfOption = None,
        token: TokenOption = None,
        url: UrlOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Find what is near to some stored vectors, and not to others."""
        with refusals(), Client(service_url(url)) as client:
            answer = client.recommend(
                collection, positive, negative or (), strategy=None if strategy is None else strategy.value, k=k,
                filter=filter_of(where), min_score=min_score, include=include or DEFAULT_INCLUDE, exact=exact or None,
                ef_search=ef_search, explain=explain or None, as_of=moment_of(as_of), token=token,
                timeout_ms=TOKEN_PATIENCE_MS,
            )  # fmt: skip
        _show(answer, as_json)


def _show(answer: SearchAnswer | GroupsAnswer, as_json: bool) -> None:
    if as_json:
        print_json(answer.model_dump(mode="json"))
    elif isinstance(answer, GroupsAnswer):
        print_groups(answer)
    else:
        print_hits(answer)
