"""The generated passwords and signing keys of one data folder."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Self

from aindusdb.local_stack.errors import SecretsMissingError


@dataclass(frozen=True, slots=True)
class Secrets:
    superuser_password: str
    owner_password: str
    command_password: str
    projector_password: str
    query_password: str
    redis_password: str
    signing_keys: str
    """Comma-separated, newest first; base64url of 32 random bytes each."""

    @classmethod
    def generate(cls) -> Self:
        return cls(**{field.name: secrets.token_urlsafe(32) for field in fields(cls)})


def load_or_generate(path: Path, *, databases_exist: bool) -> Secrets:
    """The folder's secrets, made at the first start and kept in `path` with mode 0600.

    Raises:
        SecretsMissingError: the databases are there but their passwords are not.
    """
    try:
        return Secrets(**json.loads(path.read_text()))
    except FileNotFoundError as error:
        if databases_exist:
            raise SecretsMissingError(path, "is missing") from error
    except PermissionError as error:
        raise SecretsMissingError(path, "belongs to another user") from error
    except (ValueError, TypeError) as error:
        raise SecretsMissingError(path, "is damaged") from error
    generated = Secrets.generate()
    written = path.with_suffix(".new")
    written.unlink(missing_ok=True)
    descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(asdict(generated), file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    written.replace(path)
    return generated
