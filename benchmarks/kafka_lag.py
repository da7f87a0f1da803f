"""`benchmarks.lag` through Kafka to a replica."""

from __future__ import annotations

import sys

from benchmarks.lag import main

if __name__ == "__main__":
    sys.exit(main(kafka=True, replicas=1))
