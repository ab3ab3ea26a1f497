"""The pages of pipelines: a list, and one with its JSON."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from models.applications.registry import has_pictures
from workers.dashboard.names import asked_name
from workers.dashboard.rendering import page
from workers.dashboard.state import dashboard_of
from workers.operations.errors import NotFoundError
from workers.operations.pipelines import NEWEST, get_pipeline, newest_pipelines


async def _pipelines(request: Request) -> Response:
    found = await newest_pipelines(dashboard_of(request).reading)
    return page(request, "pipelines.html", name="Pipelines", pipelines=found, has_pictures=has_pictures(), most=NEWEST)


async def _pipeline(request: Request) -> Response:
    given = request.path_params["id"]
    error = NotFoundError(f"pipeline {given} not found; `darkroom pipelines list` shows them")
    pipeline = await get_pipeline(dashboard_of(request).reading, asked_name(given, error))
    return page(request, "pipeline.html", name=pipeline.name or pipeline.id, pipeline=pipeline)


ROUTES: Final = [Route("/pipelines", _pipelines), Route("/pipelines/{id}", _pipeline)]
