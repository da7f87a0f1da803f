"""A collection replayed: a generation is made from the log, checked, and promoted. Done again after whatever ended it,
each step goes on where it was; `rebuild` says why."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Literal

from projector import rebuild
from projector.checkpoints import read_positions
from projector.completeness import expect_written, named
from projector.errors import NotCaughtUpError
from projector.facts import count_up_to
from projector.generations import Generation, Shape, follow_on, read_generations, record_check
from projector.index_progress import IndexProgress, watched_index
from projector.rebuild import Progress, Replay
from projector.recall import recall_at_10
from projector.replay_session import ReplaySession
from projector.replay_targets import Target, shape_at
from projector.snapshots import Wanted, found_or_allowed
from projector.verification import Verification, compare

StepName = Literal["waiting", "folding", "indexing", "checking", "promoting"]

_PROJECTED_WITHIN_SECONDS = 60.0
_POLL_SECONDS = 0.1


class CheckFailedError(Exception):
    """The generation is not what the log says, or its index does not find enough; or nobody has looked yet. It is not
    promoted, and the one that is active goes on."""


class OutdatedGenerationError(Exception):
    """The collection was changed after the generation was begun. Promoted it would be searched as the collection is not
    to be any more, until a projector has applied the change once more."""

    def __init__(self, generation: Generation, target: Target) -> None:
        made, wanted = _described(generation.shape), _described(target.shape)
        if generation.shape.spec != target.shape.spec:
            made, wanted = f"of {named(generation.shape.spec)}, {made}", f"of {named(target.shape.spec)}, {wanted}"
        super().__init__(
            f"generation {generation.number} is {made}, and {target.name!r} is to be {wanted}: `aindusdb replay` "
            "builds that; --force promotes it anyway"
        )


class NoSuchGenerationError(Exception):
    """The collection has no generation that this can be done with."""


@dataclass(frozen=True, slots=True)
class Doing:
    """What a replay does just now: `done` of `total` (positions of the log when it waits for the projection, folds or
    checks, blocks of the table when it makes an index), of these `events` folded by this call."""

    step: StepName
    done: int = 0
    total: int = 0
    events: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Checks:
    """`sample`: so many vectors are compared with the log, and all are counted; None: every one is compared.
    `queries` to measure recall@10 with, which is to be at least `min_recall`."""

    sample: int | None = None
    queries: int = 20
    min_recall: float = 0.8


def _silent(_doing: Doing) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Replaying:
    """One replay of one collection."""

    session: ReplaySession
    report: Callable[[Doing], None] = _silent
    max_events_per_second: float | None = None

    def steps(self) -> Replay:
        def folded(progress: Progress) -> None:
            self.report(Doing("folding", progress.position, progress.target, progress.events))

        session = self.session
        return Replay(session.connection, session.log, session.settings, folded, self.max_events_per_second)


async def generations_of(session: ReplaySession) -> list[Generation]:
    return await read_generations(session.connection, session.target.collection_id)


async def build(replaying: Replaying, wanted: Wanted | None) -> Generation:
    """Begun or gone on with, folded and indexed: `ready`, unless it was before. With `wanted` it is that snapshot.

    Raises:
        GenerationGoneError, RebuildFailedError, NoRoomError
        NotCaughtUpError: the read model has not come to the snapshot's position within a minute, or to where every
            vector has an embedding.
        SnapshotRefusedError
        asyncpg.PostgresError: the index cannot be made.
    """
    session, steps = replaying.session, replaying.steps()
    generation = await _begun(replaying, steps, wanted)
    replaying.report(Doing("folding", min(generation.checkpoints), 0))
    generation = await rebuild.build(steps, generation)

    def indexed(progress: IndexProgress) -> None:
        replaying.report(Doing("indexing", progress.done, progress.total, progress.rows, progress.phase))

    replaying.report(Doing("indexing"))
    async with watched_index(session.settings, session.connection.get_server_pid(), indexed):
        return await rebuild.index(steps, generation, search_index=await _is_large_enough(session, generation))


async def _begun(replaying: Replaying, steps: Replay, wanted: Wanted | None) -> Generation:
    session = replaying.session
    target, snapshot, shape = session.target, None, session.target.shape
    if wanted is not None:
        await _projected(replaying, wanted.position)
        found = await found_or_allowed(session.connection, session.log, session.settings, target, wanted)
        if isinstance(found, Generation):
            return found
        snapshot, shape = found, await shape_at(session.log, target, wanted.position)
    return await rebuild.begin(steps, target.collection_id, shape, automatic=False, snapshot=snapshot)


async def check(replaying: Replaying, generation: Generation, checks: Checks) -> Generation:
    """See `check_against_log`."""
    session = replaying.session

    def compared(position: int, target: int) -> None:
        replaying.report(Doing("checking", position, target))

    verification = Verification(session.connection, session.log, session.settings, checks.sample, compared)
    return await check_against_log(verification, generation, checks)


async def check_against_log(verification: Verification, generation: Generation, checks: Checks) -> Generation:
    """Compares it with the log up to where it stands, and measures its index; what was found stays with it.

    Raises:
        GenerationGoneError, VerificationFailedError
    """
    began = monotonic()
    found = await compare(verification, generation.collection_id, generation.number)
    recall = await recall_at_10(verification.connection, generation, verification.settings, checks.queries)
    passed = found.is_same and (recall is None or recall >= checks.min_recall)
    report: dict[str, Any] = {
        "passed": passed,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(monotonic() - began, 3),
        **{name: value for name, value in found.as_json().items() if name not in {"generation", "state"}},
        "recall_at_10": None if recall is None else round(recall, 4),
        "min_recall": checks.min_recall,
    }
    return await record_check(verification.connection, generation, report)


async def promote(replaying: Replaying, generation: Generation, *, keep_old: bool, force: bool) -> float:
    """Searches read it from now on. `force`: whatever its checks have found; a snapshot is refused all the same, and
    what lacks the embeddings written since.

    Returns:
        for how many seconds the projection stood still.

    Raises:
        CheckFailedError
        OutdatedGenerationError, SnapshotError
        GenerationGoneError, RebuildFailedError, NoRoomError, NotCaughtUpError
    """
    rebuild.expect_no_snapshot(generation)
    await expect_wanted(replaying.session, generation, force=force)
    if not force:
        expect_checked(generation)
    replaying.report(Doing("promoting"))
    return await rebuild.promote(replaying.steps(), generation, keep_old=keep_old)


async def bring_to_present(replaying: Replaying, generation: Generation, checks: Checks | None) -> Generation:
    """Folded on to where the projection stands, and checked there: what was found before says nothing of what came
    since. A snapshot is none any longer. `checks` None: it is not checked.

    Raises:
        GenerationGoneError, RebuildFailedError, NoRoomError, NotCaughtUpError, VerificationFailedError
    """
    generation = await follow_on(replaying.session.connection, generation)
    generation = await rebuild.catch_up(replaying.steps(), generation)
    return generation if checks is None else await check(replaying, generation, checks)


async def expect_wanted(session: ReplaySession, generation: Generation, *, force: bool) -> None:
    """
    Raises:
        OutdatedGenerationError: unless it is forced.
        RebuildFailedError: the collection has left the model of its embeddings, which no force makes up for.
    """
    await expect_written(session.connection, generation)
    if not force and generation.shape != session.target.shape:
        raise OutdatedGenerationError(generation, session.target)


def _described(shape: Shape) -> str:
    index = shape.index.model_dump(exclude_none=True)
    parts = [shape.metric, shape.type, *(f"{name} {value}" for name, value in index.items() if name != "kind")]
    parts.insert(2, shape.index.kind)
    return ", ".join([*parts, "by month"] if shape.month_partitions else parts)


def expect_checked(generation: Generation) -> None:
    """
    Raises:
        CheckFailedError
    """
    name = f"Generation {generation.number}"
    if generation.state == "kept":
        return  # it was active, and is written with every batch
    if generation.checked is None:
        raise CheckFailedError(f"{name} was not checked yet: `aindusdb replay verify`, or --force.")
    if not generation.checked["passed"]:
        raise CheckFailedError(
            f"{name} failed its checks: {said_of(generation.checked)}. `aindusdb replay discard` drops it, so that "
            "another one is built; --force promotes it anyway."
        )


def said_of(report: dict[str, Any]) -> str:
    """What a check has found, in a few words."""
    differing = ", ".join(f"{count:,} {kind}" for kind, count in report["differing"].items())
    parts = [f"{report['vectors']:,} vectors at position {report['position']:,}"]
    if report["vectors"] != report["expected_vectors"]:
        parts.append(f"{report['expected_vectors']:,} expected")
    parts.append(f"differing: {differing}" if differing else "none differs")
    if report.get("skipped"):
        parts.append(f"{report['skipped']:,} events passed over")
    if report["recall_at_10"] is not None:
        recall, least = report["recall_at_10"], report["min_recall"]
        parts.append(f"recall@10 {recall:.3f}" + (f", less than {least:.3f}" if recall < least else ""))
    return ", ".join(parts)


def chosen(generations: Sequence[Generation], number: int | None, states: Sequence[str], purpose: str) -> Generation:
    """The generation with this number, or the only one that an operator has in one of these states; snapshots count
    where there is no other.

    Raises:
        NoSuchGenerationError: saying which there are.
    """
    there = "; ".join(f"{one.number} is {_standing(one)}" for one in generations)
    fitting = [one for one in generations if one.state in states]
    if number is not None:
        for one in fitting:
            if one.number == number:
                return one
        raise NoSuchGenerationError(f"Generation {number} cannot be {purpose} ({there}).")
    fitting = [one for one in fitting if one.snapshot is None] or fitting
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise NoSuchGenerationError(f"Several generations could be {purpose} ({there}); name one with --generation.")
    raise NoSuchGenerationError(f"There is no generation that could be {purpose} ({there}).")


def _standing(generation: Generation) -> str:
    return generation.state + ("" if generation.snapshot is None else f", snapshot {generation.snapshot.name!r}")


async def _projected(replaying: Replaying, position: int) -> None:
    """Waits for the projection, beyond which nothing is folded."""
    deadline = monotonic() + _PROJECTED_WITHIN_SECONDS
    while (at := min((await read_positions(replaying.session.connection)).values())) < position:
        replaying.report(Doing("waiting", at, position, detail="for the projector"))
        if monotonic() > deadline:
            raise NotCaughtUpError(f"the read model has come to position {at:,}, not to {position:,}")
        await asyncio.sleep(_POLL_SECONDS)


async def _is_large_enough(session: ReplaySession, generation: Generation) -> bool:
    """An IVFFlat index finds its lists in the rows; see `due`."""
    if generation.shape.index.kind != "ivfflat":
        return True
    least = session.settings.ivfflat_min_rows
    return await count_up_to(session.connection, generation.embeddings, least) >= least
