"""Runs a database's Alembic history. Each service that owns a database keeps one under its `migrations/`."""

from __future__ import annotations

from importlib.resources import files
from typing import Literal

import asyncpg
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from shared.postgres import connect_uncached

Owner = Literal["command_service", "projector"]

_UPGRADE_LOCK = 7_120_031_001
"""Advisory lock key: two upgrades of one database take turns."""


def _script_directory(owner: Owner) -> tuple[Config, ScriptDirectory]:
    config = Config()
    config.set_main_option("script_location", str(files(owner).joinpath("migrations")))
    return config, ScriptDirectory.from_config(config)


def latest_revision(owner: Owner) -> str:
    """The revision that this version of the software needs."""
    head = _script_directory(owner)[1].get_current_head()
    assert head is not None
    return head


async def upgrade(owner_dsn: str, owner: Owner) -> str:
    """Brings the owner's database to the latest revision and returns it. Does nothing when it is there already.

    `owner_dsn` must be of the role that owns the database.
    """
    config, scripts = _script_directory(owner)
    latest = latest_revision(owner)

    def run(connection: Connection) -> None:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})

        def steps(revision: str, _context: MigrationContext) -> object:
            return scripts._upgrade_revs(latest, revision)  # noqa: SLF001 - Alembic offers no public name for it

        with EnvironmentContext(config, scripts, fn=steps) as environment:
            environment.configure(connection=connection, transactional_ddl=True)
            environment.run_migrations()

    async def connected() -> asyncpg.Connection[asyncpg.Record]:
        return await connect_uncached(owner_dsn, command_timeout_seconds=None)

    # asyncpg reads the address itself: it knows all that libpq's addresses may hold, SQLAlchemy does not.
    engine = create_async_engine("postgresql+asyncpg://", async_creator=connected, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(run)
    finally:
        await engine.dispose()
    return latest
