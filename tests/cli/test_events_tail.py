from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest_asyncio

from tests.command.conftest import running_service
from tests.servers import Databases

REPOSITORY = Path(__file__).parents[2]


@pytest_asyncio.fixture(scope="module")
async def service(databases: Databases) -> AsyncIterator[httpx.AsyncClient]:
    """The command service on a log of five events: a collection and four vectors."""
    async with running_service(databases) as client:
        await client.post("/api/v1/collections", json={"name": "a", "dimension": 3})
        for number in range(4):
            answer = await client.put(
                f"/api/v1/collections/a/vectors/v{number}", json={"embedding": [1, 2, number], "content": "text"}
            )
            assert answer.status_code == 201
        yield client


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tests.cli.data_commands", "events", "tail", *arguments]


def environment(databases: Databases) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "AINDUSDB_EVENTS_DSN": databases.events_reader_dsn}


async def tail(databases: Databases, *arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run,
        command(*arguments),
        env=environment(databases),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_the_last_events_are_shown_one_a_line(service: httpx.AsyncClient, databases: Databases) -> None:
    done = await tail(databases, "--limit", "2")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["4", "5"]
    assert lines[-1].split()[2] == "VectorCreated"
    assert lines[-1].endswith("<3 floats>")


async def test_embeddings_are_named_in_json_too(service: httpx.AsyncClient, databases: Databases) -> None:
    done = await tail(databases, "--after", "0", "--limit", "2", "--json")
    first, second = map(json.loads, done.stdout.splitlines())
    assert (first["position"], first["event_type"]) == (1, "CollectionCreated")
    assert second["event_data"]["embeddings"][0]["data"] == "<3 floats>"


async def test_events_are_filtered_by_type(service: httpx.AsyncClient, databases: Databases) -> None:
    done = await tail(databases, "--type", "CollectionCreated", "--json")
    assert [json.loads(line)["position"] for line in done.stdout.splitlines()] == [1]


async def test_following_shows_what_is_written_later(service: httpx.AsyncClient, databases: Databases) -> None:
    following = await asyncio.create_subprocess_exec(
        *command("--follow", "--limit", "1"), env=environment(databases), stdout=subprocess.PIPE
    )
    assert following.stdout is not None
    async with asyncio.timeout(30):
        await following.stdout.readline()
        await service.put("/api/v1/collections/a/vectors/later", json={"embedding": [1, 2, 3]})
        assert b"  later  " in await following.stdout.readline()
    following.send_signal(2)
    assert await following.wait() == 0


async def test_a_database_that_is_away_is_one_sentence(databases: Databases) -> None:
    away = {**environment(databases), "AINDUSDB_EVENTS_DSN": "postgresql://a:b@127.0.0.1:1/none"}
    done = await asyncio.to_thread(
        subprocess.run, command(), env=away, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
