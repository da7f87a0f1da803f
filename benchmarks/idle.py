"""What a stack with Kafka and a replica costs while nobody uses it: the processor time of all its Python processes."""

from __future__ import annotations

import sys
import time

import numpy as np
import psutil

from benchmarks.figures import Target, arguments, conclude, say
from benchmarks.loading import load, new_collection, wait_until_searchable
from benchmarks.stack import Stack, stack

DIMENSION = 384
VECTORS = 500
SETTLE_SECONDS = 15.0
SERVERS = ("PostgreSQL", "Redis", "Kafka", "Replica")
"""Not Python."""
TARGETS = (Target("python_percent_of_a_core", 5, at_most=True), Target("python_processes", 6))


def main() -> int:
    parser = arguments(__doc__)
    parser.set_defaults(kafka=True, replicas=1)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    with stack(options) as running:
        _use(running)
        say(f"Resting {SETTLE_SECONDS:g} seconds, then measuring {options.seconds:g} …")
        time.sleep(SETTLE_SECONDS)
        figures = _measure(_python_processes(running), options.seconds)
    return conclude(figures, TARGETS, check=options.check)


def _use(running: Stack) -> None:
    """A stack that has worked has more to be woken for than one that was only started."""
    collection = new_collection(running, DIMENSION).name
    embeddings = np.random.default_rng(4).standard_normal((VECTORS, DIMENSION)).astype(np.float32)
    token = load(running, collection, [f"v{number}" for number in range(VECTORS)], embeddings)
    wait_until_searchable(running, collection, token, embeddings[0])


def _python_processes(running: Stack) -> dict[str, psutil.Process]:
    status = running.status()
    pids = {process["name"]: process["pid"] for process in status["processes"]} | {
        "Supervisor": status["supervisor_pid"]
    }
    return {name: psutil.Process(pid) for name, pid in pids.items() if not name.startswith(SERVERS)}


def _measure(processes: dict[str, psutil.Process], seconds: float) -> dict[str, object]:
    started = time.perf_counter()
    before = {name: _spent(process) for name, process in processes.items()}
    time.sleep(seconds)
    after = {name: _spent(process) for name, process in processes.items()}
    elapsed = time.perf_counter() - started
    percents = {name: 100 * (after[name][0] - before[name][0]) / elapsed for name in processes}
    wakes = {name: (after[name][1] - before[name][1]) / elapsed for name in processes}
    return {
        "python_percent_of_a_core": round(sum(percents.values()), 2),
        "python_processes": len(processes),
        "seconds": round(elapsed, 1),
        "percent_by_process": {name: round(percent, 2) for name, percent in percents.items()},
        "wakes_per_second_by_process": {name: round(each, 1) for name, each in wakes.items()},
    }


def _spent(process: psutil.Process) -> tuple[float, int]:
    """Seconds of processor time, and how often it gave the processor up of its own accord."""
    times = process.cpu_times()
    return times.user + times.system, process.num_ctx_switches().voluntary


if __name__ == "__main__":
    sys.exit(main())
