"""The page Settings: every setting of this process, its value, its default and its meaning."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from config.masking import MASK
from pipelines.settings_table import describe
from workers.dashboard.rendering import page
from workers.dashboard.state import dashboard_of


async def _settings(request: Request) -> Response:
    rows = describe(dashboard_of(request).runtime.settings)
    return page(request, "settings.html", name="Settings", rows=rows, masked=MASK)


ROUTES: Final = [Route("/settings", _settings)]
