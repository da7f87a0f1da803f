"""How an import file falls into batches: the same file from the same line always falls the same way."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from aindusdb.commands.import_lines import BadLine, Line, LineRules, Operation, read_operation

MAX_BATCH_BYTES = 8 * 1024 * 1024
"""Of the lines of a batch: well below the service's limit of 32 MiB for a body."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A stretch of the file without holes: everything up to line `last_number`, which ends at byte `end`."""

    operations: tuple[Operation, ...]
    bad_lines: tuple[BadLine, ...]
    last_number: int
    end: int

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(operation.vector_id for operation in self.operations)


def batches(lines: Iterable[Line], rules: LineRules, size: int) -> Iterator[Batch]:
    """An id occurs once in a batch, as the service demands; one that comes again begins the next."""
    operations: list[Operation] = []
    bad_lines: list[BadLine] = []
    ids: set[str] = set()
    size_bytes = 0
    last: Line | None = None
    for line in lines:
        read = read_operation(line, rules)
        repeated = isinstance(read, Operation) and read.vector_id in ids
        full = len(operations) + len(bad_lines) >= size
        too_large = isinstance(read, Operation) and size_bytes + read.size_bytes > MAX_BATCH_BYTES
        if last is not None and (repeated or full or (too_large and operations)):
            yield Batch(tuple(operations), tuple(bad_lines), last.number, last.end)
            operations, bad_lines, ids, size_bytes = [], [], set(), 0
        if isinstance(read, Operation):
            operations.append(read)
            ids.add(read.vector_id)
            size_bytes += read.size_bytes
        else:
            bad_lines.append(read)
        last = line
    if last is not None:
        yield Batch(tuple(operations), tuple(bad_lines), last.number, last.end)


def idempotency_key(run_id: str, file_digest: str, collection_id: str, operations: Iterable[Operation]) -> str:
    """One key for these lines of this file into this collection in this run.

    The run is part of it because keys outlive the run: an import that is repeated on purpose, after vectors were
    deleted, must write them again instead of being told what the first one did.
    """
    digest = hashlib.sha256(f"{run_id} {file_digest} {collection_id}".encode())
    for operation in operations:
        digest.update(f" {operation.line.number}".encode())
    return f"import-{digest.hexdigest()}"
