"""Checks of the connections to PostgreSQL: whether there are enough, and whether notifications arrive."""

from typing import Final

from config.service_settings import MOST_BESIDE_WORKERS
from models.database import Database
from models.queue.listening import cannot_listen
from models.schema.server import connection_limits
from pipelines.settings import Settings
from workers.operations.checks.check import Check

NEAR: Final = 0.8
"""Fraction of a limit from which on a warning is given: during a deploy, old and new processes run side by side."""


async def check_connections(database: Database, settings: Settings) -> Check:
    """Compare the connections that all processes may open with PostgreSQL's limits."""
    if database.is_behind_pooler:
        return Check("connections", "ok", "those of a pooler, which has limits of its own")
    limits = await database.run(connection_limits)
    beside = min(settings.connections, MOST_BESIDE_WORKERS)
    ours = limits.workers * settings.connections + beside
    wanted = {
        "max_connections allows": (limits.server, ours + limits.others),
        "the database allows": (limits.database, ours + limits.others),
        "the role may have": (limits.role, ours),
    }
    sum_of = f"{limits.workers} worker processes of up to {settings.connections} and a scheduler of up to {beside}"
    for who, (limit, most) in wanted.items():
        if limit is not None and limit >= 0 and most > NEAR * limit:
            others = f", with {limits.others} sessions of other programs" if most > ours else ""
            message = f"{who} {limit}, and up to {most} may be open: {sum_of}{others}"
            advice = "lower DARKROOM_CONNECTIONS or DARKROOM_PROCESSES, raise the limit, or put a pooler in front"
            return Check("connections", "warn", message, advice)
    return Check("connections", "ok", f"up to {ours} of ours: {sum_of}")


async def check_listening(database: Database) -> Check:
    """Check whether producers' notifications arrive; without them, workers find jobs up to a second later."""
    if not await cannot_listen(database):
        return Check("listening", "ok", "what producers notify is heard")
    message = "a transaction pooler is in between, so LISTEN hears nothing: jobs start up to a second later"
    return Check("listening", "warn", message, "set DATABASE_DIRECT_URL to the same database past the pooler")
