"""The commands of docs/operations/backups.md, run as they stand there."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

from aindusdb.local_stack.postgres import PostgresServer

_PAGE = Path(__file__).parents[2] / "docs" / "operations" / "backups.md"


def block(section: str, language: str) -> str:
    """The code block of this language in the section with this heading."""
    found = re.search(rf"```{language}\n(.*?)```", _section(section), re.DOTALL)
    assert found is not None, f"{_PAGE.name} has no block {language} under {section!r}"
    return found[1]


def statements(section: str) -> list[str]:
    """Of its block of SQL; each is a transaction of its own."""
    return block(section, "sql").strip().splitlines()


def commands(section: str) -> list[list[str]]:
    """The first `aindusdb` command of each numbered step that has any, in order: its arguments."""
    steps = re.split(r"^\d+\. ", _section(section), flags=re.MULTILINE)[1:]
    found = [re.search(r"`aindusdb ([^`]+)`", step) for step in steps]
    arguments = [command[1].split() for command in found if command is not None]
    assert arguments, f"{_PAGE.name} has no commands under {section!r}"
    return arguments


def _section(heading: str) -> str:
    return _PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def archiving() -> dict[str, str]:
    """The settings of a server that archives."""
    lines = block("Archiving", "ini").splitlines()
    return {name: value.strip("'") for name, value in (line.split(" = ", 1) for line in lines)}


async def base_backup(server: PostgresServer, backup: Path) -> None:
    await _run(server, block("A base backup", "sh"), PRIMARY=server.dsn("postgres"), BACKUP=str(backup))


async def restore(server: PostgresServer, backup: Path, archive: Path, target: str = "") -> None:
    """Makes the server's data folder, for a server that is then to be started."""
    values = {"BACKUP": backup, "RESTORED": server.data, "ARCHIVE": archive, "TARGET": target}
    await _run(server, block("Restoring", "sh"), **{name: str(value) for name, value in values.items()})


async def _run(server: PostgresServer, commands: str, **variables: str) -> None:
    user = server.user
    process = await asyncio.create_subprocess_exec(
        "bash", "-euc", commands,
        env={"PATH": f"{server.binaries}:{os.environ['PATH']}", **variables},
        cwd=server.data.parent,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        user=user.uid if user else None,
        group=user.gid if user else None,
        extra_groups=[] if user else None,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
