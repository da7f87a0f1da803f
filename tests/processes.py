"""A service as it is run: a process of its own, reached over HTTP."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from aindusdb.local_stack.ports import free_port
from tests.projector.projecting import until


@asynccontextmanager
async def running_process(
    module: str, **environment: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, httpx.AsyncClient]]:
    """`python -m module`, once it answers; killed in the end if it still runs."""
    port = environment.setdefault("AINDUSDB_PORT", str(free_port()))
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", module, env={**os.environ, **environment})
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
            await until(lambda: _answers(client), "the process did not start")
            yield process, client
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/health")).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
