"""The page Queues: queues, workers and pauses, and what can be paused."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from config.job_terms import DEFAULT_QUEUE
from config.tiers import Tier
from models.applications.registry import job_types
from models.queue.pause_records import LastingPause
from pipelines.providers.registry import PROVIDERS
from workers.dashboard.pages.steering import pause_routes
from workers.dashboard.rendering import page
from workers.dashboard.state import dashboard_of
from workers.operations.pauses import Kind
from workers.operations.queues import small_queue_stats


@dataclass(frozen=True, slots=True)
class Pausable:
    """What an operator may pause, and whether it is paused."""

    kind: Kind
    name: str
    is_paused: bool


async def _queues(request: Request) -> Response:
    read = await dashboard_of(request).once("queues", small_queue_stats)
    stats = read.stats
    paused = {one.name for one in stats.pauses}
    named = {one.queue for one in stats.queues} | {DEFAULT_QUEUE}
    others = sorted((named | _names(stats.pauses, "queue")) - {one.queue for one in stats.queues})
    return page(
        request,
        "queues.html",
        name="Queues",
        read=read,
        stats=stats,
        other_queues=others,
        paused=paused,
        kinds=[
            ("Job types", _pausable("type", [*job_types(), *sorted(_names(stats.pauses, "type"))], paused)),
            ("Tiers", _pausable("tier", [one.value for one in Tier], paused)),
            ("Providers", _pausable("provider", list(PROVIDERS), paused)),
        ],
    )


def _names(pauses: Sequence[LastingPause], kind: Kind) -> set[str]:
    """Return the names of what is paused of a kind."""
    return {one.name.partition(":")[2] for one in pauses if one.name.startswith(f"{kind}:")}


def _pausable(kind: Kind, names: Sequence[str], paused: set[str]) -> list[Pausable]:
    return [Pausable(kind, name, f"{kind}:{name}" in paused) for name in dict.fromkeys(names)]


ROUTES: Final = [Route("/queues", _queues), *pause_routes("/queues")]
