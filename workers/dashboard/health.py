"""Metrics and health of the dashboard's own process, at the addresses that every process has."""

from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from workers.dashboard.guard import METRICS
from workers.dashboard.state import dashboard_of
from workers.metrics.exposition import CONTENT_TYPE, exposition
from workers.metrics.serving import closed, may_scrape, readiness_answer


async def _metrics(request: Request) -> Response:
    dashboard = dashboard_of(request)
    if not may_scrape(request, dashboard.address, dashboard.settings.api_token):
        return closed()
    return Response(exposition(dashboard.measured.read(), {"dashboard"}), media_type=CONTENT_TYPE)


async def _healthz(_request: Request) -> Response:
    return PlainTextResponse("ok")


async def _readyz(request: Request) -> Response:
    return readiness_answer(await dashboard_of(request).readiness.now())


ROUTES: Final = [Route(METRICS, _metrics), Route("/healthz", _healthz), Route("/readyz", _readyz)]
