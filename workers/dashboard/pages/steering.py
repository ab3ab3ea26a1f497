"""Actions that pause and resume queues, job types, tiers and providers, for the pages that offer them."""

from typing import Final, cast, get_args

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.routing import Route

from workers.dashboard.actions import Action, Done, action_routes
from workers.dashboard.names import name_of
from workers.dashboard.state import dashboard_of
from workers.operations.errors import NotFoundError
from workers.operations.pauses import Kind, set_paused
from workers.operations.shut_providers import shut_providers
from workers.presentation.steering import pause_words

_WHAT: Final = {
    "queue": "No job of this queue is claimed any more.",
    "type": "No job of this type is claimed any more.",
    "tier": "No job of this tier is claimed any more.",
    "provider": "This provider isn't called any more; if PROVIDER names others, the next one is called instead.",
}
_WAIT: Final = (
    "All workers obey within a second. Running jobs finish. Waiting jobs keep their positions, "
    "and the pause isn't counted in their maximum wait."
)
_GO_ON: Final = {
    "queue": "Jobs of this queue are claimed again.",
    "type": "Jobs of this type are claimed again.",
    "tier": "Jobs of this tier are claimed again.",
    "provider": "This provider may be called again, and its breaker is closed. A wait that it asked for, a spent quota "
    "and a spent budget still keep it from being called.",
}


def pause_routes(path: str) -> list[Route]:
    """Return the routes of pauses below a page's path: `PATH/KIND/NAME/pause` and `PATH/KIND/NAME/resume`."""

    async def offer(request: Request) -> Action:
        kind, name = _scope(request)
        if _is_paused(request):
            return Action(f"Pause {name}", (_WHAT[kind], _WAIT), back=path)
        return Action(f"Resume {name}", (_GO_ON[kind],), back=path)

    async def carry_out(request: Request, _form: FormData, reason: str | None) -> Done:
        kind, name = _scope(request)
        is_paused = _is_paused(request)
        runtime = dashboard_of(request).runtime
        actor = request.state.operator.name
        await set_paused(runtime, [(kind, name)], is_paused=is_paused, actor=actor, reason=reason)
        shut = {}
        if kind == "provider" and not is_paused:
            found = await runtime.database.run(lambda connection: shut_providers(connection, runtime.settings))
            shut = {one.name: one.reason for one in found}
        return Done(path, pause_words(kind, name, is_paused=is_paused, shut=shut))

    return action_routes(path + "/{kind}/{name}/{verb}", offer, carry_out)


def _scope(request: Request) -> tuple[Kind, str]:
    """Return what a request is about.

    Raises:
        NotFoundError: it is about nothing that can be paused.
    """
    kind = request.path_params["kind"]
    try:
        name = name_of(request.path_params["name"])
    except ValueError as error:
        raise NotFoundError(str(error)) from error
    if kind not in get_args(Kind) or request.path_params["verb"] not in {"pause", "resume"}:
        raise NotFoundError(f"there is nothing at {request.url.path}")
    return cast("Kind", kind), name


def _is_paused(request: Request) -> bool:
    return str(request.path_params["verb"]) == "pause"
