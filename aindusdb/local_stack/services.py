"""The five Python processes of the stack and what each is told of its servers."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import httpx

from aindusdb.local_stack import databases
from aindusdb.local_stack.databases import DatabasePair
from aindusdb.local_stack.ports import HOST, Ports
from aindusdb.local_stack.postgres import PostgresServer
from aindusdb.local_stack.processes import NotReadyError, ProcessSpec
from aindusdb.local_stack.replicas import Replica
from aindusdb.local_stack.secrets import Secrets

DRAIN_SECONDS = 30.0
READY_ANSWER_SECONDS = 3.0
NEEDING_KAFKA = ("Relay", "Projector")


@dataclass(frozen=True, slots=True)
class DatabaseAddresses:
    """Both databases as one role sees them."""

    events: str
    read: str


@dataclass(frozen=True, slots=True)
class Addresses:
    owner: DatabaseAddresses
    """For migrations only."""
    command: DatabaseAddresses
    projector: DatabaseAddresses
    query: DatabaseAddresses
    redis_url: str
    read_replicas: str = ""
    """Of the query service's read servers, comma-separated; empty: the environment's, or the read database itself."""
    kafka_bootstrap: str = ""


def addresses(
    environment: Mapping[str, str],
    server: PostgresServer | None,
    secrets: Secrets,
    *,
    redis_url: str,
    kafka_bootstrap: str = "",
    replicas: Sequence[Replica] = (),
) -> Addresses:
    """Each database from the environment if it is named there, else inside the embedded `server`."""
    pair = DatabasePair()
    passwords = databases.role_passwords(secrets)

    def local(database: str, role: str) -> str:
        assert server is not None, "without an embedded server both databases are named in the environment"
        return server.dsn(database, role, passwords[role])

    def seen_by(role: str) -> DatabaseAddresses:
        return DatabaseAddresses(
            events=environment.get("AINDUSDB_EVENTS_DSN") or local(pair.events, role),
            read=environment.get("AINDUSDB_READ_DSN") or local(pair.read, role),
        )

    events_owner = environment.get("AINDUSDB_EVENTS_OWNER_DSN")
    read_owner = environment.get("AINDUSDB_READ_OWNER_DSN")
    return Addresses(
        owner=DatabaseAddresses(
            events=events_owner or seen_by(databases.OWNER).events,
            read=read_owner or seen_by(databases.PROJECTOR).read,
        ),
        command=seen_by(databases.COMMAND),
        projector=seen_by(databases.PROJECTOR),
        query=seen_by(databases.QUERY),
        redis_url=redis_url,
        read_replicas=",".join(
            replica.server.dsn(pair.read, databases.QUERY, passwords[databases.QUERY]) for replica in replicas
        ),
        kafka_bootstrap=kafka_bootstrap,
    )


@dataclass(frozen=True, slots=True)
class Wiring:
    """All that the specs of the services are made from."""

    ports: Ports
    addresses: Addresses
    signing_keys: str
    environment: Mapping[str, str]
    http: httpx.AsyncClient


ServiceSpecs = Callable[[Wiring], list[ProcessSpec]]
"""In the order of their start; they are stopped the other way round."""


def service_specs(wiring: Wiring) -> list[ProcessSpec]:
    known, ports = wiring.addresses, wiring.ports
    return [
        _python_process("Projector", "projector", ports.projector, known.projector, wiring),
        _python_process("Relay", "command_service.relay", ports.relay, known.command, wiring),
        _python_process("Command service", "command_service", ports.command_service, known.command, wiring),
        _python_process("Query service", "query_service", ports.query_service, known.query, wiring),
        edge_spec(wiring),
    ]


def edge_spec(wiring: Wiring) -> ProcessSpec:
    upstreams = {
        "AINDUSDB_EDGE_COMMAND_URL": f"http://{HOST}:{wiring.ports.command_service}",
        "AINDUSDB_EDGE_QUERY_URL": f"http://{HOST}:{wiring.ports.query_service}",
    }
    return ProcessSpec(
        name="Edge",
        argv=(sys.executable, "-m", "aindusdb.local_stack.edge"),
        port=wiring.ports.edge,
        probe=http_probe(wiring.http, wiring.ports.edge),
        environment={**wiring.environment, **_process_environment(wiring.ports.edge, wiring.environment), **upstreams},
        stop_timeout_seconds=10.0,
    )


def _python_process(
    name: str, module: str, port: int, databases_seen: DatabaseAddresses, wiring: Wiring
) -> ProcessSpec:
    own = {
        "AINDUSDB_EVENTS_DSN": databases_seen.events,
        "AINDUSDB_READ_DSN": databases_seen.read,
        "AINDUSDB_REDIS_URL": wiring.addresses.redis_url,
        "AINDUSDB_SIGNING_KEYS": wiring.signing_keys,
    }
    if wiring.addresses.read_replicas:
        own["AINDUSDB_READ_REPLICA_DSNS"] = wiring.addresses.read_replicas
    if wiring.addresses.kafka_bootstrap:
        own["AINDUSDB_KAFKA_BOOTSTRAP"] = wiring.addresses.kafka_bootstrap
    return ProcessSpec(
        name=name,
        argv=(sys.executable, "-m", module),
        port=port,
        probe=http_probe(wiring.http, port),
        environment={**wiring.environment, **_process_environment(port, wiring.environment), **own},
        stop_timeout_seconds=DRAIN_SECONDS,
    )


def _process_environment(port: int, environment: Mapping[str, str]) -> dict[str, str]:
    return {
        "AINDUSDB_HOST": HOST,
        "AINDUSDB_PORT": str(port),
        "AINDUSDB_LOG_FORMAT": environment.get("AINDUSDB_LOG_FORMAT", "json"),
        # What lies in the current folder must never be imported in our place.
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
    }


def passed_on(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The caller's environment without what only the migrations may know."""
    withheld = ("AINDUSDB_EVENTS_OWNER_DSN", "AINDUSDB_READ_OWNER_DSN")
    return {name: value for name, value in environment.items() if name not in withheld}


def http_probe(http: httpx.AsyncClient, port: int) -> Callable[[], Awaitable[None]]:
    """Asks GET /ready; what a 503 gives as `detail` is the obstacle."""

    async def probe() -> None:
        try:
            response = await http.get(f"http://{HOST}:{port}/ready", timeout=READY_ANSWER_SECONDS)
        except httpx.HTTPError as error:
            raise NotReadyError(f"no answer on port {port}: {str(error) or type(error).__name__}") from error
        if response.status_code != httpx.codes.OK:
            raise NotReadyError(problem_detail(response))

    return probe


def problem_detail(response: httpx.Response) -> str:
    """The `detail` of an RFC 9457 problem, or whatever came in its place."""
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"it answers {response.status_code}"
