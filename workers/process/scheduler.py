"""The scheduler process: opens the runtime, and runs the loops until it is told to stop."""

import asyncio
import contextlib
import signal
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import uvloop

from config.logger import EventLogger
from pipelines.settings import Settings
from workers.metrics.health import DatabaseHealth, stopping
from workers.operations.gauges import read_gauges
from workers.operations.schedule import require_allowed_policies
from workers.process.compose import open_runtime, warn_if_unheard
from workers.process.fair_terms import warn_of_differing_terms
from workers.process.reaper import reaper
from workers.process.scheduler_loops import Scheduler
from workers.process.stopping import unless_stopping
from workers.services.services import Services

if TYPE_CHECKING:
    from workers.metrics.serving import Serving

log = EventLogger(__name__)


def run(settings: Settings, services: Services, on_ready: Callable[[], None], serving: "Serving | None" = None) -> int:
    """Run a scheduler until SIGTERM or SIGINT; return the exit code. Only in a main thread.

    Args:
        settings: the settings.
        services: the services that this process has opened.
        on_ready: called once the scheduler runs.
        serving: serves the scheduler's metrics and health; None: nobody asks.
    """
    reaper.begin()
    return uvloop.run(_run(settings, services, on_ready, serving))


async def _run(settings: Settings, services: Services, on_ready: Callable[[], None], serving: "Serving | None") -> int:
    stops = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stops.set)
    if serving is not None:
        serving.watch(loop)
    async with contextlib.AsyncExitStack() as stack:
        scheduler = await unless_stopping(_open(settings, services, stack, serving, stops), stops)
        if scheduler is not None:
            log.info("scheduler_started")
            on_ready()
            await scheduler.run(stops)
    log.info("scheduler_stopped")
    return 0


async def _open(
    settings: Settings,
    services: Services,
    stack: contextlib.AsyncExitStack,
    serving: "Serving | None",
    stops: asyncio.Event,
) -> Scheduler:
    runtime = await stack.enter_async_context(open_runtime(settings, services))
    await warn_if_unheard(runtime.database)
    await warn_of_differing_terms(runtime.database, settings)
    await require_allowed_policies(runtime.database, settings)
    if serving is None:
        return Scheduler(runtime)
    looks = (DatabaseHealth(runtime.database).look, stopping(stops.is_set))
    serving.add_scheduler(partial(read_gauges, runtime), *looks)
    return Scheduler(runtime, serving.recording)
