"""Terms of queues and their order that this process's environment names otherwise than they are recorded."""

from collections.abc import Mapping
from typing import Any

from config.fair_terms import WEIGHTS
from config.logger import EventLogger
from models.database import Database
from models.queue.fair import fair_terms
from models.queue.queues import all_queues, recorded_stage_queues
from pipelines.job_types import stage_names
from pipelines.settings import Settings, variable_name

log = EventLogger(__name__)


async def differing_terms(database: Database, settings: Settings) -> Mapping[str, tuple[str, str]]:
    """Return, by the variable's name, what the environment says and what is recorded, where these differ."""
    order, stage_queues = await database.run(fair_terms), await database.run(recorded_stage_queues)
    recorded: dict[str, Any] = {str(key): value for key, value in order.items()} | {"stage_queues": stage_queues}
    return {
        variable_name(key): (_words(wanted), _words(value))
        for key, value in recorded.items()
        if (wanted := settings.fair_terms().get(key, value)) != value
    }


async def warn_of_differing_terms(database: Database, settings: Settings) -> None:
    """Log a warning for each such term; each process calls this once, at its start. The recorded one holds."""
    for name, (environment, recorded) in (await differing_terms(database, settings)).items():
        log.warning("setting_differs", setting=name, environment=environment, recorded=recorded)


async def warn_of_unknown_queues(database: Database, settings: Settings) -> None:
    """Log a warning for each queue of this worker that no job enters."""
    known = await database.run(all_queues)
    for queue in settings.queues:
        if queue not in known:
            log.warning("queue_unknown", queue=queue, known=known)


def _words(value: object) -> str:
    if not isinstance(value, Mapping):
        return f"{value:g}" if isinstance(value, float) else str(value)
    known = [*WEIGHTS, *stage_names()]  # what is recorded has no order
    names = sorted(value, key=lambda name: known.index(name) if name in known else len(known))
    return ",".join(f"{name}={value[name]}" for name in names) or "none"
