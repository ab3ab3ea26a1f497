"""Checks of settings that have no effect on this database, or another one than the environment says."""

from models.applications.registry import has_pictures
from models.database import Database
from models.periodic.needs import missing_columns, passed_over
from models.schema.settings import link_pipelines
from pipelines.settings import Settings
from workers.operations.checks.check import Check
from workers.operations.errors import InvalidInputError
from workers.operations.schedule import require_allowed_policies
from workers.periodic.registry import periodic_tasks
from workers.process.fair_terms import differing_terms


async def check_fair_terms(database: Database, settings: Settings) -> Check:
    """Compare caps, weights, head start and queues of stages in the environment with the recorded ones, which hold."""
    differing = await differing_terms(database, settings)
    if not differing:
        return Check("fair order", "ok", "caps, weights, head start and queues of stages are as recorded")
    message = "; ".join(f"{name}={here}, but {there} is recorded" for name, (here, there) in differing.items())
    return Check("fair order", "warn", message, "run `darkroom db upgrade` with this environment to record it")


async def check_retention(database: Database, settings: Settings) -> Check:
    """Check for retention policies that could reach rows that are never deleted."""
    try:
        await require_allowed_policies(database, settings)
    except (InvalidInputError, ValueError) as error:
        return Check("retention", "fail", str(error), "mend DARKROOM_RETENTION: schedulers don't start with it")
    return Check("retention", "ok", "no policy reaches money, audits or jobs")


async def check_passed_over(database: Database, settings: Settings) -> Check:
    """Check for periodic tasks whose tables or columns don't exist."""
    try:
        needs = {task.name: task.needs for task in periodic_tasks(settings)}
    except ValueError as error:
        return Check("tables of tasks", "fail", str(error), "mend the setting: schedulers don't start with it")
    names = [name for names in needs.values() for name in names]
    missing = await database.run(lambda connection: missing_columns(connection, names))
    reasons = [f"{name}: {reason}" for name, columns in needs.items() if (reason := passed_over(columns, missing))]
    if not reasons:
        return Check("tables of tasks", "ok", "every table that a periodic task needs is there")
    advice = "nothing, if the application has no such table; otherwise look whether DARKROOM_RETENTION names it rightly"
    return Check("tables of tasks", "warn", "; ".join(reasons), advice)


async def check_links(database: Database, settings: Settings) -> Check:
    """Compare DARKROOM_LINK_PIPELINES with the recorded value."""
    if not has_pictures():
        return Check("shared pipelines", "ok", "no application here has pipelines")
    recorded = await database.run(link_pipelines)
    if settings.link_pipelines in {None, recorded}:
        return Check("shared pipelines", "ok", f"{recorded}, as recorded")
    message = f"DARKROOM_LINK_PIPELINES={settings.link_pipelines}, but {recorded} is recorded"
    return Check("shared pipelines", "warn", message, "run `darkroom db upgrade` with this environment to record it")
