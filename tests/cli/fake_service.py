"""An HTTP server that answers as the API does, and fails when a test asks it to. It stands in for nothing else."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, Any], dict[str, str]]


def problem(status: int, name: str, detail: str = "no", **more: Any) -> dict[str, Any]:
    return {"type": f"/problems/{name}", "title": name, "status": status, "detail": detail, **more}


@dataclass
class FakeService:
    """`fault` is asked before each batch, with its number from 1 and its operations."""

    collections: dict[str, dict[str, Any]] = field(default_factory=dict)
    vectors: dict[str, dict[str, Any]] = field(default_factory=dict)
    batches: list[tuple[str | None, list[dict[str, Any]]]] = field(default_factory=list)
    searches: list[dict[str, Any]] = field(default_factory=list)
    reembeddings: list[dict[str, Any]] = field(default_factory=list)
    """What is answered one after the other, the last one for ever."""
    fault: Callable[[int, list[dict[str, Any]]], Answer | None] = lambda _number, _operations: None
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add_collection(self, name: str, dimension: int = 2, metric: str = "cosine") -> dict[str, Any]:
        tables = {
            "metric": metric,
            "type": "vector",
            "index": {"kind": "hnsw", "m": 16, "ef_construction": 64},
            "month_partitions": False,
        }
        self.collections[name] = {
            "name": name, "collection_id": f"id-{len(self.collections) + 1}", "dimension": dimension, **tables,
            "model": None, "description": None, "active": {"generation": 1, **tables, "indexed": True}, "change": None,
            "version": 1, "position": 1, "created_at": "2026-01-05T08:30:00Z", "updated_at": "2026-01-05T08:30:00Z",
        }  # fmt: skip
        return self.collections[name]

    def answer(self, method: str, path: str, body: Any, key: str | None) -> Answer:
        parts = path.partition("?")[0].removeprefix("/api/v1/").split("/")
        match method, parts:
            case "GET", ["collections"]:
                return 200, {"items": list(self.collections.values()), "next_cursor": None}, {}
            case "POST", ["collections"]:
                if body["name"] in self.collections:
                    return 409, problem(409, "collection-exists", "it exists"), {}
                created = self.add_collection(body["name"], body.get("dimension", 384))
                created["model"] = body.get("model", None if "dimension" in body else "the-service-model")
                return 201, {**created, "position": 1, "consistency_token": "token-create"}, {}
            case _, ["collections", name, *_] if name not in self.collections:
                return 404, problem(404, "collection-not-found", f"there is no collection {name!r}"), {}
            case "GET", ["collections", name]:
                return 200, self.collections[name], {}
            case "PATCH", ["collections", name]:
                self.collections[name] |= body
                return 200, {**self.collections[name], "position": 2, "consistency_token": "token-update"}, {}
            case "GET", ["collections", _, "reembedding"]:
                found = self.reembeddings[0]
                del self.reembeddings[: len(self.reembeddings) > 1]
                return 200, found, {}
            case "DELETE", ["collections", name]:
                return 200, {**self.collections.pop(name), "position": 2, "consistency_token": "token-delete"}, {}
            case "POST", ["collections", _, "vectors", "batch"]:
                return self._batch(body["operations"], key)
            case "POST", ["collections", _, "vectors", "search"]:
                self.searches.append(body)
                hit = {"id": "a\x1b[2J", "score": 1.0, "distance": 0.0, "content": "x", "metadata": {}, "version": 1}
                freshness = {"position": 1, "token": "t", "age_ms": 1.0, "parked": 0}
                answer = {
                    "hits": [hit], "complete": True, "collection": parts[1], "freshness": freshness, "cached": False,
                    "took_ms": 1.0,
                }  # fmt: skip
                return 200, answer, {}
            case _:
                return 404, problem(404, "route-not-found"), {}

    def _batch(self, operations: list[dict[str, Any]], key: str | None) -> Answer:
        with self.lock:
            self.batches.append((key, operations))
            refusal = self.fault(len(self.batches), operations)
            if refusal is not None:
                return refusal
            results = []
            for index, one in enumerate(operations):
                before = self.vectors.get(one["id"])
                kind = "created" if before is None else "unchanged" if before == one else "updated"
                self.vectors[one["id"]] = one
                results.append(
                    {
                        "index": index,
                        "op": "upsert",
                        "id": one["id"],
                        "result": kind,
                        "version": 1,
                        "position": 1,
                        "truncated": len(one.get("content", "")) > 100,
                    }
                )
            token = f"token-{len(self.batches)}"
            answer = {
                "results": results, "first_position": 1, "last_position": 1, "collection": "a",
                "consistency_token": token,
            }  # fmt: skip
            return 200, answer, {}


@contextmanager
def running(service: FakeService) -> Iterator[FakeService]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, document, headers = service.answer(
                self.command, self.path, body, self.headers.get("Idempotency-Key")
            )
            if status == 0:  # the connection breaks
                self.close_connection = True
                return
            raw = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST = do_PATCH = do_DELETE = respond  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    service.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
