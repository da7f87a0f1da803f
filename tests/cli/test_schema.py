"""`aindusdb schema upgrade` on real databases."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from shared.migrations import latest_revision
from tests.servers import Databases


def schema_upgrade(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AINDUSDB_")}
    return subprocess.run(
        [sys.executable, "-m", "aindusdb", "schema", "upgrade", *arguments],
        env={**inherited, **environment}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


async def test_upgrade_of_databases_that_are_there_already_changes_nothing(databases: Databases) -> None:
    done = schema_upgrade(
        "--json",
        AINDUSDB_EVENTS_OWNER_DSN=databases.events_owner_dsn,
        AINDUSDB_READ_OWNER_DSN=databases.read_owner_dsn,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "event": latest_revision("command_service"),
        "read": latest_revision("projector"),
    }


async def test_address_may_be_written_as_libpq_allows(databases: Databases) -> None:
    dsn = databases.events_owner_dsn.replace("postgresql://", "postgres://") + "?sslmode=disable"
    assert schema_upgrade("--events-dsn", dsn).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "name the databases"),
        (("--events-dsn", "postgresql://127.0.0.1:1/nowhere"), "event database was not upgraded"),
        (("--read-dsn", "mysql://127.0.0.1/x"), "read database was not upgraded"),
    ],
)
def test_what_cannot_be_upgraded_is_said_in_one_sentence(arguments: tuple[str, ...], says: str) -> None:
    refused = schema_upgrade(*arguments)
    assert refused.returncode == 1
    assert says in refused.stderr
    assert "Traceback" not in refused.stderr
