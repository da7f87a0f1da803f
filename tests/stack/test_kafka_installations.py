"""Where a broker is had from, and what is said when it cannot be had."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from aindusdb.local_stack.errors import KafkaNotAvailableError
from aindusdb.local_stack.kafka import KafkaServer
from aindusdb.local_stack.kafka_installations import (
    IMAGE,
    ContainerKafka,
    NativeKafka,
    fetch_installation,
    find_installation,
)
from aindusdb.local_stack.ports import free_port
from tests.servers import prepared_kafka, running

# Runs on this machine what it is told to run in a container, as far as that concerns what runs: it holds the
# command against what a container would see of the machine.
_ENGINE = """#!{python}
import os, subprocess, sys
arguments = sys.argv[1:]
if arguments[0] == "version":
    sys.exit({engine_answers} == 0)
if arguments[:2] == ["image", "inspect"]:
    sys.exit(not os.path.exists({pulled!r}))
if arguments[:2] == ["pull", "--quiet"]:
    open({pulled!r}, "w").close()
    sys.exit()
if arguments[0] == "rm":
    sys.exit(1)
assert arguments[0] == "run"
image = arguments.index({image!r})
options, command = arguments[1:image], arguments[image + 1:]
assert options[options.index("--entrypoint") + 1] == "java"
inside, outside = options[options.index("--volume") + 1].split(":")
assert inside == outside and os.path.isdir(inside)
os.execv({java!r}, ["java"] + [word.replace("/opt/kafka/libs/*", {classpath!r}) for word in command])
"""


def engine(folder: Path, native: NativeKafka, *, answers: bool = True) -> dict[str, str]:
    """An environment with nothing but a Docker client."""
    client = folder / "bin" / "docker"
    client.parent.mkdir()
    client.write_text(
        _ENGINE.format(
            python=sys.executable,
            engine_answers=int(answers),
            pulled=str(folder / "pulled"),
            image=IMAGE,
            java=str(native.executable),
            classpath=native.classpath,
        )
    )
    client.chmod(0o755)
    return {"PATH": str(client.parent), "HOME": str(folder)}


@pytest.fixture
async def native(kafka_installed: None) -> NativeKafka:
    del kafka_installed
    async with prepared_kafka() as server:
        assert isinstance(server.installation, NativeKafka)
        return server.installation


async def test_a_broker_runs_in_a_container_where_there_is_only_docker(tmp_path: Path, native: NativeKafka) -> None:
    environment = engine(tmp_path, native)
    assert find_installation(environment) is None
    fetched = fetch_installation(environment)
    assert fetched == find_installation(environment), "it is fetched once"
    assert isinstance(fetched, ContainerKafka)
    server = KafkaServer(fetched, tmp_path / "kafka", free_port(), free_port())
    async with running(server.spec(), tmp_path) as process:
        assert process.record().state == "running"


def test_kafka_home_comes_first(tmp_path: Path, native: NativeKafka) -> None:
    (tmp_path / "libs").mkdir()
    for library in Path(native.classpath).parent.glob("kafka_*.jar"):
        shutil.copy(library, tmp_path / "libs")
    found = find_installation({**os.environ, "KAFKA_HOME": str(tmp_path)})
    assert found is not None
    assert (found.origin, found.classpath) == (f"KAFKA_HOME ({tmp_path})", f"{tmp_path}/libs/*")


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({"PATH": "/nowhere"}, ["KAFKA_HOME is not set", "there is no Java", "Docker is not installed"]),
        ({"PATH": os.environ["PATH"], "JAVA_HOME": "/nowhere"}, ["there is no Java in JAVA_HOME (/nowhere)"]),
        ({"PATH": os.environ["PATH"], "KAFKA_HOME": "/nowhere"}, ["KAFKA_HOME is /nowhere", "holds no Kafka"]),
    ],
)
def test_what_is_missing_is_named_with_what_to_install(
    environment: Mapping[str, str], why: list[str], tmp_path: Path
) -> None:
    environment = {**environment, "HOME": str(tmp_path), "DOCKER_HOST": "unix:///nowhere"}
    with pytest.raises(KafkaNotAvailableError) as refused:
        find_installation(environment) or fetch_installation(environment)
    assert all(words in str(refused.value) for words in why)
    assert "Install Java 17 or newer and Maven, or start a Docker engine" in str(refused.value)


def test_a_docker_client_without_an_engine_is_no_docker(tmp_path: Path, native: NativeKafka) -> None:
    with pytest.raises(KafkaNotAvailableError, match="no Docker engine answers"):
        fetch_installation(engine(tmp_path, native, answers=False))


def test_a_missing_maven_is_named(tmp_path: Path, native: NativeKafka) -> None:
    (tmp_path / "java").symlink_to(native.executable)
    with pytest.raises(KafkaNotAvailableError, match="Maven is not installed"):
        fetch_installation({"PATH": str(tmp_path), "HOME": str(tmp_path)})
