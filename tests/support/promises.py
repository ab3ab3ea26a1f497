"""Fixtures that check the database after every test of the folders whose conftest imports them."""

from collections.abc import AsyncIterator

import pytest

from models.database import Database
from tests.support.builders import money_violations

__all__ = ["damage", "promises"]


@pytest.fixture
def damage() -> None:
    """A test that breaks promises on purpose takes this fixture, so that nothing is checked after it."""


@pytest.fixture(autouse=True)
async def promises(database: Database, request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """After every test the money is sound, and no finished job is queued."""
    yield
    if "damage" in request.fixturenames:
        return
    assert await money_violations(database) == []
    assert (
        await database.fetch(
            """SELECT q.job_id, j.status FROM darkroom.job_queue q
               JOIN darkroom.jobs j ON j.id = q.job_id AND j.type = q.job_type WHERE darkroom.is_terminal(j.status)"""
        )
        == []
    )
