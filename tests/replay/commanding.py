"""Runs `aindusdb` on a pair of databases: inside the test, or as a process to be killed."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from typer.testing import CliRunner, Result

from aindusdb.cli import build_app
from tests.servers import Databases


def environment(databases: Databases, **more: str) -> dict[str, str]:
    return {"AINDUSDB_EVENTS_DSN": databases.projector_events_dsn, "AINDUSDB_READ_DSN": databases.read_dsn, **more}


async def run(databases: Databases, *arguments: str, **more: str) -> Result:
    """In a thread, because the command has an event loop of its own."""
    runner = CliRunner(env=environment(databases, **more))
    result = await asyncio.to_thread(runner.invoke, build_app(), arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


async def answer(databases: Databases, *arguments: str, exit_code: int = 0, **more: str) -> dict[str, Any]:
    """What the command says with `--json` in its last line."""
    result = await run(databases, *arguments, "--json", **more)
    assert result.exit_code == exit_code, result.output
    said: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return said


async def pass_over(databases: Databases, position: int) -> dict[str, Any]:
    """The event that is at fault there, and stays so."""
    return await answer(
        databases, "events", "parked", "skip", str(position), "--reason", "nobody can apply it", "--by", "grace",
        AINDUSDB_EVENTS_DSN=databases.events_dsn,
    )  # fmt: skip


async def refusal(databases: Databases, *arguments: str, exit_code: int = 1, **more: str) -> str:
    """The one sentence that it is refused with."""
    result = await run(databases, *arguments, **more)
    assert result.exit_code == exit_code, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.output
    return lines[0]


@asynccontextmanager
async def process(databases: Databases, *arguments: str, **more: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Killed at the end if it still runs."""
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "aindusdb", *arguments,
        env={**os.environ, **environment(databases, **more)},
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()
