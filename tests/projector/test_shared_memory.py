"""An index on a server whose processes may share little memory, as in a container."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

from aindusdb.local_stack.ports import free_port
from aindusdb.local_stack.postgres import PostgresServer, find_binaries
from aindusdb.local_stack.users import postgres_user
from events_schema.collections import IndexSpec
from events_schema.embedding import EmbeddingSpec
from projector.generations import Generation, Shape
from projector.indexing import make_index
from projector.settings import ProjectorSettings
from projector.tables import create_tables
from tests.conftest import skipped_without
from tests.replay.small_disk import NoMountError, small_folder
from tests.servers import connected, running

_SHARED = {"dynamic_shared_memory_type": "mmap", "min_parallel_table_scan_size": "0", "fsync": "off"}
_LITTLE_KB = 4_096


@pytest_asyncio.fixture
async def connection() -> AsyncIterator[asyncpg.Connection]:
    """To a server of its own, where indexes are made by several processes whatever they are over."""
    user = postgres_user()
    folder = Path(tempfile.mkdtemp(prefix="aindusdb-test-"))
    folder.chmod(0o755)  # PostgreSQL runs as another user when we are root
    try:
        server = PostgresServer(find_binaries(user), folder / "data", free_port(), "test", user, settings=_SHARED)
        server.initialise()
        with skipped_without(NoMountError), ExitStack() as stack:
            stack.enter_context(small_folder(server.data / "pg_dynshmem", _LITTLE_KB))
            async with running(server.spec(), folder), connected(server.dsn("postgres")) as admin:
                await admin.execute("CREATE EXTENSION vector")
                yield admin
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("concurrently", [False, True])
async def test_one_process_makes_the_index_that_several_have_no_memory_for(
    connection: asyncpg.Connection, concurrently: bool
) -> None:
    spec = EmbeddingSpec(provider="client", model=None, dimension=3)
    shape = Shape(spec, "cosine", "vector", IndexSpec(kind="hnsw", m=16, ef_construction=64, lists=None))
    generation = Generation(uuid4(), 1, shape, "building", indexed=False, projection_version=1)
    await create_tables(connection, generation)
    await connection.execute(
        f"INSERT INTO {generation.embeddings} SELECT n::text, ARRAY[n, 1, 2]::vector FROM generate_series(1, 500) n"
    )
    settings = ProjectorSettings(events_dsn="unused", read_dsn="unused")
    by_several = f"CREATE INDEX ON {generation.embeddings} USING hnsw (embedding vector_cosine_ops)"
    with pytest.raises(asyncpg.DiskFullError, match="shared memory"):
        await connection.execute(by_several)
    made = await make_index(connection, generation, settings, concurrently=concurrently)
    assert made is not None
    assert made.rows == 500
    assert await connection.fetchval(
        "SELECT array_agg(indisvalid) FROM pg_index WHERE indexrelid = $1::regclass", f"{generation.embeddings}_hnsw"
    ) == [True]
