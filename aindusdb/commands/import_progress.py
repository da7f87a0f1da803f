"""The small file beside the data that remembers how far an import has come."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Self

from pydantic import TypeAdapter, ValidationError

FORMAT = 1
SHOWN_BAD_LINES = 20


@dataclass(frozen=True, slots=True)
class SkippedLine:
    line: int
    rule: str


@dataclass(frozen=True, slots=True)
class ImportProgress:
    """All up to line `line`, which ends at byte `end`, is acknowledged. Losing this costs time, nothing else."""

    file_digest: str
    collection_id: str
    run_id: str
    format: int = FORMAT
    is_checked: bool = False
    """The whole file has been found good."""
    line: int = 0
    end: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    skipped: int = 0
    truncated: int = 0
    """Contents that are longer than the model sees."""
    first_skipped: tuple[SkippedLine, ...] = field(default=())
    """At most `SHOWN_BAD_LINES`."""
    rejects_bytes: int = 0
    """The size of the file of rejects that belongs to this progress."""
    consistency_token: str | None = None

    @classmethod
    def new(cls, file_digest: str, collection_id: str) -> Self:
        return cls(file_digest, collection_id, run_id=secrets.token_hex(8))

    def advanced(
        self,
        *,
        line: int,
        end: int,
        results: Mapping[str, int],
        skipped: list[SkippedLine],
        rejects_bytes: int,
        consistency_token: str | None,
    ) -> Self:
        room = SHOWN_BAD_LINES - len(self.first_skipped)
        return replace(
            self,
            line=line,
            end=end,
            created=self.created + results.get("created", 0),
            updated=self.updated + results.get("updated", 0),
            unchanged=self.unchanged + results.get("unchanged", 0),
            skipped=self.skipped + len(skipped),
            truncated=self.truncated + results.get("truncated", 0),
            first_skipped=(*self.first_skipped, *skipped[:room]),
            rejects_bytes=rejects_bytes,
            consistency_token=consistency_token or self.consistency_token,
        )


_PROGRESS = TypeAdapter(ImportProgress)


class ProgressFile:
    def __init__(self, data: Path, collection: str) -> None:
        self.path = data.with_name(f"{data.name}.{collection}.aindusdb-progress")

    def load(self, file_digest: str, collection_id: str) -> ImportProgress | None:
        """None if there is none for this content and this collection."""
        try:
            progress = _PROGRESS.validate_json(self.path.read_bytes())
        except (OSError, ValidationError):
            return None
        is_ours = (progress.format, progress.file_digest, progress.collection_id) == (
            FORMAT,
            file_digest,
            collection_id,
        )
        return progress if is_ours else None

    def save(self, progress: ImportProgress) -> None:
        """Replaces the file whole, so that whoever is killed here leaves the one before."""
        written = self.path.with_name(self.path.name + ".new")
        written.write_text(json.dumps(asdict(progress)) + "\n", encoding="utf-8")
        written.replace(self.path)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
