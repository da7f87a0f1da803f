"""One supervised process, without a stack around it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil
import pytest

from aindusdb.local_stack.errors import ProcessDoesNotStartError
from aindusdb.local_stack.logs import LogFile
from aindusdb.local_stack.processes import NotReadyError, ProcessSpec, SupervisedProcess
from tests.stack.running import are_gone, eventually


async def ready_at_once() -> None:
    return


async def never_ready() -> None:
    raise NotReadyError("still thinking")


def supervised(
    program: str, folder: Path, reports: list[str], *, ready: bool = True, argv: tuple[str, ...] | None = None
) -> SupervisedProcess:
    spec = ProcessSpec(
        name="Example",
        argv=argv or (sys.executable, "-S", "-c", program),
        port=0,
        probe=ready_at_once if ready else never_ready,
        environment=dict(os.environ),
    )
    return SupervisedProcess(spec, LogFile(folder / "example.log"), report=reports.append, changed=lambda: None)


async def test_one_that_never_starts_is_given_up_with_its_last_words(tmp_path: Path) -> None:
    reports: list[str] = []
    process = supervised("print('no config'); raise SystemExit(7)", tmp_path, reports, ready=False)
    process.start()
    with pytest.raises(ProcessDoesNotStartError, match=r"ended with exit code 7.*example.log\n(.*\n)*no config"):
        await process.wait_ready(10)
    assert reports == [
        f"Example: ended with exit code 7; starting it again in {delay} s (log: {tmp_path / 'example.log'})"
        for delay in (0.2, 0.4)
    ]
    await process.stop()


async def test_a_missing_program_is_named(tmp_path: Path) -> None:
    process = supervised("", tmp_path, [], argv=("/no/such/program",))
    process.start()
    with pytest.raises(ProcessDoesNotStartError, match=r"could not be started.*No such file"):
        await process.wait_ready(10)


async def test_one_that_is_never_ready_is_given_up_with_what_it_said(tmp_path: Path) -> None:
    process = supervised("import time; time.sleep(60)", tmp_path, [], ready=False)
    process.start()
    with pytest.raises(ProcessDoesNotStartError, match="still thinking"):
        await process.wait_ready(0.3)
    await process.stop()
    assert process.record().state == "stopped"


async def test_stopping_ends_its_children_too(tmp_path: Path) -> None:
    program = "import os, time; pid = os.fork(); print(os.getpid(), flush=True); time.sleep(60)"
    process = supervised(program, tmp_path, [])
    process.start()
    await process.wait_ready(10)
    log = tmp_path / "example.log"
    assert eventually(lambda: len(log.read_text().split()) == 2)
    processes = [psutil.Process(int(pid)) for pid in log.read_text().split()]
    await process.stop()
    assert are_gone(processes)


def test_a_log_is_bounded(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "example.log", max_bytes=1000, kept_files=2)
    descriptor = log.open_for_child()
    for number in range(10):
        os.write(descriptor, f"{number}".encode() * 600)
        log.rotate()
    os.close(descriptor)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["example.log", "example.log.1", "example.log.2"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 4000
    assert (tmp_path / "example.log.1").read_text().endswith("9")
