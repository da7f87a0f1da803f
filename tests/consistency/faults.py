"""What goes wrong while clients work. Every fault mends itself in the end."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

from redis.asyncio import Redis

from aindusdb.local_stack.processes import SupervisedProcess
from shared.postgres import CONNECTION_LOST
from tests.consistency.servers import Servers
from tests.killing import frozen, kill, pid_of, restarted
from tests.replicas import RunningServer
from tests.servers import connected

_DELAYS_MS = (0, 0, 20, 100, 400)
"""By how much a replica replays late: `recovery_min_apply_delay`."""


class Faults:
    """`counts` says how often each of them happened."""

    def __init__(
        self, servers: Servers, chosen: random.Random, pause_seconds: tuple[float, float], counts: Counter[str]
    ) -> None:
        self.counts = counts
        self._servers = servers
        self._random = chosen
        self._pause_seconds = pause_seconds
        self._kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "redis_restarted_empty": self._redis_restarted_empty,
            "redis_restarted_from_an_old_dump": self._redis_restarted_from_an_old_dump,
            "redis_frozen": self._redis_frozen,
            "projector_killed": lambda: self._killed(self._random.choice(servers.projectors)),
            "replica_killed": lambda: self._killed(self._random.choice(servers.postgres.replicas).process),
            "replica_frozen": self._replica_frozen,
            "query_service_killed": lambda: self._killed(self._random.choice(servers.queries)),
            "command_service_killed": lambda: self._killed(servers.command),
            "primary_killed": lambda: self._killed(servers.postgres.primary.process),
        }
        if servers.brokers:
            self._kinds["relay_killed"] = lambda: self._killed(self._random.choice(servers.relays))
            self._kinds["kafka_killed"] = lambda: self._killed(self._random.choice(servers.brokers))

    async def run(self) -> None:
        """Until it is cancelled: replicas lag all the time, and beside that one fault comes after the other."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._one_after_the_other())
            for replica in self._servers.postgres.replicas:
                group.create_task(self._lag(replica))

    async def mend(self) -> None:
        """Nothing is held back any more, and everything runs."""
        for replica in self._servers.postgres.replicas:
            await self._until_done(replica, self._replay_promptly)
        for process in self._servers.all():
            await restarted(process.record, killed_pid=0)

    async def _one_after_the_other(self) -> None:
        while True:
            for kind in self._random.sample(sorted(self._kinds), len(self._kinds)):
                await asyncio.sleep(self._random.uniform(*self._pause_seconds))
                await self._kinds[kind]()
                self.counts[kind] += 1

    async def _lag(self, replica: RunningServer) -> None:
        while True:
            await asyncio.sleep(self._random.uniform(0.2, 1.5))
            # A replica that was killed is not back yet.
            with suppress(*CONNECTION_LOST):
                if self._random.random() < 0.3:
                    await replica.pause_replay()
                    self.counts["replay_paused"] += 1
                    await asyncio.sleep(self._random.uniform(0.2, 2.5))
                    await replica.resume_replay()
                else:
                    await _delay_replay(replica, self._random.choice(_DELAYS_MS))
                    self.counts["replay_delayed"] += 1

    async def _replay_promptly(self, replica: RunningServer) -> None:
        await _delay_replay(replica, 0)
        await replica.resume_replay()

    @staticmethod
    async def _until_done(replica: RunningServer, action: Callable[[RunningServer], Awaitable[None]]) -> None:
        async with asyncio.timeout(60):
            while True:
                with suppress(*CONNECTION_LOST):
                    await action(replica)
                    return
                await asyncio.sleep(0.1)

    async def _killed(self, process: SupervisedProcess) -> None:
        await restarted(process.record, kill(process.record))

    async def _redis_restarted_empty(self) -> None:
        self._servers.redis_dump.unlink(missing_ok=True)
        await self._killed(self._servers.redis_process)

    async def _redis_restarted_from_an_old_dump(self) -> None:
        async with Redis.from_url(self._servers.redis.url) as redis:
            await redis.save()
        await asyncio.sleep(self._random.uniform(0.3, 3))
        await self._killed(self._servers.redis_process)
        self._servers.redis_dump.unlink()

    async def _redis_frozen(self) -> None:
        pid = pid_of(self._servers.redis_process.record)
        with frozen(lambda number: os.kill(pid, number)):
            await asyncio.sleep(self._random.uniform(0.2, 2))

    async def _replica_frozen(self) -> None:
        replica = self._random.choice(self._servers.postgres.replicas)
        with frozen(replica.signal):
            await asyncio.sleep(self._random.uniform(0.2, 3))


async def _delay_replay(replica: RunningServer, milliseconds: int) -> None:
    async with connected(replica.admin_dsn) as admin:
        await admin.execute(f"ALTER SYSTEM SET recovery_min_apply_delay = '{milliseconds}ms'")
        await admin.execute("SELECT pg_reload_conf()")
