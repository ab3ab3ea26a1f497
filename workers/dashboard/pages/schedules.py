"""The page Schedules: periodic tasks, what their last ticks did, and runs by hand."""

from dataclasses import dataclass
from typing import Final

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from models.periodic.ticks import RecentTick
from workers.dashboard.actions import Action, Done, action_routes
from workers.dashboard.names import name_of
from workers.dashboard.rendering import page
from workers.dashboard.state import dashboard_of
from workers.operations.errors import NotFoundError
from workers.operations.schedule import (
    ScheduleRow,
    describe_orphans,
    list_schedules,
    list_ticks,
    require_task,
    run_schedule,
    set_paused,
)
from workers.presentation.steering import counts_words
from workers.process.runtime import Runtime

BACK: Final = "/schedules"
KEPT_S: Final = 2.0
_RUN: Final = (
    "The run is an extra tick beside those of the schedule, and is worked on to its end.",
    "What earlier ticks have done isn't done again.",
)


@dataclass(frozen=True, slots=True)
class Shown:
    """What the page shows."""

    schedules: list[ScheduleRow]
    ticks: list[RecentTick]
    orphans: str


async def _read(runtime: Runtime) -> Shown:
    return Shown(await list_schedules(runtime), await list_ticks(runtime), await describe_orphans(runtime))


async def _schedules(request: Request) -> Response:
    shown = await dashboard_of(request).once("schedules", _read, kept_s=KEPT_S)
    return page(request, "schedules.html", name="Schedules", shown=shown, counts_words=counts_words)


async def _offer(request: Request) -> Action:
    task, verb = _asked(request)
    match verb:
        case "run":
            return Action(f"Run {task}", _RUN, back=BACK)
        case "pause":
            return Action(f"Pause {task}", ("The task doesn't run until it is resumed.",), back=BACK)
        case _:
            sentences = ("The task runs again. For the ticks that it has missed its rule for missed ticks applies.",)
            return Action(f"Resume {task}", sentences, back=BACK)


async def _carry_out(request: Request, _form: FormData, reason: str | None) -> Done:
    task, verb = _asked(request)
    runtime = dashboard_of(request).runtime
    actor = request.state.operator.name
    if verb == "run":
        counts = await run_schedule(runtime, task, actor=actor, reason=reason)
        return Done(BACK, f"{task}: {counts_words(counts) or 'nothing'}")
    await set_paused(runtime, task, is_paused=verb == "pause", actor=actor, reason=reason)
    return Done(BACK, f"{task}: {'paused' if verb == 'pause' else 'goes on'}")


def _asked(request: Request) -> tuple[str, str]:
    """Return the task and the verb that a request names.

    Raises:
        NotFoundError: there is no such task, or verb.
    """
    verb = request.path_params["verb"]
    try:
        task = name_of(request.path_params["name"])
    except ValueError as error:
        raise NotFoundError(str(error)) from error
    if verb not in {"run", "pause", "resume"}:
        raise NotFoundError(f"there is nothing at {request.url.path}")
    require_task(dashboard_of(request).runtime, task)
    return task, verb


ROUTES: Final = [Route("/schedules", _schedules), *action_routes("/schedules/{name}/{verb}", _offer, _carry_out)]
