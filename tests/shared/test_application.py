"""What holds for every route of a service, whatever it does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fastapi import APIRouter, FastAPI
from prometheus_client import CollectorRegistry

from shared.http.application import UndeclaredRouteError, create_application, permission
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


def test_application_with_a_route_that_declares_no_permission_does_not_start() -> None:
    router = APIRouter()
    router.get("/declared", openapi_extra=permission(Permission.PUBLIC))(lambda: None)
    _application(router)
    router.get("/undeclared")(lambda: None)
    with pytest.raises(UndeclaredRouteError, match="/undeclared"):
        _application(router)
