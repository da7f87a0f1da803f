"""Replays several collections, so many at a time; what became of each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from aindusdb.commands.databases import FORESEEN, exit_code_of, sentence_of
from aindusdb.commands.replay_display import ReplayDisplay
from projector import replays
from projector.generations import Generation
from projector.replay_session import opened_session
from projector.replay_targets import Target, expect_position
from projector.replays import Checks, Doing, Replaying
from projector.settings import ProjectorSettings
from projector.snapshots import Wanted


@dataclass(frozen=True, slots=True)
class Outcome:
    """`answer` is what the work says of the collection; with a `fault`, a sentence, it was not done."""

    target: Target
    answer: dict[str, Any]
    seconds: float
    fault: str | None = None
    exit_code: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "collection": self.target.name,
            "collection_id": str(self.target.collection_id),
            **self.answer,
            "seconds": round(self.seconds, 3),
            "error": self.fault,
        }


Work = Callable[[Replaying], Awaitable[dict[str, Any]]]
"""What is done with a collection, inside its session."""


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    wanted: Wanted | None
    checks: Checks
    keep_old: bool
    force: bool


async def for_each(
    settings: ProjectorSettings,
    targets: Sequence[Target],
    work: Work,
    display: ReplayDisplay,
    *,
    workers: int = 1,
    max_events_per_second: float | None = None,
) -> list[Outcome]:
    """In the targets' order. What goes wrong with one keeps no other from being done."""
    free = asyncio.Semaphore(workers)

    async def do(target: Target) -> Outcome:
        async with free:
            return await _outcome(settings, target, work, display, max_events_per_second)

    return list(await asyncio.gather(*map(do, targets)))


async def _outcome(
    settings: ProjectorSettings, target: Target, work: Work, display: ReplayDisplay, pace: float | None
) -> Outcome:
    began, folded = monotonic(), _Folded()

    def report(doing: Doing) -> None:
        folded.note(doing)
        display.show(target.name, doing)

    try:
        async with opened_session(settings, target) as session:
            answer = await work(Replaying(session, report, pace))
            return Outcome(target, answer | folded.as_json(), monotonic() - began)
    except FORESEEN as error:
        return Outcome(target, folded.as_json(), monotonic() - began, sentence_of(error), exit_code_of(error))
    finally:
        display.done(target.name)


class _Folded:
    """How many events were folded, and how fast: by all the steps that fold together."""

    def __init__(self) -> None:
        self._events = self._of_this_call = 0
        self._seconds, self._at = 0.0, monotonic()
        self._is_folding = False

    def note(self, doing: Doing) -> None:
        now = monotonic()
        if self._is_folding:
            self._seconds += now - self._at
        self._is_folding, self._at = doing.step == "folding", now
        if self._is_folding:
            # A step that folds again counts from nothing.
            self._events += doing.events - self._of_this_call if doing.events >= self._of_this_call else doing.events
            self._of_this_call = doing.events

    def as_json(self) -> dict[str, Any]:
        if not self._events:
            return {"events": 0, "events_per_second": None}
        return {"events": self._events, "events_per_second": round(self._events / max(self._seconds, 1e-6))}


async def replay_one(replaying: Replaying, options: ReplayOptions) -> dict[str, Any]:
    """Built, checked and promoted; a snapshot is only built and checked.

    Raises:
        CheckFailedError: it stays as it is; the active one goes on.
    """
    generation = await build_one(replaying, options.wanted)
    if not (generation.checked and generation.checked["passed"]):
        generation = await replays.check(replaying, generation, options.checks)
    if options.wanted is None:
        pause = await replays.promote(replaying, generation, keep_old=options.keep_old, force=options.force)
        return await described_active(replaying, pause)
    if not options.force:
        replays.expect_checked(generation)
    return described(generation)


async def build_one(replaying: Replaying, wanted: Wanted | None) -> Generation:
    """
    Raises:
        TargetRefusedError: the collection was not there at the snapshot's position, or the log has not come to it.
    """
    if wanted is not None:
        await expect_position(replaying.session.log, wanted.position, replaying.session.target)
    return await replays.build(replaying, wanted)


async def described_active(replaying: Replaying, pause: float) -> dict[str, Any]:
    """What a promotion led to. `pause`: for how many seconds the projection stood still."""
    [active] = [one for one in await replays.generations_of(replaying.session) if one.state == "active"]
    return {**described(active), "pause_seconds": round(pause, 3)}


def described(generation: Generation) -> dict[str, Any]:
    """A generation as `--json` shows it."""
    return {
        "generation": generation.number,
        "state": generation.state,
        "automatic": generation.automatic,
        "projection_version": generation.projection_version,
        "metric": generation.shape.metric,
        "type": generation.shape.type,
        "index": generation.shape.index.kind,
        "indexed": generation.indexed,
        "position": min(generation.checkpoints) if generation.checkpoints else None,
        "until_position": generation.until_position,
        "snapshot": None if generation.snapshot is None else generation.snapshot.name,
        "expires_at": None if generation.snapshot is None else generation.snapshot.expires_at.isoformat(),
        "checks": generation.checked,
        "reason": generation.reason,
    }
