"""Records of objects that jobs are about to store: those of a moment are one commit, and no job waits for another's."""

import asyncio

import pytest

from models.history.objects import NewObject
from tests.support.patience import HANGS_AFTER_S
from workers.objects import ObjectRecords

SHA = "0" * 64


def new(key, size_bytes=1):
    return NewObject(key, "enhance", f"j-{key}", SHA, size_bytes)


async def recorded(database):
    rows = await database.fetch("SELECT key, job_id, size_bytes FROM darkroom.objects ORDER BY key")
    return [tuple(row) for row in rows]


async def test_objects_of_a_moment_are_recorded_by_one_statement(database):
    records = ObjectRecords(database)

    await asyncio.gather(*(records.add(new(key)) for key in "cab"))

    assert await recorded(database) == [("a", "j-a", 1), ("b", "j-b", 1), ("c", "j-c", 1)]
    assert await database.fetchval("SELECT count(DISTINCT xmin::text) FROM darkroom.objects") == 1


async def test_object_whose_row_is_locked_keeps_no_other_waiting(database, connect, eventually):
    records = ObjectRecords(database)
    await records.add(new("locked"))
    holder = await connect()
    await holder.execute("BEGIN")
    await holder.execute("SELECT FROM darkroom.objects FOR UPDATE")

    waiting = asyncio.create_task(records.add(new("locked", size_bytes=2)))
    async with asyncio.timeout(HANGS_AFTER_S):
        await records.add(new("free"))
    assert not waiting.done()
    await holder.execute("COMMIT")
    async with asyncio.timeout(HANGS_AFTER_S):
        await waiting

    assert await recorded(database) == [("free", "j-free", 1), ("locked", "j-locked", 2)]


async def test_object_that_the_database_refuses_fails_alone(database):
    records = ObjectRecords(database)
    adding = [records.add(new("a")), records.add(new("zero\0")), records.add(new("b"))]

    results = await asyncio.gather(*adding, return_exceptions=True)

    assert [isinstance(result, Exception) for result in results] == [False, True, False]
    assert [key for key, *_ in await recorded(database)] == ["a", "b"]


async def test_two_records_of_one_object_are_both_written(database):
    records = ObjectRecords(database)

    await asyncio.gather(records.add(new("a", 1)), records.add(new("a", 2)))

    ((_, _, size_bytes),) = await recorded(database)
    assert size_bytes in {1, 2}


@pytest.fixture(autouse=True)
async def no_objects(database):
    await database.fetch("DELETE FROM darkroom.objects")
