"""Addresses with several hosts: the primary, and the standbys of which one is promoted when it dies.

The driver asks the hosts in turn, all within one time limit, so that a host which vanished without a word would take
all of it. Here the next one is asked beside it after a moment, and the first that takes writes is the one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

import asyncpg
from asyncpg.connect_utils import SessionAttribute

_HEAD_START_SECONDS = 0.25
"""How long a host is waited for before the next one is asked too."""

_FOR_WRITES = (SessionAttribute.read_write, SessionAttribute.primary)

_OF_THE_ADDRESS = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    ValueError,
)


class NoHostError(ConnectionError):
    """`obstacles`: what stands in the way at each host."""

    def __init__(self, obstacles: Mapping[str, BaseException]) -> None:
        said = "; ".join(f"{host}: {_said(obstacle)}" for host, obstacle in obstacles.items())
        super().__init__(f"no host takes writes ({said})")
        self.obstacles = obstacles


def _said(obstacle: BaseException) -> str:
    if isinstance(obstacle, asyncpg.TargetServerAttributeNotMatched):
        return "it takes no writes"
    return str(obstacle) or type(obstacle).__name__


def by_host(dsn: str) -> dict[str, str]:
    """`host:port` -> the address with this host alone, in the order of the address."""
    parts = urlsplit(dsn)
    credentials, at, hosts = parts.netloc.rpartition("@")
    return {
        _place(host): urlunsplit(parts._replace(netloc=f"{credentials}{at}{host}")) for host in hosts.split(",") if host
    }


def _place(host: str) -> str:
    part = urlsplit(f"//{host}")
    return f"{part.hostname}:{part.port or 5432}"


async def connect_to_host(dsn: str, *, timeout: float, **options: Any) -> Any:  # noqa: ASYNC109 - as the driver has it
    """A connection as the driver makes it with these options. Of several hosts, to the one that takes writes, unless
    the address asks for another one in `target_session_attrs`.

    Raises:
        NoHostError: none of several hosts takes writes.
        TimeoutError: nor does any say so within `timeout` seconds.
        Whatever keeps the driver from connecting to the only host, or else speaks of the address and not of a host.
    """
    attributes = parse_qs(urlsplit(dsn).query).get("target_session_attrs", [SessionAttribute.read_write])[-1]
    hosts = by_host(dsn)
    if len(hosts) < 2 or attributes not in _FOR_WRITES:
        return await asyncpg.connect(dsn, timeout=timeout, **options)
    attempts: dict[asyncio.Task[Any], str] = {}
    obstacles: dict[str, BaseException] = {}
    ahead = list(hosts.items())
    try:
        async with asyncio.timeout(timeout):
            while ahead or len(obstacles) < len(hosts):
                if ahead:
                    host, address = ahead.pop(0)
                    connecting = asyncpg.connect(
                        address, timeout=timeout, target_session_attrs=SessionAttribute(attributes), **options
                    )
                    attempts[asyncio.create_task(connecting, name=f"connect to {host}")] = host
                pending = [attempt for attempt in attempts if attempts[attempt] not in obstacles]
                done, _ = await asyncio.wait(
                    pending, timeout=_HEAD_START_SECONDS if ahead else None, return_when=asyncio.FIRST_COMPLETED
                )
                for attempt in done:
                    if (obstacle := attempt.exception()) is None:
                        del attempts[attempt]
                        return attempt.result()
                    obstacles[attempts[attempt]] = obstacle
    finally:
        _give_up(attempts)
    raise _most_telling(obstacles)


def _most_telling(obstacles: Mapping[str, BaseException]) -> BaseException:
    return next((one for one in obstacles.values() if isinstance(one, _OF_THE_ADDRESS)), NoHostError(obstacles))


def _give_up(attempts: Iterable[asyncio.Task[Any]]) -> None:
    """Without waiting: a host that says nothing does not say goodbye either."""
    for attempt in attempts:
        attempt.add_done_callback(_close)
        attempt.cancel()


def _close(attempt: asyncio.Task[Any]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().terminate()
