"""A problem's `type` leads to a page, at every service and at the edge, in what is built as in the repository."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from aindusdb.local_stack.edge import EdgeSettings
from aindusdb.local_stack.edge import create_app as create_edge
from aindusdb.local_stack.ports import free_port
from command_service.app import create_app as create_command_service
from command_service.settings import CommandSettings
from query_service.app import create_app as create_query_service
from query_service.settings import QuerySettings
from shared.http.problems import PROBLEMS

ROOT = Path(__file__).parents[2]


def applications() -> dict[str, ASGIApp]:
    """Without their databases, and the edge without its services: the pages are there all the same."""
    nowhere = f"postgresql://127.0.0.1:{free_port()}/nothing"
    away = f"http://127.0.0.1:{free_port()}"
    return {
        "command service": create_command_service(
            CommandSettings(events_dsn=nowhere, signing_keys="test"), CollectorRegistry()
        ),
        "query service": create_query_service(
            QuerySettings(read_dsn=nowhere, signing_keys="test"), CollectorRegistry()
        ),
        "edge": create_edge(EdgeSettings(edge_command_url=away, edge_query_url=away)),
    }


@pytest_asyncio.fixture(params=["command service", "query service", "edge"])
async def person(request: pytest.FixtureRequest) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(applications()[request.param])
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        yield client


async def test_the_type_of_every_problem_is_a_page(person: httpx.AsyncClient) -> None:
    for name, (status, title) in PROBLEMS.items():
        page = await person.get(f"/problems/{name}")
        assert page.status_code == 200, name
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert f"<h1>{name}</h1>" in page.text
        assert f"Status {status}. {title}." in page.text.replace("&#x27;", "'")


async def test_the_list_leads_to_every_page_and_every_page_to_the_list(person: httpx.AsyncClient) -> None:
    listed = await person.get("/problems")
    assert set(links(listed)) == {f"/problems/{name}" for name in PROBLEMS}
    for name in PROBLEMS:
        assert "/problems" in links(await person.get(f"/problems/{name}"))


async def test_no_page_has_a_link_that_leads_nowhere_here(person: httpx.AsyncClient) -> None:
    for target in {link for name in PROBLEMS for link in links(await person.get(f"/problems/{name}"))}:
        assert (await person.get(target)).status_code == 200, target


@pytest.mark.parametrize("name", ["nothing", "README", "..%2FREADME", "validation.md"])
async def test_what_is_no_problem_has_no_page(person: httpx.AsyncClient, name: str) -> None:
    refused = await person.get(f"/problems/{name}")
    # Behind the edge no service answers in this test.
    assert refused.json()["type"] in ("/problems/route-not-found", "/problems/dependency-unavailable")


def links(page: httpx.Response) -> list[str]:
    return re.findall(r'<a href="([^"]*)"', page.text)


def test_a_wheel_has_the_pages_also_when_it_is_built_from_a_source_distribution(tmp_path: Path) -> None:
    build(ROOT, "sdist", tmp_path)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as source:
        source.extractall(tmp_path / "source", filter="data")
    [unpacked] = (tmp_path / "source").iterdir()
    for origin in (ROOT, unpacked):
        built = tmp_path / f"from-{origin.name}"
        build(origin, "wheel", built)
        with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
            assert {f"shared/http/problem_pages/{name}.md" for name in PROBLEMS} <= set(wheel.namelist())


def build(source: Path, target: str, into: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", into], cwd=source, check=True, timeout=60
    )
