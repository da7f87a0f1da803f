"""Which port serves what, and who sits on one that is taken."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from dataclasses import dataclass

import psutil

from aindusdb.local_stack.errors import PortTakenError

HOST = "127.0.0.1"
HIGHEST_BASE_PORT = 65535 - 31


@dataclass(frozen=True, slots=True)
class Ports:
    """All follow from the edge's port, `base`."""

    base: int

    @property
    def edge(self) -> int:
        return self.base

    @property
    def command_service(self) -> int:
        return self.base + 1

    @property
    def query_service(self) -> int:
        return self.base + 2

    @property
    def relay(self) -> int:
        return self.base + 3

    @property
    def projector(self) -> int:
        return self.base + 4

    @property
    def postgres(self) -> int:
        return self.base + 10

    @property
    def redis(self) -> int:
        return self.base + 20

    @property
    def kafka(self) -> int:
        return self.base + 30

    @property
    def kafka_controller(self) -> int:
        return self.base + 31

    def replica(self, number: int) -> int:
        """Of the read replica with this number, from 1."""
        return self.base + 10 + number


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the servers themselves bind: connections of the last run in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except PermissionError:
            return False
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
        return True


def free_port() -> int:
    """A port that is free now; another process may take it before it is used."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def check_free(wanted: dict[str, int], base: int) -> None:
    """Raises:
    PortTakenError: for the first of the `wanted` ports (by purpose) that somebody holds.
    """
    offsets = [port - base for port in wanted.values()]
    for purpose, port in wanted.items():
        if not is_free(port):
            raise PortTakenError(port, purpose, holder(port), _free_base_port(base, offsets))


def _free_base_port(base: int, offsets: list[int]) -> int | None:
    candidates = range(base + 100, min(base + 5000, HIGHEST_BASE_PORT), 100)
    return next((port for port in candidates if all(is_free(port + offset) for offset in offsets)), None)


def holder(port: int) -> str | None:
    """The process that listens there, as "name (process 123)", if this user may see it."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return None
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
            if connection.pid is None:
                return None
            with suppress(psutil.Error):
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    return None
