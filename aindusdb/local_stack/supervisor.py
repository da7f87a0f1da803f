"""The program behind `aindusdb up`: starts everything in order, keeps it running, stops it in order."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import asyncpg
import httpx

from aindusdb.local_stack import databases
from aindusdb.local_stack.databases import DatabasePair
from aindusdb.local_stack.errors import MigrationFailedError, ReplicasNotOursError
from aindusdb.local_stack.kafka import KafkaServer, answers
from aindusdb.local_stack.kafka_installations import fetch_installation, find_installation
from aindusdb.local_stack.layout import DataFolder, FolderLock, check_room
from aindusdb.local_stack.logs import LogFile
from aindusdb.local_stack.ports import HOST, Ports, check_free
from aindusdb.local_stack.postgres import PostgresServer, find_binaries
from aindusdb.local_stack.processes import ProcessSpec, SupervisedProcess, end_leftover, process_id
from aindusdb.local_stack.progress import Progress
from aindusdb.local_stack.redis import RedisServer, find_binary
from aindusdb.local_stack.replicas import Replica, retire_replicas
from aindusdb.local_stack.secrets import Secrets, load_or_generate
from aindusdb.local_stack.services import NEEDING_KAFKA, Addresses, ServiceSpecs, Wiring, addresses, passed_on
from aindusdb.local_stack.state import StackPhase, StackState, read_state, write_state
from aindusdb.local_stack.users import postgres_user
from shared.kafka.settings import KafkaSettings

READY_TIMEOUT_SECONDS = 120.0
RECOVERY_TIMEOUT_SECONDS = 600.0
"""After a crash PostgreSQL replays up to max_wal_size before it answers."""


@dataclass(frozen=True, slots=True)
class StackOptions:
    data_folder: Path
    port: int
    environment: Mapping[str, str]
    kafka: bool = False
    replicas: int = 0


async def run(options: StackOptions, service_specs: ServiceSpecs, progress: Progress) -> None:
    """Returns after SIGINT, SIGTERM or SIGHUP, when no process is left.

    Raises:
        StackError: it cannot run; nothing is left running then either.
    """
    folder = DataFolder(options.data_folder)
    folder.check()
    folder.create()
    with FolderLock(folder):
        for name in end_leftovers(folder):
            progress.line(f"Ended a {name} that an interrupted run had left behind")
        async with httpx.AsyncClient(trust_env=False) as http:
            stack = _Stack(folder, options, service_specs, progress, http)
            try:
                await _until_signalled(stack)
            finally:
                await stack.stop()


async def _until_signalled(stack: _Stack) -> None:
    """Starts the stack and waits. A signal that comes during the start ends that at once."""
    loop = asyncio.get_running_loop()
    signalled = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, signalled.set)
    waiting = asyncio.create_task(signalled.wait())
    starting = asyncio.create_task(stack.start())
    await asyncio.wait({waiting, starting}, return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        starting.result()
        await waiting
    else:
        starting.cancel()
        with suppress(asyncio.CancelledError):
            await starting


def end_leftovers(folder: DataFolder) -> list[str]:
    """Ends what a killed stack left behind, and names it. The caller holds the folder's lock."""
    state = read_state(folder.state_file)
    if state is None:
        return []
    ended = [
        record.name
        for record in reversed(state.processes)
        if record.process is not None and end_leftover(record.process, record.orphan_signal)
    ]
    folder.state_file.unlink(missing_ok=True)
    return ended


class _Stack:
    def __init__(
        self,
        folder: DataFolder,
        options: StackOptions,
        service_specs: ServiceSpecs,
        progress: Progress,
        http: httpx.AsyncClient,
    ) -> None:
        self._folder = folder
        self._environment = options.environment
        self._with_kafka = options.kafka and not options.environment.get("AINDUSDB_KAFKA_BOOTSTRAP")
        self._replica_count = options.replicas
        self._ports = Ports(options.port)
        self._service_specs = service_specs
        self._progress = progress
        self._http = http
        self._phase: StackPhase = "starting"
        self._addresses: Addresses | None = None
        self._processes: list[SupervisedProcess] = []

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._ports.edge}"

    async def start(self) -> None:
        server = await asyncio.to_thread(self._embedded_postgres)
        if self._replica_count and (server is None or self._environment.get("AINDUSDB_READ_DSN")):
            raise ReplicasNotOursError
        redis_port = None if self._environment.get("AINDUSDB_REDIS_URL") else self._ports.redis
        self._check_ports(server, redis_port)
        check_room(server.data if server else self._folder.root)
        secrets = load_or_generate(
            self._folder.secrets_file, databases_exist=server is not None and server.is_initialised
        )
        if server is not None:
            server = replace(server, superuser_password=secrets.superuser_password)
            await self._start_postgres(server, secrets)
        redis_url = self._environment.get("AINDUSDB_REDIS_URL") or await self._start_redis(secrets)
        bootstrap = await self._start_kafka() if self._with_kafka else ""
        replicas = await self._start_replicas(server) if server is not None else []
        known = self._addresses = addresses(
            self._environment, server, secrets, redis_url=redis_url, kafka_bootstrap=bootstrap, replicas=replicas
        )
        with self._progress.step("Bringing the databases to this version's schema", "The schema is up to date"):
            await _migrate(known)
        await self._start_services(known, secrets)
        self._progress.line(f"AindusDB is running at {self.url} (Ctrl-C or `aindusdb down` stops it)")
        for what, where in self._places(server):
            self._progress.line(f"  {what:<12}{where}")
        # Last: whoever started us with --detach passes on what was said until then.
        self._phase = "running"
        self._save()

    def _embedded_postgres(self) -> PostgresServer | None:
        """None when both databases are somebody else's."""
        if self._environment.get("AINDUSDB_EVENTS_DSN") and self._environment.get("AINDUSDB_READ_DSN"):
            return None
        data = self._folder.postgres_data(postgres_user())
        user = postgres_user(data)
        server = PostgresServer(find_binaries(user), data, self._ports.postgres, superuser_password="", user=user)
        server.clear_leftovers()
        return server

    def _check_ports(self, server: PostgresServer | None, redis_port: int | None) -> None:
        ports = self._ports
        wanted = {
            "edge": ports.edge,
            "command service": ports.command_service,
            "query service": ports.query_service,
            "relay": ports.relay,
            "projector": ports.projector,
        }
        if server is not None:
            wanted["PostgreSQL"] = server.port
        if redis_port is not None:
            wanted["Redis"] = redis_port
        if self._with_kafka:
            wanted |= {"Kafka": ports.kafka, "Kafka's controller": ports.kafka_controller}
        wanted |= {f"replica {number}": ports.replica(number) for number in range(1, self._replica_count + 1)}
        check_free(wanted, ports.base)

    async def _start_postgres(self, server: PostgresServer, secrets: Secrets) -> None:
        if not server.is_initialised:
            with self._progress.step("Setting up PostgreSQL's data", "PostgreSQL's data is set up"):
                await asyncio.to_thread(server.initialise)
        with self._progress.step("Starting PostgreSQL", "PostgreSQL is ready"):
            await self._run(server.spec()).wait_ready(RECOVERY_TIMEOUT_SECONDS)
            await databases.prepare(server.dsn, databases.role_passwords(secrets), DatabasePair())

    async def _start_redis(self, secrets: Secrets) -> str:
        redis = RedisServer(find_binary(), self._folder.redis, self._ports.redis, secrets.redis_password)
        with self._progress.step("Starting Redis", "Redis is ready"):
            await self._run(redis.spec()).wait_ready(READY_TIMEOUT_SECONDS)
        return redis.url

    async def _start_kafka(self) -> str:
        installation = await asyncio.to_thread(find_installation, self._environment)
        if installation is None:
            with self._progress.step("Fetching Kafka, this once", "Kafka is fetched"):
                installation = await asyncio.to_thread(fetch_installation, self._environment)
        ports = self._ports
        server = KafkaServer(installation, self._folder.kafka, ports.kafka, ports.kafka_controller)
        with self._progress.step(f"Starting Kafka from {installation.origin}", "Kafka is ready"):
            await self._run(server.spec()).wait_ready(READY_TIMEOUT_SECONDS)
        return server.bootstrap

    async def _start_replicas(self, primary: PostgresServer) -> list[Replica]:
        await retire_replicas(primary, self._replica_count)
        replicas = [
            Replica(primary, number, self._ports.replica(number)) for number in range(1, self._replica_count + 1)
        ]
        if replicas:
            with self._progress.step("Starting the replicas", "The replicas are ready"):
                started = [self._run(replica.spec()) for replica in replicas]
                await asyncio.gather(*(process.wait_ready(RECOVERY_TIMEOUT_SECONDS) for process in started))
        return replicas

    async def _start_services(self, known: Addresses, secrets: Secrets) -> None:
        wiring = Wiring(
            ports=self._ports,
            addresses=known,
            signing_keys=self._environment.get("AINDUSDB_SIGNING_KEYS") or secrets.signing_keys,
            # Where a model that texts are embedded by is kept once it was downloaded; the default does not last.
            environment={"FASTEMBED_CACHE_PATH": str(self._folder.models), **passed_on(self._environment)},
            http=self._http,
        )
        started = [self._run(spec) for spec in self._service_specs(wiring)]
        with self._progress.step("Starting the services", "The services are ready"):
            waiting = await self._waiting_for_kafka()
            await asyncio.gather(
                *(process.wait_ready(READY_TIMEOUT_SECONDS) for process in started if process.spec.name not in waiting)
            )

    async def _waiting_for_kafka(self) -> Collection[str]:
        """The processes that a broker of somebody else's keeps from being ready; nobody else needs it."""
        bootstrap = self._environment.get("AINDUSDB_KAFKA_BOOTSTRAP")
        if not bootstrap or await answers(KafkaSettings(kafka_bootstrap=bootstrap)):
            return ()
        self._progress.line(
            f"Kafka at {bootstrap} does not answer. What is written waits in the log until it does; "
            "`aindusdb status` shows how much"
        )
        return NEEDING_KAFKA

    def _run(self, spec: ProcessSpec) -> SupervisedProcess:
        log = LogFile(self._folder.logs / f"{spec.log_name}.log")
        process = SupervisedProcess(spec, log, report=self._progress.line, changed=self._save)
        self._processes.append(process)
        process.start()
        return process

    async def stop(self) -> None:
        """The last one started goes first, so that nobody loses a server that it still needs."""
        if not self._processes:
            return
        self._phase = "stopping"
        with self._progress.step("Stopping", "Everything is stopped"):
            for process in reversed(self._processes):
                await process.stop()
        self._folder.state_file.unlink(missing_ok=True)

    def _save(self) -> None:
        query = self._addresses.query if self._addresses else None
        state = StackState(
            phase=self._phase,
            url=self.url,
            supervisor=process_id(os.getpid()),
            events_dsn=query.events if query else "",
            read_dsn=query.read if query else "",
            processes=tuple(process.record() for process in self._processes),
            relay_dsn=self._addresses.command.events if self._addresses else "",
            kafka_bootstrap=(self._addresses.kafka_bootstrap if self._addresses else "")
            or self._environment.get("AINDUSDB_KAFKA_BOOTSTRAP", ""),
            projector_events_dsn=self._addresses.projector.events if self._addresses else "",
            projector_read_dsn=self._addresses.projector.read if self._addresses else "",
        )
        try:
            write_state(self._folder.state_file, state)
        except OSError as error:
            self._progress.line(f"`aindusdb status` is out of date: {self._folder.state_file}: {error.strerror}")

    def _places(self, server: PostgresServer | None) -> list[tuple[str, str]]:
        places = [
            ("API", f"{self.url}/api/v1"),
            ("API page", f"{self.url}/docs"),
            ("data", str(self._folder.root)),
            ("logs", str(self._folder.logs)),
        ]
        if server is not None:
            places.append(("PostgreSQL", f"{HOST}:{server.port}, data in {server.data}"))
        return places


async def _migrate(known: Addresses) -> None:
    # Imported late: it brings SQLAlchemy and Alembic, which no other part of the supervisor needs.
    from sqlalchemy.exc import SQLAlchemyError

    from shared.migrations import Owner, upgrade

    owned: list[tuple[str, str, Owner]] = [
        ("events", known.owner.events, "command_service"),
        ("read", known.owner.read, "projector"),
    ]
    for database, dsn, owner in owned:
        try:
            await upgrade(dsn, owner)
        except (OSError, asyncpg.PostgresError, SQLAlchemyError, TimeoutError) as error:
            raise MigrationFailedError(database, str(error)) from error
