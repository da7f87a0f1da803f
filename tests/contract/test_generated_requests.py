"""Requests made up from the OpenAPI documents: each is answered as the documents say, and none with a 5xx."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.contract.documents import DOCUMENTS
from tests.contract.generation import Case, Operation, cases, not_checked, operations
from tests.contract.running import Running

EXAMPLES = 12
"""For each operation: some hundred requests to each service; `make test-api` sends thousands."""

FEED = "GET /api/v1/events"
FEED_SECONDS = 3.0
"""So long one is read, for it has no end."""

OPERATIONS = [
    pytest.param(service, operation, id=f"{service} {operation.label}")
    for service in DOCUMENTS
    for operation in operations(service)
]


@pytest.mark.parametrize(("service", "operation"), OPERATIONS)
def test_answers_are_what_the_document_says(running: Running, service: str, operation: Operation) -> None:
    base_url = str(running.clients[service].base_url)
    limit: dict[str, Any] = {"timeout": FEED_SECONDS} if operation.label == FEED else {}
    answered: Counter[int] = Counter()

    @given(cases(operation, running))
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Case) -> None:
        answer = case.call(base_url=base_url, **limit)
        answered[answer.status_code] += 1
        case.validate_response(answer, excluded_checks=not_checked(case))

    ask()
    assert any(200 <= status < 300 for status in answered), f"no request was accepted: {answered}"
