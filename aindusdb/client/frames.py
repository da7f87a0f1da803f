"""Data frames in and out. pandas is an extra: it is imported when one of these is called."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aindusdb.client.batches import Vector
from aindusdb.client.errors import MissingExtraError
from aindusdb.client.models import Hit, StoredVector

if TYPE_CHECKING:
    import pandas


def vectors_of_frame(
    frame: pandas.DataFrame,
    *,
    id: str | None = "id",
    embedding: str | None = "embedding",
    content: str | None = "content",
    metadata: str | Sequence[str] | None = "metadata",
) -> Iterator[Vector]:
    """The rows as vectors. The arguments name the columns; one that the frame has not is passed over. An `id` of None
    takes the frame's index. `metadata` is one column of mappings, or several that become its fields; missing values
    (None, NaN, NaT, NA) become no field.

    Raises:
        ValueError: the frame has neither embeddings nor contents.
    """
    columns = set(map(str, frame.columns))
    if not {embedding, content} & columns:
        raise ValueError(f"the frame has neither a column {embedding!r} nor {content!r}")
    nothing = [None] * len(frame)
    parts: list[Iterable[Any]] = [
        frame.index if id is None else frame[id] if id in columns else nothing,
        frame[embedding] if embedding in columns else nothing,
        frame[content] if content in columns else nothing,
        _metadata(frame, metadata, columns),
    ]
    for vector_id, numbers, text, fields in zip(*parts, strict=True):
        yield Vector(
            None if _is_missing(vector_id) else str(vector_id),
            None if _is_missing(numbers) else numbers,
            None if _is_missing(text) else str(text),
            fields,
        )


def frame_of(found: Iterable[Hit | StoredVector]) -> pandas.DataFrame:
    """A row for each hit or vector, in their order, with what was included; embeddings are float32 arrays.

    Raises:
        MissingExtraError: pandas is not installed.
    """
    rows = [
        {name: getattr(one, name) for name in type(one).model_fields if name in one.model_fields_set - {"freshness"}}
        for one in found
    ]
    frame: pandas.DataFrame = _pandas().DataFrame(rows)
    return frame


def _metadata(
    frame: pandas.DataFrame, named: str | Sequence[str] | None, columns: set[str]
) -> Iterable[Mapping[str, Any]]:
    if isinstance(named, str):
        return ({} if _is_missing(one) else one for one in frame[named]) if named in columns else [{}] * len(frame)
    if not named:
        return [{}] * len(frame)
    return (
        {str(name): _plain(value) for name, value in row.items() if not _is_missing(value)}
        for row in frame[list(named)].to_dict("records")
    )


def _plain(value: Any) -> Any:
    """What numpy and pandas wrap, as JSON has it."""
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return value.item() if hasattr(value, "item") else value


def _is_missing(value: Any) -> bool:
    return bool(_pandas().api.types.is_scalar(value) and _pandas().isna(value))


def _pandas() -> Any:
    try:
        return importlib.import_module("pandas")
    except ModuleNotFoundError as error:
        raise MissingExtraError("pandas", "pandas") from error
