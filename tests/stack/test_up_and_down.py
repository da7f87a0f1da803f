"""`aindusdb up`, `status` and `down`, run as processes."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import sys
import sysconfig
import tempfile
from pathlib import Path

import httpx
import psutil
import pytest

from aindusdb.local_stack.connection import local_events_dsn
from aindusdb.local_stack.layout import DataFolder
from aindusdb.local_stack.ports import HOST
from aindusdb.local_stack.users import UnixUser, succeeds_as
from tests.servers import Databases, connected
from tests.stack.running import REPOSITORY, StackUnderTest, are_gone, eventually, is_running

SUPERVISED = {"PostgreSQL", "Redis", "Projector", "Relay", "Command service", "Query service", "Edge"}


async def test_down_and_ctrl_c_leave_no_process_and_all_data(stack: StackUnderTest) -> None:
    status = json.loads(stack.up("--json"))
    assert status["running"]
    assert status["url"] == f"http://{HOST}:{stack.port}"
    assert {process["name"] for process in status["processes"]} == SUPERVISED
    assert all(process["state"] == "running" and process["rss_bytes"] > 0 for process in status["processes"])
    assert stack.postgres_data.is_relative_to(stack.data_dir)
    async with connected(stack.dsn("aindusdb_read")) as read:
        await read.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    processes = stack.all_processes()

    stack.down()

    assert not any(map(is_running, processes))
    assert stack.run("status").returncode == 3
    assert json.loads(stack.run("down", "--json").stdout) == {"stopped": False, "data_folder": str(stack.data_dir)}
    foreground = stack.up_in_foreground()
    async with connected(stack.dsn("aindusdb_read")) as read:
        assert await read.fetchval("SELECT answer FROM kept") == 42
    processes = stack.all_processes()

    foreground.send_signal(signal.SIGINT)

    assert foreground.wait(timeout=30) == 0
    assert not any(map(is_running, processes))


def test_a_killed_process_is_started_again(running_stack: StackUnderTest) -> None:
    killed = ("PostgreSQL", "Redis", "Query service")
    for name in killed:
        os.kill(running_stack.pid(name), signal.SIGKILL)

    def are_back() -> bool:
        return all((found := running_stack.process(n)).restarts == 1 and found.state == "running" for n in killed)

    assert eventually(are_back)
    log = (running_stack.data_dir / "logs" / "supervisor.log").read_text()
    assert "Query service: was killed by SIGKILL; starting it again in 0.2 s" in log


async def test_the_event_database_can_be_read_from_outside(running_stack: StackUnderTest, tmp_path: Path) -> None:
    dsn = local_events_dsn(running_stack.data_dir)
    assert dsn is not None
    async with connected(dsn) as events:
        assert await events.fetchval("SELECT count(*) FROM events") == 0
    assert local_events_dsn(tmp_path / "nothing") is None


def test_the_edge_asks_the_right_service(running_stack: StackUnderTest) -> None:
    with httpx.Client(base_url=f"http://{HOST}:{running_stack.port}", trust_env=False) as edge:
        command, query = str(running_stack.port + 1), str(running_stack.port + 2)
        assert edge.get("/api/v1/collections/a%2Fb?x=%20").json() == {
            "path": "/api/v1/collections/a%2Fb?x=%20",
            "port": query,
        }
        assert edge.post("/api/v1/vectors/search", content="{}").json()["port"] == query
        assert edge.post("/api/v1/vectors", content="{}").json() == {
            "path": "/api/v1/vectors",
            "port": command,
            "body": "{}",
        }
        assert edge.get("/ready").status_code == 200


def test_a_second_up_on_the_same_folder_is_refused(running_stack: StackUnderTest) -> None:
    said = running_stack.refused_up()
    assert "already running" in said
    assert f"aindusdb down --data-dir {running_stack.data_dir}" in said


def test_a_taken_port_is_named_with_its_holder(running_stack: StackUnderTest, stack: StackUnderTest) -> None:
    stack.port = running_stack.port
    said = stack.refused_up()
    holder = psutil.Process(running_stack.pid("Edge"))
    assert f"Port {stack.port} (edge) is taken by {holder.name()} (process {holder.pid})" in said
    assert "aindusdb up --port" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")
def test_postgres_data_lie_outside_a_folder_that_only_root_may_enter(running_stack: StackUnderTest) -> None:
    assert running_stack.data_dir.parent.stat().st_mode & 0o777 == 0o700
    assert not running_stack.postgres_data.is_relative_to(running_stack.data_dir)
    assert running_stack.status()["running"]


def test_a_killed_supervisor_leaves_nothing_and_the_next_start_recovers(stack: StackUnderTest) -> None:
    stack.up()
    processes = stack.all_processes()

    processes[0].kill()

    assert are_gone(processes)
    assert stack.run("status").returncode == 3
    stack.up()
    assert stack.status()["running"]


async def test_servers_of_ones_own_are_used(stack: StackUnderTest, databases: Databases, redis_url: str) -> None:
    stack.environment = {
        **stack.environment,
        "AINDUSDB_EVENTS_DSN": databases.events_owner_dsn,
        "AINDUSDB_READ_DSN": databases.read_owner_dsn,
        "AINDUSDB_REDIS_URL": redis_url,
    }
    stack.up()
    names = {process["name"] for process in stack.status()["processes"]}
    assert names == SUPERVISED - {"PostgreSQL", "Redis"}
    DataFolder(stack.data_dir).check()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_an_ordinary_user_runs_everything_as_himself() -> None:
    entry = pwd.getpwnam("nobody")
    nobody = UnixUser(entry.pw_uid, entry.pw_gid)
    with tempfile.TemporaryDirectory(prefix="aindusdb-nobody-") as name:
        folder = Path(name)
        os.chown(folder, nobody.uid, nobody.gid)
        stack = StackUnderTest(folder / "data", user=nobody)
        stack.python, stack.environment = python_for(nobody, folder)
        stack.up()
        try:
            assert all(process.uids().real == nobody.uid for process in stack.all_processes())
            assert stack.postgres_data.is_relative_to(stack.data_dir)
        finally:
            stack.down()


def python_for(user: UnixUser, folder: Path) -> tuple[str, dict[str, str]]:
    """An interpreter that the user can run and that finds our code, with its environment.

    Where the user may not go (a home of root's, a private checkout), the files are linked into `folder`.
    """
    code = within_reach(user, REPOSITORY, folder / "code", "tests", "benchmarks", ".*", "docs")
    shutil.copytree(REPOSITORY / "tests", folder / "tests_only" / "tests")
    packages = within_reach(user, Path(sysconfig.get_path("purelib")), folder / "packages")
    environment = {"PYTHONPATH": f"{code}:{folder / 'tests_only'}:{packages}"}
    python = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    if not succeeds_as(user, python, "-c", ""):
        home = folder / "python"
        standard = f"python3.{sys.version_info.minor}"
        link_tree(
            Path(sys.base_prefix) / "lib" / standard, home / "lib" / standard, "site-packages", "test", "__pycache__"
        )
        for library in (Path(sys.base_prefix) / "lib").glob("libpython*.so*"):
            link_or_copy(library, home / "lib" / library.name)
        (home / "bin").mkdir()
        python = link_or_copy(python.resolve(), home / "bin" / python.name)
        environment |= {"PYTHONHOME": str(home), "LD_LIBRARY_PATH": str(home / "lib")}
    return str(python), environment


def within_reach(user: UnixUser, tree: Path, copy: Path, *ignored: str) -> Path:
    if not succeeds_as(user, "/bin/ls", tree):
        link_tree(tree, copy, *ignored)
        return copy
    return tree


def link_tree(source: Path, target: Path, *ignored: str) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*ignored), copy_function=link_or_copy)


def link_or_copy(source: str | Path, target: str | Path) -> Path:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return Path(target)
