"""A dashboard that serves a test over real sockets, in the test's own event loop."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher
from starlette.types import ASGIApp

from config.network_address import Address
from models.database import Database
from models.operators.operators import insert_operator
from pipelines.settings import Settings
from tests.support.logging_restored import logging_restored  # noqa: F401 - a fixture, found by its name
from workers.dashboard.app import make_pages
from workers.dashboard.guard import Guard
from workers.dashboard.process import open_dashboard
from workers.dashboard.server import address_of, listen, serve
from workers.dashboard.state import Dashboard
from workers.operations.passwords import Passwords
from workers.services.services import Services

SECRET = "a-secret-of-tests-which-signs-everything"
PASSWORD = "correct horse"


class CountingHasher(PasswordHasher):
    """Argon2 that takes no time, and counts how often passwords are verified."""

    def __init__(self, **parameters: int) -> None:
        super().__init__(**{"time_cost": 1, "memory_cost": 8, "parallelism": 1, **parameters})
        self.verified = 0

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # noqa: A002 - the library's own
        self.verified += 1
        return super().verify(hash, password)


@dataclass
class Site:
    """A dashboard that serves."""

    dashboard: Dashboard
    hasher: CountingHasher
    url: str
    stack: AsyncExitStack

    async def browser(self, **headers: str) -> httpx.AsyncClient:
        """Return a browser without cookies, which follows no redirect."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        # otherwise each would read certificates, which takes half a second
        client = httpx.AsyncClient(base_url=self.url, headers=named, timeout=60, verify=False)  # noqa: S501
        return await self.stack.enter_async_context(client)

    async def signed_in(self, name: str = "ada", password: str = PASSWORD) -> httpx.AsyncClient:
        """Return the browser of an operator."""
        browser = await self.browser()
        answer = await sign_in(browser, name, password)
        assert (answer.status_code, "darkroom_session" in browser.cookies) == (303, True), answer.text
        return browser


def csrf_of(page: httpx.Response) -> str:
    """Return the token of a page's forms."""
    found = re.search(r'<meta name="csrf-token" content="([^"]*)">', page.text)
    assert found, page.text
    return found[1]


async def sign_in(browser: httpx.AsyncClient, name: str, password: str, **fields: str) -> httpx.Response:
    """Fill in the form."""
    token = csrf_of(await browser.get("/sign-in"))
    return await browser.post("/sign-in", data={"name": name, "password": password, "csrf_token": token, **fields})


async def add(database: Database, name: str = "ada", role: str = "operator", password: str = PASSWORD) -> None:
    """Insert an operator whose password takes no time to verify."""
    made = CountingHasher().hash(password.encode())
    await database.commit("add_operator", lambda connection: insert_operator(connection, name, role, made))


@asynccontextmanager
async def site_of(
    services: Services, home: Path, pages: Callable[[Dashboard], ASGIApp] = lambda _: make_pages(), **settings: Any
) -> AsyncIterator[Site]:
    """Serve a dashboard for the context."""
    made = Settings(home=home, provider=("local",), **{"secret_key": SECRET, **settings})
    wanted, stopping, hasher = Address("127.0.0.1", 0), asyncio.Event(), CountingHasher()
    async with AsyncExitStack() as stack:
        bound = stack.enter_context(listen(wanted))
        address = address_of(bound, wanted)
        opening = open_dashboard(made, services, address, stopping, passwords=Passwords(hasher))
        dashboard = await stack.enter_async_context(opening)
        token = dashboard.settings.api_token
        guard = Guard(pages(dashboard), dashboard, api_token=None if token is None else token.get_secret_value())
        serving = asyncio.create_task(serve(guard, bound, stopping))
        try:
            async with AsyncExitStack() as browsers:
                yield Site(dashboard, hasher, f"http://{address}", browsers)
        finally:
            stopping.set()
            await serving


@pytest.fixture
def served(database_url: str, redis_url: str, tmp_path: Path) -> Services:
    """The services of a test's dashboards."""
    return Services(
        database_url=database_url,
        database_direct_url=database_url,
        redis_url=redis_url,
        broker_url=redis_url,
        storage_url=(tmp_path / "objects").as_uri(),
        is_embedded=False,
    )


@pytest.fixture
async def site(served: Services, tmp_path: Path) -> AsyncIterator[Site]:
    """A dashboard with the usual settings, and without operators."""
    async with site_of(served, tmp_path) as site:
        yield site
