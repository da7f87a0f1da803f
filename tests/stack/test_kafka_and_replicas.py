"""`up --kafka --replicas`: the same promises, with a broker and a replica in between."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from aindusdb.local_stack.ports import HOST
from tests.servers import prepared_kafka, running
from tests.stack.running import StackUnderTest, eventually
from tests.stack.test_real_services import found

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def product() -> Iterator[StackUnderTest]:
    with tempfile.TemporaryDirectory(prefix="aindusdb-stack-") as folder:
        under_test = StackUnderTest(Path(folder) / "data", module="aindusdb")
        yield under_test
        under_test.remove()


def edge_of(product: StackUnderTest) -> httpx.Client:
    return httpx.Client(base_url=f"http://{HOST}:{product.port}", trust_env=False, timeout=60)


def relay_status(product: StackUnderTest) -> dict[str, object]:
    status: dict[str, object] = json.loads(product.run("relay", "status", "--json").stdout)
    return status


def stars_on_a_replica(product: StackUnderTest, edge: httpx.Client) -> str:
    """Everything runs, and what was written was found; the token of that."""
    said = product.up("--kafka", "--replicas", "1")
    assert "Starting Kafka from" in said
    assert edge.post("/api/v1/collections", json={"name": "stars", "dimension": 3}).status_code == 201
    written = edge.put("/api/v1/collections/stars/vectors/vega", json={"embedding": [1, 0, 0]})
    token: str = written.json()["consistency_token"]
    assert found(edge, token) == ["vega"]
    names = {process["name"] for process in product.status()["processes"]}
    assert {"Kafka", "Replica 1"} <= names
    deadline = time.monotonic() + 20
    while relay_status(product)["position"] != 2:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return token


@pytest.mark.usefixtures("kafka_installed")
def test_writes_go_through_kafka_to_a_replica_that_may_die(product: StackUnderTest) -> None:
    with edge_of(product) as edge:
        token = stars_on_a_replica(product, edge)
        psutil.Process(product.pid("Replica 1")).kill()
        assert found(edge, token) == ["vega"]


@pytest.mark.long
@pytest.mark.usefixtures("kafka_installed")
def test_topic_is_filled_anew_and_kafka_given_up_again(product: StackUnderTest) -> None:
    with edge_of(product) as edge:
        stars_on_a_replica(product, edge)
        for command in (("reset", "--partitions", "2"), ("republish", "--from", "1")):
            begun = product.run("relay", *command)
            assert begun.returncode == 0, begun.stderr
        written = edge.put("/api/v1/collections/stars/vectors/deneb", json={"embedding": [0, 1, 0]})
        assert found(edge, written.json()["consistency_token"]) == ["vega"]
        assert relay_status(product)["feed"] == 3

        product.down()
        product.up()
        assert "Kafka" not in {process["name"] for process in product.status()["processes"]}
        written = edge.put("/api/v1/collections/stars/vectors/vega", json={"embedding": [0, 0, 1]})
        assert found(edge, written.json()["consistency_token"]) == ["deneb"]


@pytest.mark.long
@pytest.mark.usefixtures("kafka_installed")
async def test_a_broker_that_is_away_at_the_start_holds_nobody_up(product: StackUnderTest) -> None:
    async with prepared_kafka() as broker:
        product.environment = {**product.environment, "AINDUSDB_KAFKA_BOOTSTRAP": broker.bootstrap}
        said = await asyncio.to_thread(product.up)
        assert f"Kafka at {broker.bootstrap} does not answer" in said
        token = await asyncio.to_thread(written_while_away, product, broker.bootstrap)
        async with running(broker.spec(), broker.folder.parent):
            await asyncio.to_thread(found_once_it_is_back, product, token)


def written_while_away(product: StackUnderTest, bootstrap: str) -> str:
    with edge_of(product) as edge:
        assert edge.post("/api/v1/collections", json={"name": "stars", "dimension": 3}).status_code == 201
        written = edge.put("/api/v1/collections/stars/vectors/vega", json={"embedding": [1, 0, 0]})
        assert written.status_code == 201
    waiting = product.status()
    assert waiting["relay"]["backlog"] == waiting["log"]["lag_events"] == 2
    [why] = [process["detail"] for process in waiting["processes"] if process["name"] == "Relay"]
    assert f"Kafka at {bootstrap} takes no events" in why
    token: str = written.json()["consistency_token"]
    return token


def found_once_it_is_back(product: StackUnderTest, token: str) -> None:
    def all_run() -> bool:
        return all(process["state"] == "running" for process in product.status()["processes"])

    assert eventually(all_run, 60)
    assert product.status()["relay"]["backlog"] == 0
    with edge_of(product) as edge:
        assert found(edge, token) == ["vega"]


def test_relay_commands_without_a_relay_say_what_to_do(product: StackUnderTest) -> None:
    done = product.run("relay", "status")
    assert done.returncode == 1
    assert "aindusdb up --kafka" in done.stderr


def test_replicas_of_a_server_of_ones_own_are_refused(product: StackUnderTest) -> None:
    product.environment = {**product.environment, "AINDUSDB_READ_DSN": "postgresql://nobody@127.0.0.1:9/nowhere"}
    done = product.run("up", "--port", str(product.port), "--replicas", "1")
    assert done.returncode == 1
    assert "AINDUSDB_READ_REPLICA_DSNS" in done.stderr
