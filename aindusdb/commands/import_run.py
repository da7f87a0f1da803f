"""Sends the batches of a file, a few at a time, and moves the progress behind them."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from aindusdb.client import Client, ClientError, ProblemError
from aindusdb.commands.import_batches import Batch, idempotency_key
from aindusdb.commands.import_lines import BadLine, Operation, bad
from aindusdb.commands.import_progress import ImportProgress, SkippedLine
from aindusdb.commands.import_rejects import Rejects

_POINTER = re.compile(r"/operations/(\d+)(/.*)?\Z")


class LinesRefusedError(Exception):
    """The service refused lines, and the import is to stop at the first."""

    def __init__(self, lines: list[BadLine]) -> None:
        super().__init__(f"the service refused {lines[0].number}: {lines[0].rule}")
        self.lines = lines


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one batch: how many operations had which result, or were `truncated`, and which lines the service
    refused."""

    results: Counter[str]
    consistency_token: str | None
    refused: tuple[BadLine, ...]


class ImportRun:
    """`acknowledged` is told of every step of the progress, in the order of the file."""

    def __init__(
        self,
        client: Client,
        collection: str,
        progress: ImportProgress,
        rejects: Rejects,
        *,
        skips_bad_lines: bool,
        in_flight: int,
        acknowledged: Callable[[ImportProgress], None],
    ) -> None:
        self._client = client
        self._collection = collection
        self.progress = progress
        self._rejects = rejects
        self._skips_bad_lines = skips_bad_lines
        self._acknowledged = acknowledged
        self._most_in_flight = in_flight
        self._in_flight: deque[tuple[Batch, Future[Sent]]] = deque()

    def send_all(self, batches: Iterable[Batch]) -> None:
        """
        Raises:
            LinesRefusedError: if bad lines are not skipped.
            ClientError: a batch failed for another reason than its lines.
        """
        with ThreadPoolExecutor(self._most_in_flight, thread_name_prefix="import") as threads:
            try:
                for batch in batches:
                    self._make_room_for(batch)
                    self._in_flight.append((batch, threads.submit(self._send, batch)))
                while self._in_flight:
                    self._settle_oldest()
            except BaseException:
                self._settle_what_succeeds()
                raise

    def _make_room_for(self, batch: Batch) -> None:
        """Batches that share an id go one after the other, so that the later line wins."""
        while self._in_flight and (
            len(self._in_flight) >= self._most_in_flight or any(batch.ids & flying.ids for flying, _ in self._in_flight)
        ):
            self._settle_oldest()

    def _settle_oldest(self) -> None:
        batch, sending = self._in_flight[0]
        sent = sending.result()
        self._in_flight.popleft()
        bad_lines = sorted((*batch.bad_lines, *sent.refused), key=lambda line: line.number)
        # The rejects first: what is written there beyond the progress is cut off when the import goes on.
        self._rejects.add(bad_lines)
        self.progress = self.progress.advanced(
            line=batch.last_number,
            end=batch.end,
            results=sent.results,
            skipped=[SkippedLine(line.number, line.rule) for line in bad_lines],
            rejects_bytes=self._rejects.size_bytes,
            consistency_token=sent.consistency_token,
        )
        self._acknowledged(self.progress)

    def _settle_what_succeeds(self) -> None:
        """Something went wrong or the user has had enough: what is under way still counts."""
        self._client.give_up()
        try:
            while self._in_flight:
                self._settle_oldest()
        except (ClientError, LinesRefusedError, OSError):
            self._in_flight.clear()

    def _send(self, batch: Batch) -> Sent:
        operations = list(batch.operations)
        refused: list[BadLine] = []
        while operations:
            key = idempotency_key(
                self.progress.run_id, self.progress.file_digest, self.progress.collection_id, operations
            )
            try:
                answer = self._client.write_batch(
                    self._collection, [operation.body for operation in operations], idempotency_key=key
                )
            except ProblemError as problem:
                faults = refused_operations(problem, operations)
                if not faults:
                    raise
                if not self._skips_bad_lines:
                    raise LinesRefusedError([*faults.values()]) from problem
                refused.extend(faults.values())
                operations = [one for index, one in enumerate(operations) if index not in faults]
            else:
                results = Counter[str](result.result for result in answer.results)
                results["truncated"] = sum(result.truncated for result in answer.results)
                return Sent(results, answer.consistency_token, tuple(refused))
        return Sent(Counter(), None, tuple(refused))


def refused_operations(problem: ProblemError, operations: list[Operation]) -> dict[int, BadLine]:
    """Which operations of a batch the service names as its reasons, each with its line and the service's words."""
    found: dict[int, BadLine] = {}
    for error in problem.errors:
        address = _POINTER.match(str(error.get("pointer", "")))
        if address is None or int(address[1]) >= len(operations):
            continue
        index = int(address[1])
        line = operations[index].line
        rule = f"{address[2] or ''}: {error.get('detail', problem)}".removeprefix(": ")
        found.setdefault(index, bad(line, rule))
    return found
