"""What a collection can be told at a shell: how distance is measured, and which indexes it has."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any

import typer

INDEX_TYPES = ("string", "number", "boolean", "date")
"""Of fields of the metadata."""

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The collection's name.")]
MOption = Annotated[int | None, typer.Option("--m", help="hnsw: neighbours of a node.")]
EfConstructionOption = Annotated[int | None, typer.Option(help="hnsw: candidates while building.")]
ListsOption = Annotated[int | None, typer.Option(help="ivfflat: lists.")]
MetadataIndexOption = Annotated[
    list[str] | None,
    typer.Option(
        "--metadata-index",
        metavar="FIELD:TYPE",
        help=f"An index over a field of the metadata: its name and {', '.join(INDEX_TYPES)}. Repeat it for several.",
    ),
]
RetentionOption = Annotated[
    int | None,
    typer.Option("--retention-seconds", min=1, help="A vector that was not changed for so long expires."),
]


class Metric(StrEnum):
    COSINE = "cosine"
    L2 = "l2"
    IP = "ip"


class VectorType(StrEnum):
    VECTOR = "vector"
    HALFVEC = "halfvec"


class IndexKind(StrEnum):
    HNSW = "hnsw"
    IVFFLAT = "ivfflat"
    NONE = "none"


def index_of(kind: IndexKind, m: int | None, ef_construction: int | None, lists: int | None) -> dict[str, Any]:
    """Without what was left out: that takes the service's default."""
    given = {"kind": kind.value, "m": m, "ef_construction": ef_construction, "lists": lists}
    return {key: value for key, value in given.items() if value is not None}


def metadata_indexes_of(indexes: Iterable[str]) -> list[dict[str, str]]:
    """
    Raises:
        typer.BadParameter
    """
    parsed: list[dict[str, str]] = []
    for given in indexes:
        field, _, type_ = given.rpartition(":")
        if not field or type_ not in INDEX_TYPES:
            expected = f"{given!r} is no name of a field, a colon and one of {', '.join(INDEX_TYPES)}"
            raise typer.BadParameter(expected, param_hint="--metadata-index")
        parsed.append({"field": field, "type": type_})
    return parsed
