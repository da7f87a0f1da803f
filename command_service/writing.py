"""What is done with a collection goes by what this process knows of it, and once more where it knew too little: another
process may have changed the collection, or let another one take its name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from command_service.domain.commands import CommandContext
from command_service.domain.refusals import CollectionChangedError, NoPlaceError, SpecChangedError
from command_service.service import CommandService, WriteTarget
from shared.embedding.errors import ProviderUnavailableError
from shared.http.problems import ProblemError

T = TypeVar("T")

UNPREPARED = (ProblemError, SpecChangedError, NoPlaceError, ProviderUnavailableError)
"""What may be due to knowing too little: nothing is wrong with the write, or the model that is away is not needed."""

_MAX_TRIES = 4


async def by_what_it_is(
    service: CommandService,
    context: CommandContext,
    find_target: Callable[[], Awaitable[WriteTarget]],
    attempt: Callable[[WriteTarget], Awaitable[T]],
) -> T:
    """What the attempt comes to, which prepares for its target and writes to it. One that is refused for what the
    target is not any more begins anew.

    Raises:
        CollectionChangedError: it keeps being changed.
        What `find_target` and `attempt` raise.
    """
    for tries_left in reversed(range(_MAX_TRIES)):
        target = await find_target()
        try:
            return await attempt(target)
        except UNPREPARED:
            if not tries_left or not await service.is_outdated(context.tenant, target):
                raise
        except CollectionChangedError:
            if not tries_left:
                raise
    raise AssertionError
