"""Where a Kafka broker is had from: KAFKA_HOME, libraries that Maven fetches once, or an image that Docker runs.

A process of our own comes before a container: it starts sooner, and it can be watched and ended like all the others.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from aindusdb.local_stack.errors import FolderUnusableError, KafkaNotAvailableError
from aindusdb.local_stack.ports import HOST

KAFKA_VERSION = "4.1.0"
IMAGE = f"apache/kafka:{KAFKA_VERSION}"
_LOG4J_VERSION = "2.24.3"
_JAVA_MAJOR = 17
_FETCH_TIMEOUT_SECONDS = 600
_QUESTION_TIMEOUT_SECONDS = 10

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


class KafkaInstallation(Protocol):
    """Kafka's classes, and a Java that runs them on a folder and a port of this machine."""

    @property
    def origin(self) -> str:
        """Where it is from, for people."""

    @property
    def classpath(self) -> str: ...

    @property
    def listens_on(self) -> str:
        """The address to bind, so that the broker is reached at HOST."""

    def java(self, folder: Path, port: int) -> tuple[str, ...]:
        """The command to which Java's arguments are added."""

    def clear_leftovers(self, port: int) -> None:
        """Ends what a killed stack left running there, if ending its process did not."""


@dataclass(frozen=True, slots=True)
class NativeKafka:
    executable: Path
    classpath: str
    origin: str
    listens_on: str = HOST

    def java(self, folder: Path, port: int) -> tuple[str, ...]:
        del folder, port
        return (str(self.executable),)

    def clear_leftovers(self, port: int) -> None:
        """Nothing is left of a process that has ended."""


@dataclass(frozen=True, slots=True)
class ContainerKafka:
    docker: str
    origin: str = f"the image {IMAGE}, run by Docker"
    classpath: str = "/opt/kafka/libs/*"
    listens_on: str = "0.0.0.0"  # noqa: S104 - inside the container; outside it is published on HOST alone

    def java(self, folder: Path, port: int) -> tuple[str, ...]:
        # As ourselves, and at the same path: what it writes is ours to read and to remove.
        return (
            *(self.docker, "run", "--rm", "--name", self._name(port), "--user", f"{os.getuid()}:{os.getgid()}"),
            *("--volume", f"{folder}:{folder}", "--publish", f"{HOST}:{port}:{port}", "--entrypoint", "java", IMAGE),
        )

    def clear_leftovers(self, port: int) -> None:
        _ask([self.docker, "rm", "--force", self._name(port)], os.environ)

    @staticmethod
    def _name(port: int) -> str:
        return f"aindusdb-kafka-{port}"


def find_installation(environment: Mapping[str, str]) -> KafkaInstallation | None:
    """What is there already; None if it has to be fetched.

    Raises:
        KafkaNotAvailableError: KAFKA_HOME is set, but there is no Kafka in it, or no Java to run it.
    """
    if home := environment.get("KAFKA_HOME"):
        libraries = Path(home) / "libs"
        if not any(libraries.glob("kafka_*.jar")):
            raise KafkaNotAvailableError([f"KAFKA_HOME is {home}, but {libraries} holds no Kafka"])
        return NativeKafka(_find_java(environment), f"{libraries}/*", f"KAFKA_HOME ({home})")
    java, cached = _java_or_none(environment), _cache_folder(environment)
    if java and any(cached.glob("kafka_*.jar")):
        return NativeKafka(java, f"{cached}/*", f"{cached} (version {KAFKA_VERSION})")
    if java and _find("mvn", environment):
        return None
    docker = _find("docker", environment)
    return ContainerKafka(docker) if docker and _ask([docker, "image", "inspect", IMAGE], environment) else None


def fetch_installation(environment: Mapping[str, str]) -> KafkaInstallation:
    """Fetches what is not there yet, once for all stacks of this user: the libraries, or else the image.

    Raises:
        KafkaNotAvailableError: neither can be had; it says why of each.
    """
    ways: Sequence[Callable[[Mapping[str, str]], KafkaInstallation]] = (_fetch_libraries, _fetch_image)
    reasons: list[str] = []
    for fetch in ways:
        try:
            return fetch(environment)
        except KafkaNotAvailableError as error:
            reasons += error.reasons
    raise KafkaNotAvailableError(["KAFKA_HOME is not set", *reasons])


def _fetch_libraries(environment: Mapping[str, str]) -> KafkaInstallation:
    java, cached = _find_java(environment), _cache_folder(environment)
    maven = _find("mvn", environment)
    if maven is None:
        raise KafkaNotAvailableError(["Maven is not installed"])
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cached.parent, prefix=".fetching-") as folder:
            pom, libraries = Path(folder, "pom.xml"), Path(folder, "libs")
            pom.write_text(_POM)
            command = [maven, "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", "-DincludeScope=runtime"]
            _fetch("Maven", [*command, f"-DoutputDirectory={libraries}"], environment)
            shutil.rmtree(cached, ignore_errors=True)
            libraries.rename(cached)
    except OSError as error:
        raise FolderUnusableError(cached.parent, error.strerror or str(error)) from error
    return NativeKafka(java, f"{cached}/*", f"{cached} (version {KAFKA_VERSION}, fetched with Maven)")


def _fetch_image(environment: Mapping[str, str]) -> KafkaInstallation:
    docker = _find("docker", environment)
    if docker is None:
        raise KafkaNotAvailableError(["Docker is not installed"])
    # The client may be there without an engine.
    if not _ask([docker, "version", "--format", "{{.Server.Version}}"], environment):
        raise KafkaNotAvailableError(["no Docker engine answers"])
    if not _ask([docker, "image", "inspect", IMAGE], environment):
        _fetch("Docker", [docker, "pull", "--quiet", IMAGE], environment)
    return ContainerKafka(docker)


def _find(program: str, environment: Mapping[str, str]) -> str | None:
    return shutil.which(program, path=environment.get("PATH"))


def _cache_folder(environment: Mapping[str, str]) -> Path:
    base = environment.get("XDG_CACHE_HOME") or str(Path(environment.get("HOME") or Path.home()) / ".cache")
    return Path(base) / "aindusdb" / f"kafka-{KAFKA_VERSION}"


def _ask(command: list[str], environment: Mapping[str, str]) -> bool:
    """Whether it answers, and with yes."""
    try:
        done = subprocess.run(
            command, capture_output=True, check=False, env=dict(environment), timeout=_QUESTION_TIMEOUT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _fetch(what: str, command: list[str], environment: Mapping[str, str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=dict(environment), timeout=_FETCH_TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise KafkaNotAvailableError([f"{what} did not end within {_FETCH_TIMEOUT_SECONDS} s"]) from error
    if done.returncode != 0:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise KafkaNotAvailableError([f"{what} could not fetch it: {lines[0] if lines else 'it does not say why'}"])


def _java_or_none(environment: Mapping[str, str]) -> Path | None:
    try:
        return _find_java(environment)
    except KafkaNotAvailableError:
        return None


def _find_java(environment: Mapping[str, str]) -> Path:
    home = environment.get("JAVA_HOME")
    found = str(Path(home) / "bin" / "java") if home else _find("java", environment)
    if found is None or not Path(found).exists():
        raise KafkaNotAvailableError(["there is no Java" + (f" in JAVA_HOME ({home})" if home else "")])
    asked = subprocess.run([found, "-version"], capture_output=True, text=True, check=False)
    version = re.search(r'version "(\d+)', asked.stderr + asked.stdout)
    if version is None or int(version[1]) < _JAVA_MAJOR:
        raise KafkaNotAvailableError([f"{found} is Java {version[1] if version else 'of an unknown version'}"])
    return Path(found)
