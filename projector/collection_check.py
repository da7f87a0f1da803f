"""A whole collection held against the log: its row, its live generations, its index; and put right where it can be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from projector.catalogue_check import CatalogueFault, catalogue_faults
from projector.event_log import EventLog
from projector.generations import Generation, read_generations
from projector.recall import recall_at_10
from projector.repair import repair_active, repair_differing
from projector.replay_targets import Target
from projector.replays import Checks
from projector.settings import ProjectorSettings
from projector.verification import Compared, Verification, compare
from shared.postgres import Connection


@dataclass(frozen=True, slots=True)
class GenerationReport:
    """`repaired`: so many vectors were projected anew; `compared` is of afterwards then."""

    compared: Compared
    recall_at_10: float | None
    min_recall: float
    repaired: int = 0

    @property
    def is_well(self) -> bool:
        return self.compared.is_same and (self.recall_at_10 is None or self.recall_at_10 >= self.min_recall)

    def as_json(self) -> dict[str, Any]:
        recall = None if self.recall_at_10 is None else round(self.recall_at_10, 4)
        measured = {"recall_at_10": recall, "min_recall": self.min_recall}
        return {**self.compared.as_json(), **measured, "repaired": self.repaired}


@dataclass(frozen=True, slots=True)
class CollectionReport:
    """`faults` are of the catalogue; with one of its tables nothing is compared. With an `error`, a sentence, it could
    not be looked at."""

    collection_id: UUID
    name: str
    faults: Sequence[CatalogueFault] = ()
    generations: Sequence[GenerationReport] = ()
    error: str | None = None

    @property
    def is_well(self) -> bool:
        return self.error is None and not self.faults and all(one.is_well for one in self.generations)

    def as_json(self) -> dict[str, Any]:
        return {
            "collection": self.name,
            "collection_id": str(self.collection_id),
            "ok": self.is_well,
            "faults": [{"kind": fault.kind, "detail": fault.detail} for fault in self.faults],
            "generations": [one.as_json() for one in self.generations],
            "error": self.error,
        }


@dataclass(frozen=True, slots=True)
class CollectionCheck:
    """`connection` is a session of its own to the read database itself, with pgvector's codecs. `report` is told of the
    position that is folded, and the one that is aimed at."""

    connection: Connection
    log: EventLog
    settings: ProjectorSettings
    target: Target
    checks: Checks
    report: Callable[[int, int], None] = lambda _position, _target: None

    async def run(self, *, repair: bool) -> CollectionReport:
        """What is found; with `repair`, what is left of it.

        Raises:
            GenerationGoneError: the collection was deleted meanwhile.
            VerificationFailedError
        """
        faults = await self._faults()
        if repair and any(fault.kind == "generation" for fault in faults):
            await repair_active(self.connection, self.target.collection_id)
            faults = await self._faults()
        if any(fault.kind == "tables" for fault in faults):
            return CollectionReport(self.target.collection_id, self.target.name, faults)
        live = await read_generations(self.connection, self.target.collection_id)
        reports = [
            await self._check(generation, repair=repair)
            for generation in live
            if generation.state in {"active", "kept"}
        ]
        return CollectionReport(self.target.collection_id, self.target.name, faults, reports)

    async def _faults(self) -> list[CatalogueFault]:
        return await catalogue_faults(self.connection, self.log, self.target.collection_id)

    async def _check(self, generation: Generation, *, repair: bool) -> GenerationReport:
        verification = Verification(self.connection, self.log, self.settings, self.checks.sample, self.report)
        found = await compare(verification, generation.collection_id, generation.number)
        repaired = 0
        if repair and found.differing:
            repaired = await repair_differing(self.connection, self.log, generation)
            found = await compare(verification, generation.collection_id, generation.number)
        recall = await recall_at_10(self.connection, generation, self.settings, self.checks.queries)
        return GenerationReport(found, recall, self.checks.min_recall, repaired)
