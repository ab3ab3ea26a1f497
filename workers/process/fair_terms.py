"""Terms of the fair order that this process's environment names otherwise than the database has recorded them."""

from collections.abc import Mapping

from config.logger import EventLogger
from models.database import Database
from models.queue.fair import fair_terms
from pipelines.settings import Settings, variable_name

log = EventLogger(__name__)


async def differing_terms(database: Database, settings: Settings) -> Mapping[str, tuple[str, str]]:
    """Return, by the variable's name, what the environment says and what is recorded, where these differ."""
    recorded = await database.run(fair_terms)
    return {
        variable_name(key): (_words(wanted), _words(value))
        for key, value in recorded.items()
        if (wanted := settings.fair_terms().get(key, value)) != value
    }


async def warn_of_differing_terms(database: Database, settings: Settings) -> None:
    """Log a warning for each such term; each process calls this once, at its start. The recorded one holds."""
    for name, (environment, recorded) in (await differing_terms(database, settings)).items():
        log.warning("setting_differs", setting=name, environment=environment, recorded=recorded)


def _words(value: object) -> str:
    if not isinstance(value, Mapping):
        return f"{value:g}" if isinstance(value, float) else str(value)
    return ",".join(f"{name}={number}" for name, number in value.items()) or "none"
