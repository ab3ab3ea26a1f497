"""The page Actions: what operators did, to what, and why."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from models.history.actions import OF_JOBS, ActionRow
from workers.dashboard.names import segment
from workers.dashboard.rendering import page
from workers.dashboard.state import dashboard_of
from workers.operations.action_lists import actions_page

_PAGES: Final = (
    ("batch_", "/batches/"),
    ("pipeline_", "/pipelines/"),
    ("user_", "/users/"),
    ("tokens_grant", "/users/"),
)


async def _actions(request: Request) -> Response:
    shown = await actions_page(dashboard_of(request).reading, request.query_params.get("cursor") or None)
    return page(request, "actions.html", name="Actions", shown=shown, url_of=url_of)


def url_of(action: ActionRow) -> str | None:
    """Return the URL of the page about an action's target; None if there is no such page."""
    if not action.target:
        return None
    if action.action in OF_JOBS:
        return "/jobs/" + segment(action.target)
    return next((path + segment(action.target) for name, path in _PAGES if action.action.startswith(name)), None)


ROUTES: Final = [Route("/actions", _actions)]
