"""Changing all vectors that a filter matches, in transactions of at most a thousand events.

What matches is read page by page in order of id, each with the version that it has there, and written on the condition
that it still has it: what somebody changes in between stays as it is, and is reported. Under an idempotency key each
transaction is kept under a key of its own, the last one under the key itself. So a request that was cut off is sent
again and goes on behind the last transaction, and one that was whole is answered as before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile

from command_service.domain.commands import CommandContext, VectorOperation
from command_service.domain.refusals import CollectionChangedError, CollectionDeletedError, CollectionNotFoundError
from command_service.matching import Match
from command_service.outcomes import SkippedOutcome, VectorsOutcome
from command_service.service import CommandService, WriteTarget
from shared.freshness import Demand
from shared.read_model.conditions import Filter

TRANSACTION_EVENTS = 1_000
TRANSACTION_BYTES = 4 * 1024 * 1024

_MAX_TRIES = 4
_KEYS_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class ChangeByFilter:
    """`operation` is made for each vector that matches, on the condition of its version. `event_bytes`: how large its
    event becomes at most beside the metadata that the vector has; 0: it holds next to nothing, of these neither.
    `limit`: so many vectors at most."""

    filter: Filter
    operation: Callable[[Match], VectorOperation]
    event_bytes: int
    limit: int


@dataclass(slots=True)
class ChangedByFilter:
    """`limit_reached`: so many matched as are changed at most, so others may match."""

    collection: str = ""
    matched: int = 0
    changed: int = 0
    unchanged: int = 0
    skipped: list[SkippedOutcome] = field(default_factory=list)
    limit_reached: bool = False
    outcomes: list[VectorsOutcome] = field(default_factory=list)
    """Those of transactions that wrote something, or found it written."""

    def add(self, outcome: VectorsOutcome) -> None:
        unchanged = sum(operation.result == "unchanged" for operation in outcome.operations)
        self.collection = outcome.collection or self.collection
        self.matched += len(outcome.operations) + len(outcome.skipped)
        self.changed += len(outcome.operations) - unchanged
        self.unchanged += unchanged
        self.skipped += outcome.skipped
        if outcome.operations:
            self.outcomes.append(outcome)


class ChangingByFilter:
    def __init__(self, service: CommandService) -> None:
        self._service = service
        self._matching = service.matching

    async def count(
        self, context: CommandContext, name: str, wanted: ChangeByFilter, demand: Demand
    ) -> ChangedByFilter:
        """What the change would come to, if nobody wrote meanwhile. It changes nothing.

        Raises:
            As `change`.
        """
        collection = (await self._target(context, name)).collection
        matched = await self._matching.count(collection.collection_id, wanted.filter, wanted.limit, demand)
        return ChangedByFilter(collection.name, matched=matched, limit_reached=matched >= wanted.limit)

    async def change(
        self, context: CommandContext, name: str, wanted: ChangeByFilter, demand: Demand
    ) -> ChangedByFilter:
        """
        Raises:
            CollectionNotFoundError, CollectionChangedError, IdempotencyKeyReusedError
            CollectionDeletedError: it went while the request was under way.
            ForeignTokenError, NotFreshEnoughError, ReadDatabaseUnavailableError: what was written before stays.
        """
        report = ChangedByFilter()
        done, complete = await self._done(context)
        for outcome in done:
            report.add(outcome)
        for tries_left in reversed(range(_MAX_TRIES)):
            if complete:
                break
            target = await (self._same_target(context, done[0]) if done else self._target(context, name))
            report.collection = target.collection.name
            try:
                await self._go_on(context, target, wanted, demand, report, done)
            except CollectionChangedError:
                # By the first transaction: the alias stands for another collection by now.
                if not tries_left:
                    raise
            else:
                break
        report.limit_reached = report.matched >= wanted.limit
        return report

    async def _go_on(
        self,
        context: CommandContext,
        target: WriteTarget,
        wanted: ChangeByFilter,
        demand: Demand,
        report: ChangedByFilter,
        done: Sequence[VectorsOutcome],
    ) -> None:
        after, number, last = max(map(_last_id, done), default=""), len(done), False
        while not last:
            most = min(TRANSACTION_EVENTS, wanted.limit - report.matched)
            found = await self._matching.page(target.collection.collection_id, wanted.filter, after, most + 1, demand)
            page = _fitting(found[:most], wanted.event_bytes)
            last = len(page) == len(found) or report.matched + len(page) == wanted.limit
            number += 1
            if not page and context.idempotency is None:
                return
            outcome = await self._service.write_what_is_left(
                context if last else _numbered(context, number), target, [wanted.operation(match) for match in page]
            )
            report.add(outcome)
            after = max(after, _last_id(outcome))
            # Named by an alias, the collection is the one that this stood for at the first transaction.
            target = replace(target, alias=None)

    async def _target(self, context: CommandContext, name: str) -> WriteTarget:
        target = await self._service.resolve(context.tenant, name)
        if target is None:
            raise CollectionNotFoundError(name)
        return target

    async def _same_target(self, context: CommandContext, before: VectorsOutcome) -> WriteTarget:
        """The collection of an earlier transaction, whatever the request's name stands for by now."""
        assert before.collection is not None
        target = await self._service.resolve(context.tenant, before.collection)
        if target is None or target.collection.collection_id != before.collection_id:
            raise CollectionDeletedError(before.collection)
        return target

    async def _done(self, context: CommandContext) -> tuple[list[VectorsOutcome], bool]:
        """What the same request has written already, in order, and whether that was all."""
        outcomes: list[VectorsOutcome] = []
        if context.idempotency is None:
            return outcomes, False
        while True:
            numbered = [_numbered(context, len(outcomes) + number) for number in range(1, _KEYS_AT_ONCE + 1)]
            found = await self._service.kept_outcomes([context, *numbered])
            outcomes += [outcome for outcome in takewhile(bool, found[1:]) if isinstance(outcome, VectorsOutcome)]
            if found[-1] is None:
                whole = found[0]
                return [*outcomes, whole] if isinstance(whole, VectorsOutcome) else outcomes, whole is not None


def _numbered(context: CommandContext, number: int) -> CommandContext:
    """For one transaction of several. No caller's key has a line feed in it."""
    key = context.idempotency
    return context if key is None else replace(context, idempotency=replace(key, key=f"{key.key}\n{number}"))


def _fitting(page: Sequence[Match], event_bytes: int) -> Sequence[Match]:
    """As many of them, at least one, as make events of about TRANSACTION_BYTES."""
    total = 0
    for index, match in enumerate(page):
        total += event_bytes + (match.metadata_bytes if event_bytes else 0)
        if index and total > TRANSACTION_BYTES:
            return page[:index]
    return page


def _last_id(outcome: VectorsOutcome) -> str:
    """In order of code points, as the pages are."""
    ids = [one.id for one in outcome.operations] + [one.id for one in outcome.skipped]
    return max(ids, default="")
