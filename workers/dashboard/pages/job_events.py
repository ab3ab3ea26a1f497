"""The stream of a job's progress (web-contract, section 4).

Ids of `progress` are even and that of `end` is odd, so that a browser that connects again is told the end if it hasn't
heard it, and else that there is nothing more.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Final

from sse_starlette import ServerSentEvent
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from models.job_state import JobStatus
from models.queue.job_names import JobKey, job_keys
from models.queue.progress import JobProgress
from workers.dashboard.pages.job import job_name
from workers.dashboard.state import Dashboard, dashboard_of
from workers.dashboard.streams import signed_in, stream, until_over
from workers.metrics.families import WATCHERS
from workers.operations.errors import translated
from workers.operations.explaining import explain_job
from workers.operations.job_streams import JobView, TooManyWatchedError, result_url
from workers.presentation.progress import progress_fields
from workers.presentation.values import json_text
from workers.process.runtime import Runtime

MOST_DIGITS: Final = 15


async def _events(request: Request) -> Response:
    dashboard, name = dashboard_of(request), job_name(request)
    with translated():
        keys = await dashboard.reading.database.run(lambda connection: job_keys(connection, [name]))
    last = request.headers.get("last-event-id", "")
    last_id = int(last) if last.isascii() and last.isdigit() and len(last) <= MOST_DIGITS else 0
    if last_id % 2:
        return Response(status_code=204)
    if name not in keys:
        await explain_job(dashboard.reading, name)  # what is left of a deleted job; or there was none
        deleted = _deleted(name, last_id, dashboard.runtime.settings.max_wait_s)
        return stream(deleted)
    over = until_over(dashboard.stopping, signed_in(request))
    return stream(_following(dashboard, over, name, keys[name], last_id))


async def _following(
    dashboard: Dashboard, over: Coroutine[Any, Any, None], name: str, key: JobKey, last_id: int
) -> AsyncIterator[ServerSentEvent]:
    """Yield an event at once and after each change, until the job or `over` is over."""
    views = dashboard.streams.watch(name, key)
    number, max_wait_s = last_id, dashboard.runtime.settings.max_wait_s
    stopped = asyncio.ensure_future(over)
    following: asyncio.Future[JobView] | None = None
    watchers = dashboard.measured.cell(WATCHERS)
    watchers.add()
    try:
        while True:
            following = asyncio.ensure_future(anext(views))
            await asyncio.wait({following, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                return
            view = following.result()
            data = progress_fields(view, max_wait_s) | {"id": name}
            if view.progress.status is not None:
                number += 2
                yield _event("progress", number, data)
            if view.progress.is_over:
                url = view.progress.url or await _url(dashboard.reading, key, view.progress)
                yield _event("end", number + 1, {**data, "url": url})
                return
    except (TooManyWatchedError, StopAsyncIteration):
        return
    finally:
        watchers.add(-1)
        for one in (following, stopped):
            if one is not None:
                one.cancel()
        if following is not None:
            await asyncio.wait({following})
        await views.aclose()


async def _url(runtime: Runtime, key: JobKey, progress: JobProgress) -> str | None:
    return await result_url(runtime, key) if progress.status == JobStatus.COMPLETED else None


async def _deleted(name: str, last_id: int, max_wait_s: float) -> AsyncIterator[ServerSentEvent]:
    data = progress_fields(JobView(JobProgress(name)), max_wait_s)
    yield _event("end", last_id + 1, {**data, "url": None})


def _event(kind: str, number: int, data: dict[str, Any]) -> ServerSentEvent:
    return ServerSentEvent(data=json_text(data), event=kind, id=str(number))


ROUTES: Final = [Route("/jobs/{id}/events", _events)]
