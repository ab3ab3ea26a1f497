"""The dashboard as an ASGI application: its routes, its files, and its answers to errors."""

from http import HTTPStatus
from typing import Final

from asyncpg import QueryCanceledError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope
from typing_extensions import override

from workers.dashboard import health, sign_in
from workers.dashboard.actions import status_of
from workers.dashboard.guard import ASSETS, Guard, failure, refused
from workers.dashboard.names import segment
from workers.dashboard.pages import (
    actions,
    batches,
    job,
    job_events,
    job_pictures,
    jobs,
    overview,
    pipelines,
    providers,
    queues,
    schedules,
    settings,
    users,
)
from workers.dashboard.rendering import FOLDER, THEME_COOKIE, THEMES, theme_of
from workers.dashboard.sign_in import path_of_ours
from workers.dashboard.state import Dashboard
from workers.operations.errors import OperationError

THEME_S: Final = 365 * 24 * 3600
YEAR: Final = "public, max-age=31536000, immutable"
SENTENCES: Final = {
    HTTPStatus.NOT_FOUND: "there is no such page",
    HTTPStatus.METHOD_NOT_ALLOWED: "this page can't be asked in this way",
}
SLOW: Final = "the database took too long to answer; load this page again in a moment"


def make_app(dashboard: Dashboard) -> Guard:
    """Return the whole application."""
    token = dashboard.settings.api_token
    return Guard(make_pages(), dashboard, api_token=None if token is None else token.get_secret_value())


def make_pages() -> Starlette:
    """Return the pages, without the guard."""
    return Starlette(
        routes=routes(),
        exception_handlers={
            HTTPException: _no_page,
            OperationError: _not_done,
            QueryCanceledError: _too_slow,
            Exception: failure,
        },
    )


def routes() -> list[BaseRoute]:
    """Return all routes of the dashboard."""
    return [
        *sign_in.ROUTES,
        *health.ROUTES,
        *overview.ROUTES,
        *queues.ROUTES,
        *schedules.ROUTES,
        *providers.ROUTES,
        *settings.ROUTES,
        *actions.ROUTES,
        *batches.ROUTES,
        *users.ROUTES,
        *pipelines.ROUTES,
        *jobs.ROUTES,
        *job_events.ROUTES,
        *job_pictures.ROUTES,
        *job.ROUTES,
        Route("/find", _find),
        Route("/theme", _theme),
        Mount(ASSETS.rstrip("/"), _Files(directory=FOLDER / "static")),
    ]


class _Files(StaticFiles):
    """The files that pages need. Their URLs change with their content, so browsers may keep them."""

    @override
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = YEAR
        return response


async def _find(request: Request) -> Response:
    """Lead from what was typed into "Find a job" to the job's page."""
    asked = request.query_params.get("job", "").strip()
    return RedirectResponse(f"/jobs/{segment(asked)}" if asked else "/jobs", HTTPStatus.SEE_OTHER)


async def _theme(request: Request) -> Response:
    """Choose the next theme, for browsers without scripts."""
    response = RedirectResponse(path_of_ours(request.query_params.get("next")), HTTPStatus.SEE_OTHER)
    following = THEMES[(THEMES.index(theme_of(request)) + 1) % len(THEMES)]
    response.set_cookie(THEME_COOKIE, following, max_age=THEME_S, samesite="strict")
    return response


def _no_page(request: Request, error: Exception) -> Response:
    status = HTTPStatus(error.status_code) if isinstance(error, HTTPException) else HTTPStatus.INTERNAL_SERVER_ERROR
    return refused(request, status, SENTENCES.get(status, status.phrase), name=_name_of(status))


def _not_done(request: Request, error: Exception) -> Response:
    if not isinstance(error, OperationError):
        raise error
    status = HTTPStatus(status_of(error))
    return refused(request, status, str(error), name=_name_of(status))


def _too_slow(request: Request, _error: Exception) -> Response:
    return refused(request, HTTPStatus.SERVICE_UNAVAILABLE, SLOW)


def _name_of(status: HTTPStatus) -> str:
    return "Not found" if status == HTTPStatus.NOT_FOUND else status.phrase
