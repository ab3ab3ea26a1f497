"""The page Overview, and the stream that tells of its changes."""

from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from models.applications.registry import job_tables
from models.history.failures import Failure
from models.queue.job_names import key_of
from workers.dashboard.names import segment
from workers.dashboard.plots import jobs_plot, waiting_plot
from workers.dashboard.rendering import page
from workers.dashboard.state import Dashboard, dashboard_of
from workers.dashboard.streams import changes, signed_in, stream
from workers.operations.overview import MINUTES, MOST_FAILURES, Overview, overview
from workers.presentation.overview import is_scheduler_seen, overview_fields
from workers.presentation.values import json_text
from workers.process.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Shown:
    """What all overviews show, and the same as JSON."""

    overview: Overview
    text: str


async def _read(runtime: Runtime) -> Shown:
    found = await overview(runtime)
    return Shown(found, json_text(overview_fields(found)))


async def read_overview(dashboard: Dashboard) -> Shown:
    """Return the overview, which is read once for all who look."""
    return await dashboard.once("overview", _read)


async def _overview(request: Request) -> Response:
    shown = (await read_overview(dashboard_of(request))).overview
    now = shown.queues.moment.now
    return page(
        request,
        "overview.html",
        name="Overview",
        shown=shown,
        stats=shown.queues.stats,
        plots=[
            jobs_plot(shown.ends, now, minutes=MINUTES),
            waiting_plot(shown.waiting, now, minutes=MINUTES),
        ],
        is_scheduler_seen=is_scheduler_seen(shown.queues.moment),
        most_failures=MOST_FAILURES,
        job_url=job_url,
    )


def job_url(failure: Failure) -> str:
    """Return the URL of the page of a job that failed."""
    if len(job_tables()) == 1:
        return f"/jobs/{segment(failure.job_id)}"
    try:
        return f"/jobs/{segment(key_of(failure.job_type, failure.job_id).full_name)}"
    except KeyError:  # its application isn't drained any more
        return f"/jobs/{segment(failure.job_id)}"


async def _events(request: Request) -> Response:
    dashboard = dashboard_of(request)

    async def text() -> str:
        return (await read_overview(dashboard)).text

    return stream(changes(dashboard.stopping, "overview", text, signed_in(request)))


ROUTES: Final = [Route("/", _overview), Route("/events", _events)]
