"""`up --kafka --replicas`: the same promises, with a broker and a replica in between."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from aindusdb.local_stack.errors import KafkaNotAvailableError
from aindusdb.local_stack.kafka import fetch_installation, find_installation
from aindusdb.local_stack.ports import HOST
from tests.stack.running import StackUnderTest
from tests.stack.test_real_services import found


@pytest.fixture
def product() -> Iterator[StackUnderTest]:
    with tempfile.TemporaryDirectory(prefix="aindusdb-stack-") as folder:
        under_test = StackUnderTest(Path(folder) / "data", module="aindusdb")
        yield under_test
        under_test.remove()


def relay_status(product: StackUnderTest) -> dict[str, object]:
    status: dict[str, object] = json.loads(product.run("relay", "status", "--json").stdout)
    return status


def test_writes_go_through_kafka_to_a_replica_and_back_to_the_log(product: StackUnderTest) -> None:
    said = product.up("--kafka", "--replicas", "1")
    assert "Starting Kafka from" in said
    with httpx.Client(base_url=f"http://{HOST}:{product.port}", trust_env=False, timeout=30) as edge:
        assert edge.post("/api/v1/collections", json={"name": "stars", "dimension": 3}).status_code == 201
        written = edge.put("/api/v1/collections/stars/vectors/vega", json={"embedding": [1, 0, 0]})
        token = written.json()["consistency_token"]
        assert found(edge, token) == ["vega"]
        names = {process["name"] for process in product.status()["processes"]}
        assert {"Kafka", "Replica 1"} <= names
        deadline = time.monotonic() + 20
        while relay_status(product)["position"] != 2:
            assert time.monotonic() < deadline
            time.sleep(0.2)

        psutil.Process(product.pid("Replica 1")).kill()
        assert found(edge, token) == ["vega"]
        reset = product.run("relay", "reset", "--partitions", "2", "--from-position", "0")
        assert reset.returncode == 0, reset.stderr
        written = edge.put("/api/v1/collections/stars/vectors/deneb", json={"embedding": [0, 1, 0]})
        assert found(edge, written.json()["consistency_token"]) == ["vega"]
        assert relay_status(product)["feed"] == 2

        product.down()
        product.up()
        assert "Kafka" not in {process["name"] for process in product.status()["processes"]}
        written = edge.put("/api/v1/collections/stars/vectors/vega", json={"embedding": [0, 0, 1]})
        assert found(edge, written.json()["consistency_token"]) == ["deneb"]


def test_relay_commands_without_a_relay_say_what_to_do(product: StackUnderTest) -> None:
    done = product.run("relay", "status")
    assert done.returncode == 1
    assert "aindusdb up --kafka" in done.stderr


def test_replicas_of_a_server_of_ones_own_are_refused(product: StackUnderTest) -> None:
    product.environment = {**product.environment, "AINDUSDB_READ_DSN": "postgresql://nobody@127.0.0.1:9/nowhere"}
    done = product.run("up", "--port", str(product.port), "--replicas", "1")
    assert done.returncode == 1
    assert "AINDUSDB_READ_REPLICA_DSNS" in done.stderr


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({"PATH": "/nowhere"}, "there is no Java"),
        ({"PATH": os.environ["PATH"], "JAVA_HOME": "/nowhere"}, "there is no Java in JAVA_HOME"),
        ({"PATH": os.environ["PATH"], "KAFKA_HOME": "/nowhere"}, "holds no Kafka"),
    ],
)
def test_what_is_missing_for_kafka_is_named(environment: dict[str, str], why: str) -> None:
    with pytest.raises(KafkaNotAvailableError, match=why) as refused:
        find_installation(environment)
    assert "Install Java 17 or newer and Maven" in str(refused.value)


def test_a_missing_maven_is_named(tmp_path: Path) -> None:
    with pytest.raises(KafkaNotAvailableError, match="Maven is not installed"):
        fetch_installation({"PATH": "/nowhere", "HOME": str(tmp_path)})
