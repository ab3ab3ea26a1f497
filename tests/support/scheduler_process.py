"""A scheduler's engine in a process that tests kill: python -m ... DATABASE_URL FOLDER; prints a line for each look."""

import asyncio
import sys
from pathlib import Path

from config.log import configure_logging
from config.postgres_url import parse_postgres_url
from models.connections import ContentionError, DatabaseLostError
from models.database import Database
from pipelines.settings import Settings
from pipelines.storage.file import FileStorage
from workers.periodic import engine
from workers.periodic.registry import periodic_tasks

engine.FIRST_SIZE = engine.LARGEST_SIZE = 7  # type: ignore[misc]  # many chunks, so that a kill meets one


async def main(url: str, folder: str) -> None:
    settings = Settings(schedules={"regenerate-tokens": "PT1S"}, regeneration="drip", log_level="error")
    configure_logging(settings)
    database = Database(parse_postgres_url(url), most_connections=3)
    await database.open()
    tasks = [task for task in periodic_tasks(settings) if task.name == "regenerate-tokens"]
    periodic_engine = engine.PeriodicEngine(database, FileStorage(Path(folder)), settings, tasks)
    while True:
        try:
            await periodic_engine.run_once()
        except Exception as error:
            if not isinstance(error, DatabaseLostError | ContentionError):
                raise
        print("looked", flush=True)  # noqa: T201 - the test waits for this line
        await asyncio.sleep(0.02)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
