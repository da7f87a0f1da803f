"""What each Python process of the stack holds in memory at rest."""

from __future__ import annotations

import sys
import time

from benchmarks.figures import Target, arguments, conclude, say
from benchmarks.stack import stack

SERVERS = frozenset({"PostgreSQL", "Redis"})
"""Not Python, and sized by their settings."""
LIMIT_MB = 150


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--rest-seconds", type=float, default=10.0)
    options = parser.parse_args()
    with stack(options) as running:
        say(f"Resting {options.rest_seconds:g} seconds …")
        time.sleep(options.rest_seconds)
        processes = running.status().get("processes", [])
    figures = {
        f"{process['name'].lower().replace(' ', '_')}_mb": round(process["rss_bytes"] / 1_000_000, 1)
        for process in processes
        if process["name"] not in SERVERS and process["rss_bytes"] is not None
    }
    targets = [Target(name, LIMIT_MB, at_most=True) for name in figures] or [Target("processes", 1)]
    return conclude(figures, targets, check=options.check)


if __name__ == "__main__":
    sys.exit(main())
