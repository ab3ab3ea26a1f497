"""The applications of a database, for commands: what is recorded of them, and what is wrong with a description."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from config.application_names import parse_entry
from models.schema.migrations import applications, files


async def recorded_applications(engine: AsyncEngine) -> Sequence[Mapping[str, Any]] | None:
    """Return what is recorded of each application (`models.applications.recorded`); None before the first upgrade."""
    async with engine.connect() as connection:
        return await connection.run_sync(applications.recorded_applications)


async def faults_of(engine: AsyncEngine, entry: str) -> list[str]:
    """Return a line for each fault of an application that an entry of DARKROOM_APPLICATION names; none if it is well.

    Nothing is changed, and nothing of a file's SQL is run.

    Raises:
        ValueError: it is no such entry.
    """
    parsed = parse_entry(entry)
    async with engine.connect() as connection:
        return await connection.run_sync(lambda sync: applications.faults_of_entry(sync, parsed))


async def faults_of_recorded(engine: AsyncEngine) -> dict[str, list[str]]:
    """Return the faults of each recorded application by its name, a file's by the file's name."""
    async with engine.connect() as connection:
        return await connection.run_sync(applications.faults_of_recorded)


async def file_differences(engine: AsyncEngine) -> list[str]:
    """Return a sentence for each operator's file on this machine that differs from what is recorded of it."""
    recorded = await recorded_applications(engine) or ()
    return [line for one in recorded if "source" in one for line in files.differences(one)]
