"""How a collection looks: its own table, a row in a list, and what is still to become of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from aindusdb.client import Collection, DescribedCollection, MetadataIndex, PendingChange
from aindusdb.client.models import ActiveGeneration, CollectionIndex, Snapshot
from aindusdb.commands.output import print_json, printable, shortened


def show_collection(collection: DescribedCollection, as_json: bool) -> None:
    if as_json:
        print_json(collection.model_dump(mode="json"))
        return
    shown = collection.model_dump(mode="json", exclude_none=True, exclude={"freshness", "consistency_token"})
    shown["index"] = index_text(collection.index)
    shown["metadata_indexes"] = "\n".join(map(_metadata_index_text, collection.metadata_indexes)) or "none"
    if isinstance(collection, Collection):
        shown["active"] = _active_text(collection.active)
        shown["change"] = change_text(collection.change)
    table = Table(box=None, show_header=False, pad_edge=False)
    for key, value in shown.items():
        lines = "\n".join(map(printable, _text(value).split("\n")))
        table.add_row(Text(key, style="dim"), Text(lines, overflow="fold"))
    Console(highlight=False).print(table)


def list_collections(collections: Sequence[Collection]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("name", no_wrap=True)
    table.add_column("dimension", justify="right")
    for column in ("metric", "type", "index", "change", "model", "description"):
        table.add_column(column)
    for one in collections:
        table.add_row(
            Text(one.name),
            f"{one.dimension:,}",
            one.metric,
            one.type,
            index_text(one.index),
            one.change.state if one.change else "",
            Text(printable(one.model or "")),
            Text(shortened(one.description or "", 60)),
        )
    Console(highlight=False).print(table)


def list_snapshots(snapshots: Sequence[Snapshot]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("snapshot", no_wrap=True)
    table.add_column("position", justify="right", no_wrap=True)
    for column in ("time", "state", "expires"):
        table.add_column(column)
    for one in snapshots:
        reason = f": {printable(one.reason)}" if one.reason else ""
        built = f" to position {one.built_to:,}" if one.state == "building" else ""
        table.add_row(
            Text(one.name),
            f"{one.position:,}",
            one.time.isoformat(timespec="seconds"),
            Text(f"{one.state}{built}{reason}"),
            one.expires_at.isoformat(timespec="seconds"),
        )
    Console(highlight=False).print(table)


def index_text(index: CollectionIndex) -> str:
    parameters = index.model_dump(mode="json", exclude_none=True)
    return " ".join([parameters.pop("kind"), *(f"{key}={value}" for key, value in parameters.items())])


def change_text(change: PendingChange | None) -> str:
    if change is None:
        return "none: the tables are what the collection is to be"
    since = change.since.isoformat(timespec="seconds")
    reason = f": {change.reason}" if change.reason else ""
    if change.to_spec is not None:
        reason = f", to the model {change.to_spec.model!r} of {change.to_spec.dimension:,} dimensions{reason}"
    if change.state == "running":
        return (
            f"running: generation {change.generation} is at position {change.position or 0:,} of {change.target:,}, "
            f"since {since}{reason}"
        )
    return f"{change.state} since {since}{reason}"


def _metadata_index_text(index: MetadataIndex) -> str:
    said = [f"{index.field}: {index.type}", index.state, index.reason]
    return ", ".join(one for one in said if one is not None)


def _active_text(active: ActiveGeneration) -> str:
    """What searches read."""
    parts = [f"generation {active.generation}", active.metric, active.type, index_text(active.index)]
    if active.lists is not None:
        parts.append(f"{active.lists:,} lists")
    if active.index.kind != "none" and not active.indexed:
        parts.append("not indexed yet")
    if active.month_partitions:
        parts.append("divided by months")
    return ", ".join(parts)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | bool) else str(value)
