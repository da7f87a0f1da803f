"""Thousands of requests made up from the OpenAPI documents, to both services. The last line is one JSON object."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import hypothesis
from hypothesis import HealthCheck, given, settings
from schemathesis.core.failures import Failure, FailureGroup

from tests.contract.generation import Case, Operation, cases, not_checked, operations
from tests.contract.running import Running, running_services
from tests.servers import DatabaseFactory, running_postgres, running_redis

SERVICES = {"command_service": "cases_command", "query_service": "cases_query"}
SHOWN_FAILURES = 20
DOCUMENTED_REFUSALS = (503, 504)
"""What a service answers when it cannot: no error of its own."""


class Verdict:
    """What came back: how many answers of each status, how many 5xx, and how many that no document allows."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.server_errors = 0
        self.undocumented = 0

    def add(self, case: Case, base_url: str) -> None:
        answer = case.call(base_url=base_url)
        self.statuses[answer.status_code] += 1
        is_fault = answer.status_code >= 500 and answer.status_code not in DOCUMENTED_REFUSALS
        self.server_errors += is_fault
        try:
            case.validate_response(answer, excluded_checks=not_checked(case))
        except (Failure, FailureGroup) as failure:
            self.undocumented += not is_fault
            if self.undocumented + self.server_errors <= SHOWN_FAILURES:
                print(f"{case.operation.label}: {failure}\n{case.as_curl_command()}", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2_000, help="to each service, at least (default: 2,000)")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"seed {options.seed}", file=sys.stderr)
    verdicts = asyncio.run(_run(options.cases, options.seed))
    report = {
        **{figure: verdicts[service].statuses.total() for service, figure in SERVICES.items()},
        "server_errors": sum(one.server_errors for one in verdicts.values()),
        "undocumented": sum(one.undocumented for one in verdicts.values()),
        "seed": options.seed,
        "statuses": {figure: dict(sorted(verdicts[service].statuses.items())) for service, figure in SERVICES.items()},
    }
    print(json.dumps(report), flush=True)
    return 1 if report["server_errors"] or report["undocumented"] else 0


async def _run(count: int, seed: int) -> dict[str, Verdict]:
    with tempfile.TemporaryDirectory(prefix="aindusdb-api-") as models:
        async with running_postgres() as admins, running_redis() as redis_url:
            factory = DatabaseFactory(admins)
            async with (
                factory.templates(),
                factory.pair() as databases,
                running_services(databases, redis_url, Path(models)) as running,
            ):
                return {
                    service: await asyncio.to_thread(_ask_all, running, service, count, seed) for service in SERVICES
                }


def _ask_all(running: Running, service: str, count: int, seed: int) -> Verdict:
    """Asks every operation as often as the others; again, until there were enough: some have few different requests."""
    verdict = Verdict()
    every = list(operations(service))
    while (left := count - verdict.statuses.total()) > 0:
        for operation in every:
            _ask(running, service, operation, math.ceil(left / len(every)), seed, verdict)
        seed += 1
        print(f"{service}: {verdict.statuses.total():,} of {count:,}", file=sys.stderr)
    return verdict


def _ask(running: Running, service: str, operation: Operation, count: int, seed: int, verdict: Verdict) -> None:
    base_url = str(running.clients[service].base_url)

    @hypothesis.seed(seed)
    @given(cases(operation, running))
    @settings(max_examples=count, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    def ask(case: Case) -> None:
        verdict.add(case, base_url)

    ask()


if __name__ == "__main__":
    sys.exit(main())
