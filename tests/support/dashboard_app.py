"""A dashboard for tests of its pages: the pages on a port of loopback, without the guard, as one operator."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
from pydantic import SecretStr
from starlette.types import ASGIApp, Receive, Scope, Send

from config.network_address import Address
from models.operators.operators import Role
from pipelines.settings import Settings
from workers.dashboard.app import make_pages
from workers.dashboard.process import open_dashboard
from workers.dashboard.server import address_of, listen, serve
from workers.dashboard.sessions import Access, Operator
from workers.dashboard.state import Dashboard
from workers.services.instance import EmbeddedInstance
from workers.services.services import Services

SECRET_KEY = "a secret key of tests, which is long enough"


@contextlib.asynccontextmanager
async def shown(
    database_url: str,
    services: EmbeddedInstance,
    *,
    role: Role = "operator",
    settings: Settings | None = None,
    storage_url: str | None = None,
) -> AsyncIterator[httpx.AsyncClient]:
    """Run a dashboard of a database; yield a client of it. Without a storage's URL it has an empty one."""
    made = (settings or Settings()).model_copy(update={"secret_key": SecretStr(SECRET_KEY)})
    wanted, stopping = Address("127.0.0.1", 0), asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        urls = (database_url, database_url, services.redis_url, services.redis_url, storage_url or folder.as_uri())
        places = Services(*urls, is_embedded=False)
        bound = stack.enter_context(listen(wanted))
        address = address_of(bound, wanted)
        dashboard = await stack.enter_async_context(open_dashboard(made, places, address, stopping))
        serving = asyncio.create_task(serve(_As(make_pages(), dashboard, Operator("tester", role)), bound, stopping))
        try:
            async with httpx.AsyncClient(base_url=f"http://{address}", timeout=20) as client:
                yield client
        finally:
            stopping.set()
            await serving


class _As:
    """Answers each request as one of this operator, as the guard does for those who are signed in."""

    def __init__(self, app: ASGIApp, dashboard: Dashboard, operator: Operator) -> None:
        self._app = app
        self._dashboard = dashboard
        self._operator = operator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            access = Access("none", self._operator)
            scope.setdefault("state", {}).update(
                dashboard=self._dashboard, access=access, operator=self._operator, csrf_token="token"
            )
        await self._app(scope, receive, send)
