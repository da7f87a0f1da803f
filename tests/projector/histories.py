"""Random histories that the command service could have appended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from tests.projector.log_writer import LogWriter, NewCollection

_IDS = ("a", "b", "c")
_NAMES = ("left", "right")
_KINDS = (
    "upsert", "upsert", "content", "metadata", "embedding", "expires_at", "delete", "describe", "retention", "alias",
    "recreate collection",
)  # fmt: skip


@dataclass(frozen=True)
class Step:
    """An intention; what it appends depends on what is there by then."""

    name: str
    vector_id: str
    kind: str
    number: int


steps = st.lists(
    st.builds(
        Step,
        st.sampled_from(_NAMES),
        st.sampled_from(_IDS),
        st.sampled_from(_KINDS),
        st.integers(1, 100),
    ),
    max_size=25,
)


class History:
    """Appends only what the command service could have appended."""

    def __init__(self, log: LogWriter, suffix: str) -> None:
        self._log = log
        self._suffix = suffix
        self._aliased: str | None = None
        """The name of the collection that the one alias stands for."""
        self._live: dict[str, tuple[NewCollection, set[str]]] = {}

    async def play(self, steps: list[Step]) -> None:
        for step in steps:
            if step.name not in self._live:
                self._live[step.name] = (await self._log.create_collection(step.name + self._suffix), set())
            collection, vectors = self._live[step.name]
            await self._step(step, collection, vectors)

    def live(self) -> list[NewCollection]:
        return [collection for collection, _ in self._live.values()]

    async def _step(self, step: Step, collection: NewCollection, vectors: set[str]) -> None:
        there = step.vector_id in vectors
        match step.kind:
            case "upsert" if not there:
                await self._log.create(
                    collection, step.vector_id, (step.number, 1, 2, 3), f"content {step.number}", {"n": step.number}
                )
                vectors.add(step.vector_id)
            case "delete" if there:
                await self._log.delete(collection, step.vector_id)
                vectors.discard(step.vector_id)
            case "upsert" | "content" | "metadata" | "embedding" | "expires_at" if there:
                await self._log.update(collection, step.vector_id, **_changes(step))
            case "describe":
                await self._log.update_collection(collection, f"described {step.number}")
            case "retention":
                seconds = step.number if step.number % 2 else None
                await self._log.change_collection(collection, retention_seconds=seconds)
            case "alias":
                await self._log.set_alias("alias" + self._suffix, collection)
                self._aliased = step.name
            case "recreate collection":
                if self._aliased == step.name:
                    await self._log.remove_alias("alias" + self._suffix, collection)
                    self._aliased = None
                await self._log.delete_collection(collection)
                del self._live[step.name]
            case _:
                pass  # there is nothing to update or delete


def _changes(step: Step) -> dict[str, Any]:
    every = {
        "content": None if step.number % 2 else f"changed {step.number}",
        "metadata": {"changed": step.number},
        "embedding": (step.number, 0, 0, 1),
        "expires_at": None if step.number % 3 else datetime(2100, 1, 1, tzinfo=UTC) + timedelta(days=step.number),
    }
    return every if step.kind == "upsert" else {step.kind: every[step.kind]}


def long_history(count: int) -> list[Step]:
    """Always the same steps, of every kind."""
    kinds = ("upsert", "content", "upsert", "metadata", "delete", "upsert", "embedding", "upsert")
    return [
        Step(_NAMES[n % 2], _IDS[(n // 2) % 3], "recreate collection" if n % 53 == 52 else kinds[n * 5 % 8], n)
        for n in range(count)
    ]
