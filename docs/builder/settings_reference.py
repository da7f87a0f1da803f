"""The settings reference: every variable of every process, from the settings classes themselves."""

from __future__ import annotations

import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from aindusdb.local_stack.edge import EdgeSettings
from command_service.settings import CommandSettings, RelaySettings
from docs.builder.errors import UndescribedSettingError
from docs.builder.markdown import table
from projector.settings import ProjectorSettings
from query_service.settings import QuerySettings
from shared.embedding.settings import EmbeddingSettings
from shared.kafka.settings import KafkaSettings
from shared.settings import HttpSettings, ProcessSettings

_SHARED: Mapping[str, type[BaseSettings]] = {
    "every process": ProcessSettings,
    "both services": HttpSettings,
    "text embedding": EmbeddingSettings,
    "relay and projector": KafkaSettings,
}
_PROCESSES: Mapping[str, type[BaseSettings]] = {
    "command service": CommandSettings,
    "relay": RelaySettings,
    "projector": ProjectorSettings,
    "query service": QuerySettings,
    "edge": EdgeSettings,
}
SETTINGS_GROUPS = (*_SHARED, *_PROCESSES)


def settings_of(group: str) -> str:
    """The settings of one of `SETTINGS_GROUPS`, without those of a group that it belongs to.

    Raises:
        UndescribedSettingError
    """
    model = _SHARED.get(group) or _PROCESSES[group]
    inherited = {
        name
        for shared in _SHARED.values()
        if issubclass(model, shared) and model is not shared
        for name in shared.model_fields
    }
    names = [name for name in model.model_fields if name not in inherited]
    return table(("variable", "value", "default", "meaning"), (_row(model, name) for name in names))


def _row(model: type[BaseSettings], name: str) -> tuple[str, str, str, str]:
    field = model.model_fields[name]
    if not field.description:
        raise UndescribedSettingError(f"{model.__name__}.{name}")
    variable = f"{model.model_config.get('env_prefix', '')}{name}".upper()
    return f"`{variable}`", f"{_kind(field.annotation)}{_bounds(field)}", _default(name, field), field.description


def _kind(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) in (Union, types.UnionType):
        return _kind(next(one for one in get_args(annotation) if one is not type(None)))
    if annotation is SecretStr:
        return "secret text"
    return {int: "integer", float: "number", str: "text", bool: "`true`, `false`", Path: "path"}[annotation]


def _bounds(field: FieldInfo) -> str:
    low, high = "", ""
    for bound in field.metadata:
        match bound:
            case Ge(ge=least):
                low = f"{least:,}"
            case Gt(gt=below):
                low = f"above {below:,}"
            case Le(le=most):
                high = f"{most:,}"
            case _:
                pass
    if high:
        return f", {low} to {high}"
    return f", {low}" if low.startswith("above") else f", at least {low}" if low else ""


def _default(name: str, field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
    if value in (None, ""):
        return ""
    return (
        f"`{value}` ({value / 1024**2:g} MiB)" if isinstance(value, int) and name.endswith("_bytes") else f"`{value}`"
    )
