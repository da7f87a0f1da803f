"""Aliases: what a command makes of the stream of a name, which a collection or an alias bears, never both."""

from __future__ import annotations

from command_service.domain.collections import CollectionState
from command_service.domain.commands import AliasCommand, RemoveAlias, SetAlias
from command_service.domain.refusals import (
    AliasNotFoundError,
    CollectionExistsError,
    CollectionNotFoundError,
    VersionMismatchError,
)
from events_schema.aliases import AliasEvent, AliasRemoved, AliasSet


def decide(state: CollectionState, aim: CollectionState, command: AliasCommand) -> AliasEvent | None:
    """The event that the command causes; None when it changes nothing. `state` is that of the alias's name, `aim` that
    of the collection's name which it is to stand for.

    Raises:
        CollectionNotFoundError, AliasNotFoundError, CollectionExistsError, VersionMismatchError
    """
    match command:
        case SetAlias():
            if aim.live is None:
                raise CollectionNotFoundError(command.collection)
            if state.live is not None:
                raise CollectionExistsError(command.name)
            _expect_version(state, command.name, command.if_version)
            if state.alias is not None and state.alias.collection_id == aim.live.collection_id:
                return None
            return AliasSet(name=command.name, collection=aim.live.name, collection_id=aim.live.collection_id)
        case RemoveAlias():
            if state.alias is None:
                raise AliasNotFoundError(command.name)
            _expect_version(state, command.name, command.if_version)
            return AliasRemoved(name=command.name, collection_id=state.alias.collection_id)


def _expect_version(state: CollectionState, name: str, if_version: int | None) -> None:
    current = state.version if state.alias is not None else 0
    if if_version is not None and if_version != current:
        raise VersionMismatchError(f"the alias {name!r}", if_version, current)
