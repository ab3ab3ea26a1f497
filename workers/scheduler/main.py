"""The scheduler's process."""

import asyncio
import signal
from collections.abc import Callable

import structlog

from config.embedded.services import Services
from config.settings import Settings
from workers.operations.schedule import require_allowed_policies
from workers.runtime import open_runtime, warn_if_unheard
from workers.scheduler.loops import Scheduler
from workers.unbuilt import warn_of_unbuilt

log = structlog.get_logger(__name__)


def run(settings: Settings, services: Services, on_ready: Callable[[], None]) -> int:
    """Run a scheduler until SIGTERM or SIGINT; return the exit code. Only in a main thread."""
    return asyncio.run(_run(settings, services, on_ready))


async def _run(settings: Settings, services: Services, on_ready: Callable[[], None]) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with open_runtime(settings, services) as runtime:
        await warn_if_unheard(runtime.database)
        warn_of_unbuilt(settings)
        await require_allowed_policies(runtime.database, settings)
        scheduler = Scheduler(runtime)
        log.info("scheduler_started")
        on_ready()
        await scheduler.run(stopping)
    log.info("scheduler_stopped")
    return 0
