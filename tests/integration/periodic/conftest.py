"""Fixtures of the tests of periodic tasks: a clock that tests set, and a check of the money afterwards."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from models.database import Database
from pipelines.settings import Settings
from pipelines.storage.file import FileStorage
from tests.support.promises import damage, promises
from workers.periodic.engine import PeriodicEngine
from workers.periodic.registry import periodic_tasks

__all__ = ["damage", "promises"]


class PlayedClock:
    """The time by which ticks are due; a test sets it."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    async def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> PlayedClock:
    return PlayedClock()


@pytest.fixture
def storage(tmp_path: Path) -> FileStorage:
    return FileStorage(tmp_path)


@pytest.fixture
def make_engine(database: Database, storage: FileStorage, clock: PlayedClock):
    """Make a process's engine, with settings by field name."""

    def make(own_database: Database = database, **fields: object) -> PeriodicEngine:
        settings = Settings(**fields)  # type: ignore[arg-type]
        return PeriodicEngine(own_database, storage, settings, periodic_tasks(settings), clock=clock)

    return make
