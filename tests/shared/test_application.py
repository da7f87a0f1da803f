"""What holds for every route of a service, whatever it does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated

import pytest
from fastapi import APIRouter, Depends, FastAPI
from prometheus_client import CollectorRegistry

from shared.http.application import BlockingRouteError, UndeclaredRouteError, create_application, permission
from shared.principal import Permission
from shared.settings import HttpSettings


@asynccontextmanager
async def _lifespan(_application: FastAPI) -> AsyncIterator[None]:
    yield


def _application(router: APIRouter) -> FastAPI:
    return create_application(
        title="t",
        version="1",
        description="d",
        settings=HttpSettings(signing_keys="key"),
        registry=CollectorRegistry(),
        routers=[router],
        lifespan=_lifespan,
        problem_of=lambda _error: None,
    )


async def _nothing() -> None:
    pass


def test_application_with_a_route_that_declares_no_permission_does_not_start() -> None:
    router = APIRouter()
    router.get("/declared", openapi_extra=permission(Permission.PUBLIC))(_nothing)
    _application(router)
    router.get("/undeclared")(_nothing)
    with pytest.raises(UndeclaredRouteError, match="/undeclared"):
        _application(router)


def _plain() -> int:
    return 1


async def _depending(given: Annotated[int, Depends(_plain)]) -> int:
    return given


@pytest.mark.parametrize("endpoint", [_plain, _depending])
def test_application_whose_requests_would_wait_for_a_thread_does_not_start(endpoint: Callable[..., object]) -> None:
    router = APIRouter()
    router.get("/blocking", openapi_extra=permission(Permission.PUBLIC))(endpoint)
    with pytest.raises(BlockingRouteError, match="/blocking"):
        _application(router)
