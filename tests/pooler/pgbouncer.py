"""The real PgBouncer that tests run on: the one on PATH, else Debian's, fetched once and unpacked into a cache folder.

Fetching installs nothing and needs no root. What runs is never root: PgBouncer refuses that, as PostgreSQL does.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from aindusdb.local_stack.ports import HOST
from aindusdb.local_stack.postgres import BINARY_CACHE
from aindusdb.local_stack.processes import NotReadyError, ProcessSpec
from aindusdb.local_stack.users import UnixUser, succeeds_as

# Debian keeps it where the PATH of an ordinary user does not lead.
_SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin")
_APT_TIMEOUT_SECONDS = 90


class PgBouncerNotAvailableError(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(
            f"PgBouncer is not installed and could not be fetched ({reason}). Install it, on Debian and Ubuntu with "
            "`apt install pgbouncer`, so that `pgbouncer` is on PATH: these tests need the real one."
        )


@dataclass(frozen=True, slots=True)
class PgBouncerBinary:
    path: Path
    environment: Mapping[str, str]


def obtain_pgbouncer(user: UnixUser | None) -> PgBouncerBinary:
    """One that `user` (None: ourselves) can run.

    Raises:
        PgBouncerNotAvailableError: there is none, and none can be fetched.
    """
    searched = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SYSTEM_FOLDERS))
    if installed := shutil.which("pgbouncer", path=searched):
        return PgBouncerBinary(Path(installed), {})
    cached = _cache_folder(user)
    if not _runs(_unpacked(cached), user):
        _fetch_into(cached)
    if not _runs(_unpacked(cached), user):
        raise PgBouncerNotAvailableError(f"the one in {cached} does not run here")
    return _unpacked(cached)


def _cache_folder(user: UnixUser | None) -> Path:
    if user is not None:
        return BINARY_CACHE / "pgbouncer"
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "aindusdb" / "pgbouncer"


def _unpacked(folder: Path) -> PgBouncerBinary:
    libraries = os.pathsep.join(sorted({str(library.parent) for library in folder.rglob("*.so.*")}))
    return PgBouncerBinary(folder / "usr" / "sbin" / "pgbouncer", {"LD_LIBRARY_PATH": libraries} if libraries else {})


def _runs(binary: PgBouncerBinary, user: UnixUser | None) -> bool:
    if not binary.path.exists():
        return False
    settings = [f"{name}={value}" for name, value in binary.environment.items()]
    command = ["/usr/bin/env", *settings, str(binary.path), "--version"]
    if user is not None:
        return succeeds_as(user, *command)
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _fetch_into(cached: Path) -> None:
    if shutil.which("apt-get") is None:
        raise PgBouncerNotAvailableError("there is no apt-get to fetch it with")
    cached.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cached.parent, prefix=".fetching-") as folder:
        unpacked = Path(folder, "unpacked")
        unpacked.mkdir(mode=0o755)
        for package in _packages(Path(folder)):
            subprocess.run(["dpkg-deb", "-x", package, unpacked], check=True)
        shutil.rmtree(cached, ignore_errors=True)
        unpacked.rename(cached)


def _packages(folder: Path) -> set[Path]:
    """Debian's package, and those of the libraries it needs that are not installed here."""
    options: list[str] = []
    wanted = {"pgbouncer"}
    asked: set[str] = set()
    unpacked: set[Path] = set()
    while wanted:
        try:
            _apt(folder, *options, "download", *sorted(wanted))
        except PgBouncerNotAvailableError:
            if options:
                raise
            # The machine's own lists may be empty or out of date, and are not ours to change.
            options = [f"-oDir::State={folder}", f"-oDir::State::lists={folder}/lists", f"-oDir::Cache={folder}"]
            (folder / "lists" / "partial").mkdir(parents=True)
            _apt(folder, *options, "update")
            continue
        asked |= wanted
        arrived = set(folder.glob("*.deb")) - unpacked
        unpacked |= arrived
        wanted = {name for package in arrived for name in _missing_libraries(package)} - asked
    return unpacked


def _apt(folder: Path, *arguments: str) -> None:
    try:
        done = subprocess.run(
            ["apt-get", "-q", *arguments],
            cwd=folder,
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            timeout=_APT_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PgBouncerNotAvailableError(f"apt-get did not end within {_APT_TIMEOUT_SECONDS} s") from error
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith("E:")]
        raise PgBouncerNotAvailableError(said[0] if said else f"apt-get ended with {done.returncode}")


def _missing_libraries(package: Path) -> Iterable[str]:
    asked = subprocess.run(["dpkg-deb", "-f", package, "Depends"], capture_output=True, text=True, check=True)
    for name in re.findall(r"(?:^|,)\s*(lib[^\s,:|(]*)", asked.stdout):
        status = subprocess.run(
            ["dpkg-query", "-W", "-f=${db:Status-Status}", name], capture_output=True, text=True, check=False
        )
        if status.stdout != "installed":
            yield name


@dataclass(frozen=True, slots=True)
class PgBouncer:
    """In transaction mode, with few connections to the server, and no startup parameter ignored."""

    binary: PgBouncerBinary
    folder: Path
    port: int
    pool_size: int
    passwords: Mapping[str, str]
    user: UnixUser | None
    servers: dict[str, str] = field(default_factory=dict)
    """Name of a database -> the address of the one that it stands for."""

    def through(self, dsn: str) -> str:
        """The address that leads to the same database through this pooler."""
        parts = urlsplit(dsn)
        self.servers.setdefault(parts.path.removeprefix("/"), dsn)
        return urlunsplit(parts._replace(netloc=f"{parts.username}:{parts.password}@{HOST}:{self.port}"))

    def configure(self) -> None:
        users = "".join(f'"{role}" "{password}"\n' for role, password in self.passwords.items())
        databases = "".join(f"{name} = {_server(dsn)}\n" for name, dsn in self.servers.items())
        settings = {
            "listen_addr": HOST,
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": str(self.folder / "users.txt"),
            "pool_mode": "transaction",
            "default_pool_size": str(self.pool_size),
            "max_client_conn": "500",
            "server_login_retry": "0.2",
        }
        configured = "".join(f"{name} = {value}\n" for name, value in settings.items())
        for name, text in (
            ("users.txt", users),
            ("pgbouncer.ini", f"[databases]\n{databases}\n[pgbouncer]\n{configured}"),
        ):
            (self.folder / name).write_text(text)
            (self.folder / name).chmod(0o644)

    def spec(self) -> ProcessSpec:
        return ProcessSpec(
            name="PgBouncer",
            argv=(str(self.binary.path), str(self.folder / "pgbouncer.ini")),
            port=self.port,
            probe=self._probe,
            environment={"PATH": os.environ.get("PATH", os.defpath), **self.binary.environment},
            answers_ready=False,
            before_start=self.configure,
            # It keeps nothing. Its other signals mean different things in different versions.
            stop_signal=signal.SIGKILL,
            user=self.user,
            working_folder=self.folder,
        )

    async def _probe(self) -> None:
        role = next(iter(self.passwords))
        try:
            for name in self.servers:
                dsn = f"postgresql://{role}:{self.passwords[role]}@{HOST}:{self.port}/{name}"
                connection = await asyncpg.connect(dsn, statement_cache_size=0, timeout=5)
                await connection.close()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
            raise NotReadyError(str(error)) from error


def _server(dsn: str) -> str:
    parts = urlsplit(dsn)
    return f"host={parts.hostname} port={parts.port or 5432} dbname={parts.path.removeprefix('/')}"
