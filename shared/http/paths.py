"""What both services' routes take from their paths: names and ids, and `default` where a path names no collection."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Path

from events_schema.streams import DEFAULT_COLLECTION
from shared.http.fields import Name, VectorId

CollectionName = Annotated[Name, Path(description="The collection's name, or an alias of it.", examples=["articles"])]
AliasName = Annotated[Name, Path(alias="name", description="The alias.", examples=["current"])]
VectorIdPath = Annotated[VectorId, Path(alias="id", description="The vector's id.", examples=["a-1"])]


async def _named(name: CollectionName) -> str:
    return name


async def _default() -> str:
    return DEFAULT_COLLECTION


def target_name(*, named: bool) -> Any:
    """The dependency that gives a route its collection's name: the path's, or `default` where the path has none."""
    return Depends(_named if named else _default)
