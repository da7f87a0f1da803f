"""A real Kafka broker for one machine: its configuration, its data, its process, in KRaft mode."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from aiokafka.errors import KafkaError

from aindusdb.local_stack.errors import InitialisationFailedError
from aindusdb.local_stack.kafka_installations import KafkaInstallation
from aindusdb.local_stack.ports import HOST
from aindusdb.local_stack.processes import NotReadyError, ProcessSpec
from shared.kafka.clients import opened_admin
from shared.kafka.settings import KafkaSettings

_TOOL_TIMEOUT_SECONDS = 60
_ANSWER_TIMEOUT_SECONDS = 5

_LOGGING = """rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %m (%c)%n
"""

_JVM = ("-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""Small: a broker for one machine, which shares it with everything else."""


async def answers(settings: KafkaSettings) -> bool:
    """Whether there is a broker at this address."""
    try:
        async with asyncio.timeout(_ANSWER_TIMEOUT_SECONDS), opened_admin(settings) as admin:
            return bool((await admin.describe_cluster())["brokers"])
    except (OSError, KafkaError, TimeoutError):
        return False


@dataclass(frozen=True, slots=True)
class KafkaServer:
    installation: KafkaInstallation
    folder: Path
    port: int
    controller_port: int
    settings: Mapping[str, str] = field(default_factory=dict)
    """Beside those that a broker for one machine needs, and before them."""

    @property
    def bootstrap(self) -> str:
        return f"{HOST}:{self.port}"

    def prepare(self) -> None:
        """Writes the configuration and, the first time, formats the data folder."""
        self.installation.clear_leftovers(self.port)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.folder / "log4j2.properties").write_text(_LOGGING)
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{HOST}:{self.controller_port}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listeners": f"PLAINTEXT://{self.installation.listens_on}:{self.port},CONTROLLER://{HOST}:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{self.port}",
            "log.dirs": str(self._data),
            "auto.create.topics.enable": "false",
            "default.replication.factor": "1",
            "min.insync.replicas": "1",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "log.cleaner.dedupe.buffer.size": "4194304",
            **self.settings,
        }
        self._configuration.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        if not (self._data / "meta.properties").exists():
            self._format()

    def _format(self) -> None:
        cluster_id = "-"
        while cluster_id.startswith("-"):
            cluster_id = base64.urlsafe_b64encode(uuid4().bytes).decode().rstrip("=")
        arguments = ("format", "-t", cluster_id, "-c", str(self._configuration), "-g")
        done = subprocess.run(
            self._java("kafka.tools.StorageTool", *arguments),
            capture_output=True,
            text=True,
            check=False,
            timeout=_TOOL_TIMEOUT_SECONDS,
        )
        if done.returncode != 0:
            raise InitialisationFailedError(self._data, (done.stderr or done.stdout).strip())

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _configuration(self) -> Path:
        return self.folder / "server.properties"

    def _java(self, main: str, *arguments: str) -> tuple[str, ...]:
        logging = f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}"
        java = self.installation.java(self.folder, self.port)
        return (*java, *_JVM, logging, "-cp", self.installation.classpath, main, *arguments)

    def spec(self) -> ProcessSpec:
        return ProcessSpec(
            name="Kafka",
            argv=self._java("kafka.Kafka", str(self._configuration)),
            port=self.port,
            probe=self._probe,
            environment={"PATH": os.defpath, **_environment()},
            answers_ready=False,
            before_start=self.prepare,
            stop_timeout_seconds=20.0,
            orphan_signal=signal.SIGTERM,
            working_folder=self.folder.parent,
        )

    async def _probe(self) -> None:
        try:
            # Before it listens, the client would log every attempt.
            _reader, writer = await asyncio.open_connection(HOST, self.port)
        except OSError as error:
            raise NotReadyError(str(error)) from error
        writer.close()
        if not await answers(KafkaSettings(kafka_bootstrap=self.bootstrap)):
            raise NotReadyError("it listens, but does not answer yet")


def _environment() -> dict[str, str]:
    """What finds Java, or Docker and its engine; none of what changes how a JVM behaves."""
    return {name: value for name, value in os.environ.items() if name in ("PATH", "HOME") or name.startswith("DOCKER_")}
