"""The two databases and their roles. The tables, and who may read them, come with the migrations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import asyncpg

from aindusdb.local_stack.secrets import Secrets

OWNER = "aindusdb_owner"
COMMAND = "aindusdb_command"
PROJECTOR = "aindusdb_projector"
QUERY = "aindusdb_query"


@dataclass(frozen=True, slots=True)
class DatabasePair:
    events: str = "aindusdb_events"
    read: str = "aindusdb_read"


def role_passwords(secrets: Secrets) -> Mapping[str, str]:
    return {
        OWNER: secrets.owner_password,
        COMMAND: secrets.command_password,
        PROJECTOR: secrets.projector_password,
        QUERY: secrets.query_password,
    }


async def create_roles(admin: asyncpg.Connection, passwords: Mapping[str, str]) -> None:
    """Makes the roles that are missing and gives each its password, over a superuser's connection."""
    for role, password in passwords.items():
        if not await admin.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
            await execute_quoted(admin, "CREATE ROLE %I LOGIN", role)
        await execute_quoted(admin, "ALTER ROLE %I PASSWORD %L", role, password)


async def create_database(admin: asyncpg.Connection, database: str, owner: str) -> None:
    if not await admin.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", database):
        await execute_quoted(admin, "CREATE DATABASE %I OWNER %I", database, owner)


async def create_vector_extension(admin: asyncpg.Connection) -> None:
    """Inside the read database: only a superuser may, its owner may not."""
    await admin.execute("CREATE EXTENSION IF NOT EXISTS vector")
    await admin.execute("ALTER EXTENSION vector UPDATE")


async def prepare(dsn_of: Callable[[str], str], passwords: Mapping[str, str], pair: DatabasePair) -> None:
    """Makes whatever is missing on one server. `dsn_of` gives a superuser's address of a database."""
    admin = await asyncpg.connect(dsn_of("postgres"))
    try:
        await create_roles(admin, passwords)
        await create_database(admin, pair.events, OWNER)
        await create_database(admin, pair.read, PROJECTOR)
    finally:
        await admin.close()
    inside_read = await asyncpg.connect(dsn_of(pair.read))
    try:
        await create_vector_extension(inside_read)
    finally:
        await inside_read.close()


async def execute_quoted(connection: asyncpg.Connection, statement: str, *values: str) -> None:
    """For statements that take no bound parameters: the server itself quotes the values (%I names, %L literals)."""
    await connection.execute(
        await connection.fetchval("SELECT format($1, VARIADIC $2::text[])", statement, list(values))
    )
