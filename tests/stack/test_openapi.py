"""The merged OpenAPI document, and which service the edge asks."""

from __future__ import annotations

import pytest

from aindusdb.local_stack.edge import is_read
from aindusdb.local_stack.openapi import merge


def document(path: str, method: str, problem: str) -> dict[str, object]:
    reference = {"$ref": "#/components/schemas/Problem"}
    return {
        "openapi": "3.1.0",
        "info": {"title": "one", "version": "1"},
        "paths": {path: {method: {"responses": {"400": {"schema": reference}}}}},
        "components": {"schemas": {"Problem": {"title": problem}}},
    }


def test_operations_on_one_path_are_joined() -> None:
    merged = merge(document("/a", "post", "Problem"), document("/a", "get", "Problem"))
    assert set(merged["paths"]["/a"]) == {"get", "post"}
    assert set(merged["components"]["schemas"]) == {"Problem"}


def test_different_components_of_one_name_are_kept_apart() -> None:
    merged = merge(document("/a", "post", "of commands"), document("/b", "get", "of queries"))
    of_query = merged["paths"]["/b"]["get"]["responses"]["400"]["schema"]["$ref"]
    assert of_query == "#/components/schemas/Problem_query"
    assert merged["components"]["schemas"]["Problem_query"] == {"title": "of queries"}
    assert merged["components"]["schemas"]["Problem"] == {"title": "of commands"}


@pytest.mark.parametrize(
    ("method", "path", "reads"),
    [
        ("GET", "/api/v1/collections", True),
        ("HEAD", "/api/v1/collections", True),
        ("POST", "/api/v1/collections/a/vectors/search", True),
        ("POST", "/api/v1/collections/a/vectors/search/batch", True),
        ("POST", "/api/v1/vectors/search/groups", True),
        ("POST", "/api/v1/collections/a/vectors/count", True),
        ("POST", "/api/v1/vectors/scroll", True),
        ("POST", "/api/v1/vectors/recommend", True),
        ("POST", "/api/v1/vectors/batch", False),
        ("PUT", "/api/v1/collections/a/vectors/search-me", False),
        ("DELETE", "/api/v1/collections/a", False),
        ("GET", "/api/v1/collections/a/reembedding", False),
        ("GET", "/api/v1/collections/reembedding", True),
    ],
)
def test_reads_go_to_the_query_service(method: str, path: str, reads: bool) -> None:
    assert is_read(method, path) is reads
