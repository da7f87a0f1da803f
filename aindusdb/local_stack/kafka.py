"""A real Kafka broker without Docker: found in KAFKA_HOME, or fetched once with Maven; one process, KRaft mode."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from aindusdb.local_stack.errors import FolderUnusableError, InitialisationFailedError, KafkaNotAvailableError
from aindusdb.local_stack.ports import HOST
from aindusdb.local_stack.processes import NotReadyError, ProcessSpec

KAFKA_VERSION = "4.1.0"
_LOG4J_VERSION = "2.24.3"
_JAVA_MAJOR = 17
_FETCH_TIMEOUT_SECONDS = 600
_TOOL_TIMEOUT_SECONDS = 60

_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>aindusdb</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId>
      <version>{_LOG4J_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-core</artifactId><version>{_LOG4J_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""

_LOGGING = """rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %m (%c)%n
"""

_JVM = ("-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""Small: a broker for one machine, which shares it with everything else."""


@dataclass(frozen=True, slots=True)
class KafkaInstallation:
    java: Path
    classpath: str
    origin: str
    """Where it is from, for people."""


def find_installation(environment: Mapping[str, str]) -> KafkaInstallation | None:
    """What is there already; None if it has to be fetched.

    Raises:
        KafkaNotAvailableError: Java is missing or too old, or KAFKA_HOME is no Kafka.
    """
    java = _find_java(environment)
    if home := environment.get("KAFKA_HOME"):
        libraries = Path(home) / "libs"
        if not any(libraries.glob("kafka_*.jar")):
            raise KafkaNotAvailableError(f"KAFKA_HOME is {home}, but {libraries} holds no Kafka")
        return KafkaInstallation(java, f"{libraries}/*", f"KAFKA_HOME ({home})")
    cached = _cache_folder(environment)
    if any(cached.glob("kafka_*.jar")):
        return KafkaInstallation(java, f"{cached}/*", f"{cached} (version {KAFKA_VERSION})")
    return None


def fetch_installation(environment: Mapping[str, str]) -> KafkaInstallation:
    """Fetches the broker's libraries with Maven, once for all stacks of this user.

    Raises:
        KafkaNotAvailableError: Maven is missing or cannot fetch them.
    """
    maven = shutil.which("mvn", path=environment.get("PATH"))
    if maven is None:
        raise KafkaNotAvailableError("Maven is not installed, and KAFKA_HOME is not set")
    java, cached = _find_java(environment), _cache_folder(environment)
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cached.parent, prefix=".fetching-") as folder:
            pom, libraries = Path(folder, "pom.xml"), Path(folder, "libs")
            pom.write_text(_POM)
            command = [maven, "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", "-DincludeScope=runtime"]
            _run_tool([*command, f"-DoutputDirectory={libraries}"], environment, _FETCH_TIMEOUT_SECONDS)
            shutil.rmtree(cached, ignore_errors=True)
            libraries.rename(cached)
    except OSError as error:
        raise FolderUnusableError(cached.parent, error.strerror or str(error)) from error
    return KafkaInstallation(java, f"{cached}/*", f"{cached} (version {KAFKA_VERSION}, fetched with Maven)")


def _cache_folder(environment: Mapping[str, str]) -> Path:
    base = environment.get("XDG_CACHE_HOME") or str(Path(environment.get("HOME") or Path.home()) / ".cache")
    return Path(base) / "aindusdb" / f"kafka-{KAFKA_VERSION}"


def _run_tool(command: list[str], environment: Mapping[str, str], timeout_seconds: int) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=dict(environment), timeout=timeout_seconds
        )
    except subprocess.TimeoutExpired as error:
        raise KafkaNotAvailableError(f"Maven did not end within {timeout_seconds} s") from error
    if done.returncode != 0:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise KafkaNotAvailableError("Maven could not fetch it: " + (lines[0] if lines else "it does not say why"))


def _find_java(environment: Mapping[str, str]) -> Path:
    home = environment.get("JAVA_HOME")
    found = str(Path(home) / "bin" / "java") if home else shutil.which("java", path=environment.get("PATH"))
    if found is None or not Path(found).exists():
        raise KafkaNotAvailableError("there is no Java" + (f" in JAVA_HOME ({home})" if home else ""))
    asked = subprocess.run([found, "-version"], capture_output=True, text=True, check=False)
    version = re.search(r'version "(\d+)', asked.stderr + asked.stdout)
    if version is None or int(version[1]) < _JAVA_MAJOR:
        raise KafkaNotAvailableError(f"{found} is Java {version[1] if version else 'of an unknown version'}")
    return Path(found)


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

    def configure(self) -> None:
        """Writes the configuration and, the first time, formats the data folder."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.folder / "log4j2.properties").write_text(_LOGGING)
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{HOST}:{self.controller_port}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listeners": f"PLAINTEXT://{HOST}:{self.port},CONTROLLER://{HOST}:{self.controller_port}",
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
        return (str(self.installation.java), *_JVM, logging, "-cp", self.installation.classpath, main, *arguments)

    def spec(self) -> ProcessSpec:
        return ProcessSpec(
            name="Kafka",
            argv=self._java("kafka.Kafka", str(self._configuration)),
            port=self.port,
            probe=self._probe,
            environment={"PATH": os.environ.get("PATH", os.defpath)},
            answers_ready=False,
            before_start=self.configure,
            stop_timeout_seconds=20.0,
            working_folder=self.folder.parent,
        )

    async def _probe(self) -> None:
        try:
            async with asyncio.timeout(5):
                # Before it listens, the client would log every attempt.
                _reader, writer = await asyncio.open_connection(HOST, self.port)
                writer.close()
                admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap, request_timeout_ms=3000)
                try:
                    await admin.start()
                    brokers = (await admin.describe_cluster())["brokers"]
                finally:
                    await admin.close()
        except (OSError, KafkaError, TimeoutError) as error:
            raise NotReadyError(str(error) or type(error).__name__) from error
        if not brokers:
            raise NotReadyError("it has no broker yet")
