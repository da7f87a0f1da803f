"""NDJSON imports of any size in constant memory: a vector a line, written in parts while the rest is still on its way.

A part is read, checked, embedded and committed before the next one is taken from the connection, so a client sends no
faster than what it sends is written. What is wrong with a line is told with its number. The same file sent again
appends nothing for what is there already.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID, uuid5

from pydantic import ValidationError

from command_service.domain.commands import CommandContext
from command_service.domain.refusals import BatchRefusedError
from command_service.models import UpsertOperation
from command_service.outcomes import Result, VectorsOutcome
from command_service.preparation import prepare_batch
from command_service.problems import problem_of
from command_service.service import CommandService, WriteTarget
from command_service.texts import destination, target_of
from command_service.writing import by_what_it_is
from shared.beside_the_loop import beside_the_loop
from shared.http.application import validation_problem
from shared.http.problems import ProblemError
from shared.strict_json import MalformedJsonError, parse_json

MAX_LINE_BYTES = 1024 * 1024
MAX_REPORTED = 100
_PART_LINES = 500
_PART_BYTES = 2 * 1024 * 1024

OnError = Literal["skip", "stop"]


@dataclass(frozen=True, slots=True)
class Line:
    """`number` counts from 1."""

    number: int
    text: bytes


@dataclass(frozen=True, slots=True)
class LineError:
    """`pointer` is the address of the field within the line."""

    line: int
    pointer: str
    type: str
    detail: str


@dataclass(slots=True)
class ImportReport:
    """`failed` counts the bad lines; the first hundred are in `errors`. `stopped_at`: the bad line that ended it."""

    lines: int = 0
    results: dict[Result, int] = field(
        default_factory=lambda: dict.fromkeys(("created", "updated", "deleted", "unchanged"), 0)
    )
    failed: int = 0
    errors: list[LineError] = field(default_factory=list)
    stopped_at: int | None = None
    outcomes: list[VectorsOutcome] = field(default_factory=list)
    """The first and the last part's, which say what a token must cover."""
    collection: str | None = None
    """Where it is written: what the name stood for when the first part was."""

    def add(self, outcome: VectorsOutcome) -> None:
        for operation in outcome.operations:
            self.results[operation.result] += 1
        self.outcomes[1:] = [outcome]

    def fail(self, error: LineError) -> None:
        self.failed += 1
        if len(self.errors) < MAX_REPORTED:
            self.errors.append(error)


async def import_lines(
    service: CommandService,
    context: CommandContext,
    name: str,
    body: AsyncIterator[bytes],
    *,
    on_error: OnError,
    import_id: UUID | None,
    in_pace: Callable[[int], Awaitable[None]],
) -> ImportReport:
    """`import_id` gives an id to each line that has none: the same one whenever the file is sent again. `in_pace` is
    awaited before so many lines are written.

    Raises:
        CollectionNotFoundError, EventDatabaseUnavailableError and whatever else a batch of writes does; what was
        written before stays.
    """
    report = ImportReport()
    async for part in _parts(_lines(body)):
        await in_pace(len(part))
        report.lines = part[-1].number
        read = await beside_the_loop(_read, part, import_id)
        errors = [one for one in read if isinstance(one, LineError)]
        operations = [one for one in read if isinstance(one, tuple)]
        if errors and on_error == "stop":
            operations = [one for one in operations if one[0] < errors[0].line]
            errors = errors[:1]
        for error in errors:
            report.fail(error)
        refused = await _write(service, context, report.collection or name, operations, report, on_error)
        if on_error == "stop" and (refused or errors):
            report.stopped_at = min(error.line for error in (*refused, *errors))
            report.lines = report.stopped_at
            return report
    return report


async def _write(
    service: CommandService,
    context: CommandContext,
    name: str,
    operations: Sequence[tuple[int, UpsertOperation]],
    report: ImportReport,
    on_error: OnError,
) -> list[LineError]:
    """Writes those that fit the collection; the errors of the others."""
    refused: list[LineError] = []
    while operations:
        try:
            outcome = await _written(service, context, name, operations)
        except ProblemError as problem:
            found = _line_errors(problem)
            if not found:
                raise
        except BatchRefusedError as refusal:
            found = _refused_lines(refusal, [number for number, _ in operations])
        else:
            report.add(outcome)
            report.collection = outcome.collection
            break
        if on_error == "stop":
            found = found[:1]
            operations = [one for one in operations if one[0] < found[0].line]
        else:
            bad = {error.line for error in found}
            operations = [one for one in operations if one[0] not in bad]
        refused += found
        for error in found:
            report.fail(error)
    return refused


async def _written(
    service: CommandService, context: CommandContext, name: str, operations: Sequence[tuple[int, UpsertOperation]]
) -> VectorsOutcome:
    inputs = [(f"/{number}", operation) for number, operation in operations]

    async def find_target() -> WriteTarget:
        return await target_of(service, context, name, inputs)

    async def write(target: WriteTarget) -> VectorsOutcome:
        to = await destination(service, context, target, inputs)
        return await service.write(context, target, await beside_the_loop(prepare_batch, to, inputs))

    return await by_what_it_is(service, context, find_target, write)


def _refused_lines(refusal: BatchRefusedError, numbers: Sequence[int]) -> list[LineError]:
    """In order of line; only the first hundred refusals are known."""
    problem = problem_of(refusal)
    assert problem is not None
    found: list[LineError] = []
    for (index, _), refused in zip(refusal.refusals, problem.errors, strict=True):
        pointer = "/" + refused.pointer.rpartition("/")[2]
        found.append(LineError(numbers[index], pointer, refused.type, refused.detail))
    return found


def _line_errors(problem: ProblemError) -> list[LineError]:
    """In order of line, one for each; empty for a problem that is not a line's."""
    found: dict[int, LineError] = {}
    for error in problem.errors:
        number, _, rest = error.pointer.removeprefix("/").partition("/")
        if not number.isdigit():
            return []
        found.setdefault(int(number), LineError(int(number), f"/{rest}", error.type, error.detail))
    return [found[number] for number in sorted(found)]


def _read(part: Sequence[Line], import_id: UUID | None) -> list[tuple[int, UpsertOperation] | LineError]:
    return [_read_line(line, import_id) for line in part]


def _read_line(line: Line, import_id: UUID | None) -> tuple[int, UpsertOperation] | LineError:
    if len(line.text) > MAX_LINE_BYTES:
        return LineError(line.number, "", "line-too-long", f"a line has at most {MAX_LINE_BYTES} bytes")
    try:
        document = parse_json(line.text)
    except MalformedJsonError as error:
        return LineError(line.number, "", "malformed-json", str(error))
    if not isinstance(document, dict):
        return LineError(line.number, "", "validation", "a line is a JSON object")
    if "op" in document:
        return LineError(
            line.number, "/op", "extra-forbidden", "a line is put in place, whatever was there; it has no op"
        )
    if "id" not in document and import_id is not None:
        document["id"] = str(uuid5(import_id, str(line.number)))
    try:
        return line.number, UpsertOperation.model_validate({**document, "op": "upsert"})
    except ValidationError as error:
        problem = validation_problem([{**one, "loc": ("body", *one["loc"])} for one in error.errors()], document)
        first = problem.errors[0]
        return LineError(line.number, first.pointer, first.type, first.detail)


async def _parts(lines: AsyncIterator[Line]) -> AsyncIterator[list[Line]]:
    part: list[Line] = []
    size = 0
    async for line in lines:
        part.append(line)
        size += len(line.text)
        if len(part) == _PART_LINES or size >= _PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


async def _lines(body: AsyncIterator[bytes]) -> AsyncIterator[Line]:
    """Blank lines are left out, and counted. Of a line that is too long only so much is kept as shows that it is."""
    number = 1
    rest = bytearray()
    async for piece in body:
        *ends, last = piece.split(b"\n")
        for end in ends:
            if text := _taken(rest, end).strip():
                yield Line(number, text)
            rest.clear()
            number += 1
        rest += last[: MAX_LINE_BYTES + 1 - len(rest)]
    if text := bytes(rest).strip():
        yield Line(number, text)


def _taken(rest: bytearray, end: bytes) -> bytes:
    return bytes(rest + end[: MAX_LINE_BYTES + 1 - len(rest)])
