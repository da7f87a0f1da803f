"""The consistency test. The last line that it prints is one JSON object."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time

from tests.consistency.run import Options, run

_SHOWN_VIOLATIONS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=100_000, help="reads and writes (default: 100000)")
    parser.add_argument("--sessions", type=int, default=24, help="clients at the same time (default: 24)")
    parser.add_argument("--source", choices=["kafka", "log"], default="kafka", help="what projectors read")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    options = Options(
        operations=arguments.operations,
        sessions=arguments.sessions,
        kafka=arguments.source == "kafka",
        seed=arguments.seed,
        fault_pause_seconds=(1.0, 4.0),
    )
    outcome = asyncio.run(run(options))
    for violation in outcome.violations[:_SHOWN_VIOLATIONS]:
        print(f"{violation.kind} in {violation.operation}: {violation.detail}", file=sys.stderr)
    print(json.dumps(outcome.report), flush=True)
    sys.exit(1 if outcome.violations else 0)


if __name__ == "__main__":
    main()
