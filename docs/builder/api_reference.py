"""The API reference: each operation of both services' OpenAPI documents, as Markdown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from aindusdb.local_stack.openapi import merge
from command_service.app import create_app as create_command_service
from command_service.settings import CommandSettings
from docs.builder.errors import MissingExampleError
from docs.builder.markdown import block, json_block, table
from docs.builder.schema_tables import Components, FieldRow, Schema, completed, meaning
from query_service.app import create_app as create_query_service
from query_service.settings import QuerySettings

_URL = "http://127.0.0.1:8000"
_METHODS = ("post", "get", "put", "patch", "delete")
_NAMED = "/collections/{name}/vectors"
_DEFAULT = "/vectors"
_PROBLEM_NAMES = re.compile(r"`([a-z-]+)`")
_JSON = "application/json"
_EVENT_STREAM = "text/event-stream"
_BODY = "the model of its body"


@cache
def openapi() -> Mapping[str, Any]:
    """Of both services, merged as the edge does it. No server is needed: an application is made, but not started."""
    nowhere = "postgresql://nowhere"
    command: FastAPI = create_command_service(
        CommandSettings(events_dsn=nowhere, signing_keys="none"), CollectorRegistry()
    )
    query: FastAPI = create_query_service(QuerySettings(read_dsn=nowhere, signing_keys="none"), CollectorRegistry())
    return merge(command.openapi(), query.openapi())


def tags() -> list[str]:
    return sorted({tag for one in _operations(openapi()) for tag in one.content.get("tags", ())})


def operations(tag: str) -> str:
    """All operations with this tag, each a section of the second level of a page in docs/api.

    Raises:
        MissingExampleError
    """
    document = openapi()
    components = Components(document["components"]["schemas"])
    found = [one for one in _operations(document) if tag in one.content.get("tags", ())]
    in_default = {(one.method, one.path): one for one in found if _DEFAULT in one.path and _NAMED not in one.path}
    sections: list[str] = []
    for one in found:
        twin = in_default.get((one.method, one.path.replace(_NAMED, _DEFAULT)))
        if twin is not one:
            sections.append(_section(one, twin, components))
    return "\n".join(sections)


@dataclass(frozen=True, slots=True)
class _Operation:
    method: str
    path: str
    content: Mapping[str, Any]

    @property
    def call(self) -> str:
        return f"{self.method.upper()} {self.path}"

    def parameters(self, place: str) -> list[Mapping[str, Any]]:
        return [one for one in self.content.get("parameters", ()) if one["in"] == place]


def _operations(document: Mapping[str, Any]) -> Iterator[_Operation]:
    for path, by_method in sorted(document["paths"].items()):
        for method in _METHODS:
            if method in by_method:
                yield _Operation(method, path, by_method[method])


def _section(operation: _Operation, twin: _Operation | None, components: Components) -> str:
    content = operation.content
    calls = f"`{operation.call}`" + (f", or `{twin.call}` for the collection `default`" if twin else "")
    parts = [f"## {content['summary']}\n", f"{calls}\n", content.get("description", "") + "\n"]
    if parameters := content.get("parameters"):
        parts += [
            "**Parameters**\n",
            table(("name", "in", "type", "meaning"), (_parameter_row(one, components) for one in parameters)),
        ]
    body = _schema_of(content.get("requestBody"))
    if body is not None:
        parts += ["**Body**\n", _described(body, components), _request_tables(components.rows(body))]
    if lines := _lines_of(operation):
        parts += [f"**Body** {', '.join(f'`{kind}`' for kind in lines)}: a JSON object a line.\n"]
    parts += [block("sh", _curl(operation, components, body))]
    if body is not None:
        parts += [
            f"Another body:\n\n{json_block(other)}" for other in _examples(operation, components, body, _BODY)[1:]
        ]
    parts += _answers(operation, components)
    parts += _problems(content["responses"])
    return "\n".join(parts)


def _parameter_row(parameter: Mapping[str, Any], components: Components) -> tuple[str, str, str, str]:
    schema = parameter["schema"]
    default = f" Default: `{json.dumps(schema['default'])}`." if "default" in schema else ""
    kind = components.type_text(schema).removesuffix(" or null")
    said = parameter.get("description") or meaning(schema)
    return f"`{parameter['name']}`", parameter["in"], kind, said + default


def _schema_of(content: Mapping[str, Any] | None) -> Schema | None:
    schema: Schema | None = (content or {}).get("content", {}).get(_JSON, {}).get("schema")
    return schema


def _described(schema: Schema, components: Components) -> str:
    return str(components.resolve(schema).get("description", "")) + "\n"


def _request_tables(rows: Iterator[FieldRow]) -> str:
    by_variant: dict[str | None, list[FieldRow]] = {}
    for row in rows:
        by_variant.setdefault(row.variant, []).append(row)
    return "\n".join(
        (f"With `{variant}`:\n\n" if variant else "")
        + table(
            ("field", "type", "default", "meaning"),
            [
                (f"`{row.path}`", row.type, "required" if row.required else _code(row.default), row.meaning)
                for row in rows_of
            ],
        )
        for variant, rows_of in by_variant.items()
    )


def _code(text: str | None) -> str:
    return f"`{text}`" if text is not None else ""


def _answers(operation: _Operation, components: Components) -> Iterator[str]:
    if stream := _stream_of(operation):
        yield f"**Answer** 200 (`{_EVENT_STREAM}`)\n"
        yield block("text", stream["example"].strip())
        return
    answers = {
        status: schema
        for status, answer in operation.content["responses"].items()
        if status.startswith("2") and (schema := _schema_of(answer)) is not None
    }
    yield f"**Answer** {' or '.join(answers)}\n"
    schema = next(iter(answers.values()))
    yield _described(schema, components)
    yield table(
        ("field", "type", "meaning"),
        [(f"`{row.path}`", row.type, row.meaning) for row in components.rows(schema)],
    )
    yield json_block(_examples(operation, components, schema, "the model of its answer")[0])


def _lines_of(operation: _Operation) -> Mapping[str, Any]:
    """Media type -> content, of a body that is lines of JSON."""
    content = operation.content.get("requestBody", {}).get("content", {})
    return {kind: one for kind, one in content.items() if kind != _JSON}


def _stream_of(operation: _Operation) -> Mapping[str, Any] | None:
    content = operation.content["responses"].get("200", {}).get("content", {})
    stream: Mapping[str, Any] | None = content.get(_EVENT_STREAM)
    return stream


def _examples(operation: _Operation, components: Components, schema: Schema, what: str) -> list[Any]:
    examples = components.resolve(schema).get("examples")
    if not examples:
        raise MissingExampleError(operation.call, what)
    return [completed(one, schema, components) for one in examples]


def _curl(operation: _Operation, components: Components, body: Schema | None) -> str:
    path = operation.path

    def example_of(parameter: Mapping[str, Any]) -> str:
        what = f"the parameter {parameter['name']}"
        return quote(str(_examples(operation, components, parameter["schema"], what)[0]))

    for parameter in operation.parameters("path"):
        path = path.replace(f"{{{parameter['name']}}}", example_of(parameter))
    query = "&".join(f"{one['name']}={example_of(one)}" for one in operation.parameters("query") if one["required"])
    url = f"'{_URL}{path}?{query}'" if query else f"{_URL}{path}"
    # curl sends a body by POST, and without one by GET, of itself.
    lines = _lines_of(operation)
    implied = "post" if body is not None or lines else "get"
    method = "" if operation.method == implied else f" -X {operation.method.upper()}"
    command = f"curl -s{'N' if _stream_of(operation) else ''}{method} {url}"
    if lines:
        kind, content = next(iter(lines.items()))
        return f"{command} \\\n  -H 'Content-Type: {kind}' \\\n  --data-binary '{content['example'].strip()}'"
    if body is None:
        return command
    example = json.dumps(_examples(operation, components, body, _BODY)[0], ensure_ascii=False)
    return f"{command} \\\n  -H 'Content-Type: application/json' \\\n  -d '{example}'"


def _problems(responses: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            status,
            ", ".join(f"[{name}](../problems/{name}.md)" for name in _PROBLEM_NAMES.findall(answer["description"])),
        )
        for status, answer in sorted(responses.items())
        if status >= "4" and status.isdigit()
    ]
    return ["**Problems**\n", table(("status", "problems"), rows)] if rows else []
