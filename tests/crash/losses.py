"""Both databases lost whole, primary and standby, under load; and brought back as docs/operations/backups.md says."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from functools import partial
from typing import Any

import httpx

from shared.status import log_status
from tests.crash.load import Load
from tests.crash.stack import EVENT_DATABASE, Stack, make_read_database
from tests.crash.verification import held
from tests.failover import documented
from tests.processes import running_process
from tests.projector.projecting import until
from tests.servers import connected

_NOW = "SELECT clock_timestamp()::text"
_PROJECTED = "SELECT partition, position, event_id FROM projection_checkpoints ORDER BY partition"
_PUBLISHED = "SELECT feed, position FROM relay_leases"


async def lose_read_database(stack: Stack, load: Load) -> dict[str, Any]:
    """Nothing is stopped: writes go on, and reads say what they lack until the log is projected anew."""
    began = time.monotonic()
    written = load.acknowledged.last_position
    load.reader.built_anew = True
    await stack.read.lose()
    await stack.read.start()
    await make_read_database(stack.read)
    for command in documented.commands("The read database is lost"):
        await stack.run(*command)
    await stack.read.add_standby(synchronous=False)
    await _searched_again(stack, load)
    seconds = round(time.monotonic() - began, 1)
    print(f"the read model is projected anew after {seconds} s", file=sys.stderr)
    return {"events": written, "searched_again_seconds": seconds}


async def lose_event_database(stack: Stack, load: Load) -> dict[str, Any]:
    """Restored to the end of its archive it holds whatever was acknowledged when the last of it was archived. Then it
    is restored to a time before that, and what was acknowledged since is lost, as the operator wished."""
    began = time.monotonic()
    acknowledged = load.acknowledged
    before = acknowledged.last_position
    async with connected(stack.events.primary.admin_dsn) as admin:
        moment = await admin.fetchval(_NOW)
    await load.goes_on()
    archived = acknowledged.last_position
    await stack.archive.archive_all(stack.events.primary.server)
    await load.goes_on()
    await stack.events.lose()
    await stack.down()
    await stack.events.restore()
    to_the_end = await held(_dsn(stack), acknowledged, archived)
    print(f"restored to the end of the archive: {to_the_end}", file=sys.stderr)
    beyond = sum(promise.position > to_the_end.position for promise in acknowledged.promises.values())
    await stack.events.lose()
    await stack.events.restore(moment)
    to_the_time = await held(_dsn(stack), acknowledged, before)
    print(f"restored to {moment}: {to_the_time}", file=sys.stderr)
    given_up = load.restored(to_the_time.position)
    assert given_up, "nothing was acknowledged after the time that the log was restored to"
    load.reader.built_anew = True
    await _expect_refusals(stack)
    *at_rest, verify = documented.commands("After a restore")
    for command in at_rest:
        await stack.run(*command)
    await stack.up()
    await stack.events.add_standby(synchronous=True)
    await load.goes_on()
    await _searched_again(stack, load)
    seconds = round(time.monotonic() - began, 1)
    print(f"the restored log is written to and searched after {seconds} s", file=sys.stderr)
    await stack.run(*verify)
    return {
        "restored": {
            "to_the_end": {"from": archived, **asdict(to_the_end), "beyond": beyond},
            "to_a_time": {"from": before, **asdict(to_the_time), "beyond": given_up},
        },
        "searched_again_seconds": seconds,
    }


async def _expect_refusals(stack: Stack) -> None:
    """Whoever forgets that a restored log is to become another one is told so, and nothing moves meanwhile."""
    before = await _progress(stack)
    async with (
        running_process("projector", **stack.settings) as (_, projector),
        running_process("command_service.relay", **stack.settings) as (_, relay),
    ):
        for client in (projector, relay):
            await until(partial(_says_what_to_do, client), "an older log is not noticed")
    assert await _progress(stack) == before, "something ran ahead of the restored log"


async def _says_what_to_do(client: httpx.AsyncClient) -> bool:
    answer = await client.get("/ready")
    return (
        answer.status_code == httpx.codes.SERVICE_UNAVAILABLE and "`aindusdb log restored`" in answer.json()["detail"]
    )


async def _progress(stack: Stack) -> tuple[list[Any], list[Any]]:
    async with connected(_dsn(stack)) as events, connected(stack.settings["AINDUSDB_READ_DSN"]) as read:
        return list(await read.fetch(_PROJECTED)), list(await events.fetch(_PUBLISHED))


async def _searched_again(stack: Stack, load: Load) -> None:
    """Waits until reads by token show what was just written."""
    await until(partial(_is_projected, stack, load.acknowledged.last_position), "the log is not projected anew")
    load.reader.built_anew = False
    fresh = load.acknowledged.fresh_reads
    await until(lambda: load.acknowledged.fresh_reads >= fresh + 4, "searches do not show what was written")


async def _is_projected(stack: Stack, position: int) -> bool:
    async with connected(_dsn(stack)) as events, connected(stack.settings["AINDUSDB_READ_DSN"]) as read:
        return (await log_status(events, read)).watermark >= position


def _dsn(stack: Stack) -> str:
    return stack.events.primary.server.dsn(EVENT_DATABASE)
