"""The lines of an import: read in constant memory, held against the service's own rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO
from uuid import UUID, uuid5

from pydantic import ValidationError

from command_service.models import CreateVectorRequest
from events_schema.collections import Metric, VectorType
from events_schema.embedding import Float32Array, encode
from shared.embedding_input import embedding_fault
from shared.strict_json import MalformedJsonError, parse_json

MAX_LINE_BYTES = 1024 * 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Line:
    """Line `number`, from 1, lies at bytes `start` to `end` of the file. `text` is None beyond `MAX_LINE_BYTES`.

    `is_made`: it is the JSON of a row of a file that has no lines, and lies at rows `start` to `end`. `fault` says why
    no JSON could be made of it.
    """

    number: int
    start: int
    end: int
    text: bytes | None
    is_made: bool = False
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class BadLine:
    """Where it lies, and the rule it breaks as a sentence. `text` is kept of a line that the file does not hold."""

    number: int
    start: int
    end: int
    rule: str
    text: bytes | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """An upsert as the service takes it, and the line it comes from."""

    line: Line
    vector_id: str
    body: dict[str, Any]
    size_bytes: int
    dimension: int | None
    """Of the embedding that the line brings; None: it brings only content."""


@dataclass(frozen=True, slots=True)
class LineRules:
    """What a line must fit, beyond the rules that hold everywhere. `file_id` gives lines without an id one. Without
    `dimension` the service judges the length of the embeddings that lines bring."""

    dimension: int | None
    metric: Metric
    vector_type: VectorType
    file_id: UUID


def read_lines(file: BinaryIO, *, start: int = 0, number: int = 0) -> Iterator[Line]:
    """The lines from byte `start` on, `number` lines lying before it. Blank lines are passed over."""
    file.seek(start)
    while text := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        end = start + len(text)
        if len(text) > MAX_LINE_BYTES and not text.endswith(b"\n"):
            end += _rest_of_line(file)
            yield Line(number, start, end, None)
        else:
            if number == 1:
                text = text.removeprefix(_BYTE_ORDER_MARK)
            if text.strip():
                yield Line(number, start, end, text)
        start = end


def _rest_of_line(file: BinaryIO) -> int:
    skipped = 0
    while more := file.readline(MAX_LINE_BYTES):
        skipped += len(more)
        if more.endswith(b"\n"):
            break
    return skipped


def read_operation(line: Line, rules: LineRules) -> Operation | BadLine:
    if line.fault is not None:
        return bad(line, line.fault)
    if line.text is None or len(line.text) > MAX_LINE_BYTES + 1:
        return bad(line, f"a line has at most {MAX_LINE_BYTES:,} bytes")
    try:
        value = parse_json(line.text)
    except MalformedJsonError as error:
        return bad(line, f"not valid JSON: {error}")
    if not isinstance(value, dict):
        return bad(line, "a line is one JSON object")
    try:
        vector = CreateVectorRequest.model_validate(value)
    except ValidationError as error:
        return bad(line, _first_fault(error))
    fault = _text_fault(vector.content) if vector.embedding is None else _embedding_fault(vector.embedding, rules)
    if fault is not None:
        return bad(line, fault)
    vector_id = vector.id if vector.id is not None else str(uuid5(rules.file_id, str(line.number)))
    body: dict[str, Any] = {"op": "upsert", "id": vector_id, "metadata": vector.metadata}
    if vector.embedding is not None:
        body["embedding"] = encode(vector.embedding)
    if vector.content is not None:
        body["content"] = vector.content
    if vector.model is not None:
        body["model"] = vector.model
    if vector.expires_at is not None:
        body["expires_at"] = vector.expires_at.isoformat()
    dimension = None if vector.embedding is None else int(vector.embedding.size)
    return Operation(line, vector_id, body, len(line.text), dimension)


def _embedding_fault(embedding: Float32Array, rules: LineRules) -> str | None:
    size = int(embedding.size)
    if rules.dimension is not None and size != rules.dimension:
        return f"/embedding: the collection's dimension is {rules.dimension}, this one has {size} numbers"
    fault = embedding_fault(embedding, rules.metric, rules.vector_type)
    return None if fault is None else f"/embedding: {fault.rule}"


def _text_fault(content: str | None) -> str | None:
    return None if content and content.strip() else "/content: a blank content cannot be embedded"


def bad(line: Line, rule: str) -> BadLine:
    return BadLine(line.number, line.start, line.end, rule, line.text if line.is_made else None)


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_input=False, include_url=False)[0]
    pointer = "".join(f"/{part}" for part in fault["loc"]) + fault.get("ctx", {}).get("within", "")
    return f"{pointer}: {fault['msg']}" if pointer else fault["msg"]
