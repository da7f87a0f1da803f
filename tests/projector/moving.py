"""Random histories of a collection that moves from spec to spec, as the command service could have appended them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hypothesis import strategies as st

from events_schema.embedding import EmbeddingSpec
from projector.generations import read_active
from tests.projector.log_writer import LogWriter, NewCollection
from tests.projector.projecting import Projection, projector_settings, running_consumer, running_upkeep, until

SMALL = EmbeddingSpec(provider="client", model=None, dimension=4)
LARGE = EmbeddingSpec(provider="openai", model="large", dimension=3)
TWIN = EmbeddingSpec(provider="openai", model="twin", dimension=4)
"""Of the dimension of the first."""

_SPECS = (SMALL, LARGE, TWIN)
_IDS = ("a", "b", "c", "d", "e")

Kind = Literal["write", "metadata", "embedding", "delete", "reembed", "move", "complete", "over", "describe"]
_KINDS: tuple[Kind, ...] = (
    "write",
    "metadata",
    "embedding",
    "delete",
    "reembed",
    "move",
    "complete",
    "over",
    "describe",
)


@dataclass(frozen=True)
class Move:
    """An intention; what it appends depends on what is there by then."""

    kind: Kind
    vector_id: str
    number: int


moves = st.lists(
    st.builds(Move, st.sampled_from(_KINDS), st.sampled_from(_IDS), st.integers(1, 90)), min_size=5, max_size=40
)

THERE_AND_BACK = [
    *(Move("write", vector_id, number) for number, vector_id in enumerate(_IDS, start=1)),
    Move("delete", "e", 1), Move("move", "a", 1), Move("write", "a", 10), Move("embedding", "b", 11),
    Move("embedding", "c", 12), Move("write", "e", 13), Move("reembed", "d", 14), Move("complete", "a", 1),
    Move("write", "d", 15), Move("over", "a", 1), Move("write", "a", 16), Move("metadata", "c", 17),
    Move("delete", "b", 1), Move("write", "b", 18), Move("move", "a", 3), Move("metadata", "a", 19),
    Move("complete", "a", 1), Move("embedding", "a", 20), Move("over", "a", 1), Move("write", "c", 21),
    Move("delete", "d", 1),
]  # fmt: skip
"""From the first spec to another and back, each move to its end."""


@dataclass
class MovingHistory:
    """`live`: the specs that writes bring, the target first, and whether each is complete. `vectors`: under which live
    specs each has an embedding that counts."""

    log: LogWriter
    collection: NewCollection
    live: dict[EmbeddingSpec, bool] = field(default_factory=lambda: {SMALL: True})
    vectors: dict[str, set[EmbeddingSpec]] = field(default_factory=dict)

    async def play(self, steps: Sequence[Move]) -> None:
        for step in steps:
            await self._step(step)

    async def _step(self, step: Move) -> None:
        log, collection, vector_id = self.log, self.collection, step.vector_id
        there = self.vectors.get(vector_id)
        target = next(iter(self.live))
        match step.kind:
            case "write" if there is None:
                await log.create(collection, vector_id, content=str(step.number), under=self._all(step.number))
                self.vectors[vector_id] = set(self.live)
            case "write":
                await log.update(collection, vector_id, content=str(step.number), under=self._all(step.number))
                self.vectors[vector_id] = set(self.live)
            case "metadata" if there is not None:
                await log.update(collection, vector_id, metadata={"n": step.number})
            case "embedding" if there is not None:
                spec = list(self.live)[step.number % len(self.live)]
                await log.update(collection, vector_id, under={spec: numbers(step.number, spec)})
                there.add(spec)
            case "delete" if there is not None:
                await log.delete(collection, vector_id)
                del self.vectors[vector_id]
            case "reembed" if there is not None and target not in there:
                await self._reembed(vector_id, step.number)
            case "move":
                await self._move(_SPECS[step.number % 3])
            case "complete" if not self.live[target]:
                for one in [one for one, specs in self.vectors.items() if target not in specs]:
                    await self._reembed(one, step.number)
                await log.complete(collection, target)
                self.live[target] = True
            case "over" if self.live[target] and len(self.live) > 1:
                await log.change_collection(collection, other_specs=())
                self._are_live({target: True})
            case "describe":
                await log.update_collection(collection, str(step.number))
            case _:
                pass  # there is nothing to do it to

    async def _move(self, to: EmbeddingSpec) -> None:
        target = next(iter(self.live))
        if to == target or (to not in self.live and self.live[target] and len(self.live) > 1):
            return
        others = [spec for spec, complete in self.live.items() if spec != to and (complete or to in self.live)]
        await self.log.move(self.collection, to, *others[:1])
        self._are_live({spec: self.live.get(spec, False) for spec in (to, *others[:1])})

    async def _reembed(self, vector_id: str, number: int) -> None:
        target = next(iter(self.live))
        await self.log.reembed(self.collection, vector_id, {target: numbers(number + 100, target)})
        self.vectors[vector_id].add(target)

    def _are_live(self, live: dict[EmbeddingSpec, bool]) -> None:
        self.live = live
        for specs in self.vectors.values():
            specs.intersection_update(live)

    def _all(self, number: int) -> dict[EmbeddingSpec, Any]:
        return {spec: numbers(number, spec) for spec in self.live}


def numbers(number: int, spec: EmbeddingSpec) -> list[float]:
    """Other ones for each spec."""
    return [number, _SPECS.index(spec) + 1, *[1.0] * (spec.dimension - 2)]


def is_settled(projection: Projection, collection: NewCollection) -> Callable[[], Awaitable[bool]]:
    """Whether all is projected, and searches read the spec that every vector has an embedding under."""

    async def is_it() -> bool:
        if not await projection.caught_up():
            return False
        row = await projection.read.fetchrow(
            "SELECT embedding_spec, spec_since FROM collections WHERE collection_id = $1", collection.collection_id
        )
        assert row is not None
        served = EmbeddingSpec.model_validate_json(row["embedding_spec"])
        [active] = await read_active(projection.read, [collection.collection_id])
        return (active.shape.spec, active.shape.spec_since) == (served, row["spec_since"])

    return is_it


async def settle(projection: Projection, collection: NewCollection) -> None:
    settings = projector_settings(projection.databases, batch_max_events=7)
    async with running_consumer(settings), running_upkeep(settings):
        await until(is_settled(projection, collection), "searches do not read the spec that is complete")
