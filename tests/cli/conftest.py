from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import typer
from typer.testing import CliRunner, Result

from aindusdb.commands import data
from tests.cli.fake_service import FakeService, running

Invoke = Callable[..., Result]


@pytest.fixture
def service() -> Iterator[FakeService]:
    with running(FakeService()) as fake:
        yield fake


@pytest.fixture
def invoke(service: FakeService) -> Invoke:
    """Runs a data command against the fake service."""
    app = typer.Typer(pretty_exceptions_enable=False)
    data.register(app)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--url", service.url])

    return run
