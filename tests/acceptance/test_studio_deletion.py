"""What goes with a deleted generation of studio, what stays, and what becomes of the objects."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from config.postgres_url import parse_postgres_url
from models.applications import registry
from models.applications.studio.application import application
from models.database import Database
from pipelines.errors import MissingObjectError
from pipelines.settings import Settings
from tests.support.patience import within
from tests.support.studio_fleet import ForkedStudioWorkers, producer, studio
from workers.periodic.engine import PeriodicEngine
from workers.periodic.registry import periodic_tasks

__all__ = ["producer", "studio"]

ACTIONS = ("NO ACTION", "RESTRICT", "CASCADE", "SET NULL", "NO ACTION DEFERRABLE INITIALLY DEFERRED")


@pytest.fixture(scope="module", autouse=True)
def workers(studio):
    """One worker process for all tests of this module."""
    return studio.start(1, kind=ForkedStudioWorkers)


async def made(producer, user, count=1):
    """Return the id of a completed generation, and the ids and keys of its results."""
    row = await producer.ended(await producer.order(user, count=count))
    assert row["status"] == "completed"
    return row["_id"], [(one["_id"], one["storageId"]) for one in await producer.results(row["_id"])]


async def delete(producer, job):
    await producer.execute("DELETE FROM generations WHERE _id = $1", job)
    assert await producer.row(job) == {}


async def is_there(producer, file):
    return await producer.fetchval("SELECT EXISTS (SELECT FROM files WHERE _id = $1)", file)


async def test_results_of_a_deleted_generation_go_with_it_and_what_others_wrote_stays(producer):
    user = await producer.user()
    job, results = await made(producer, user, count=2)
    own = await producer.file(user, f"studio/{user}/{job}-3-0123456789abcdef.jpg", category="generated_image")
    await producer.execute(
        """UPDATE generations SET "resultImageFiles" = "resultImageFiles" || $2::text WHERE _id = $1""", job, own
    )
    entries = await producer.entries(user)

    await delete(producer, job)

    assert [await is_there(producer, file) for file, _ in results] == [False, False]
    assert await is_there(producer, own)
    assert await producer.entries(user) == entries == [("charge", -4)]
    assert [action for action, _ in await producer.usage(job)] == ["generation_started", "generation_completed"]


async def test_result_that_another_generation_works_on_stays(producer):
    user = await producer.user()
    job, [(file, _), (other, _)] = await made(producer, user, count=2)
    await producer.execute("UPDATE files SET category = 'product_image' WHERE _id = $1", file)
    worker = await producer.order(user, productImageFiles=[file], status="uploading")

    await delete(producer, job)

    assert (await is_there(producer, file), await is_there(producer, other)) == (True, False)
    await producer.set(worker, status="pending")
    assert (await producer.ended(worker))["status"] == "completed"


async def test_result_to_which_another_row_refers_stays_and_so_does_that_row(producer):
    user = await producer.user()
    for number, action in enumerate(ACTIONS):
        await producer.execute(f"CREATE TABLE shared_{number} (file text REFERENCES files (_id) ON DELETE {action})")
    for number, action in enumerate(ACTIONS):
        job, [(file, _), (other, _)] = await made(producer, user, count=2)
        await producer.execute(f"INSERT INTO shared_{number} VALUES ($1)", file)

        await delete(producer, job)

        assert (action, await is_there(producer, file), await is_there(producer, other)) == (action, True, False)
        assert await producer.fetchval(f"SELECT file FROM shared_{number}") == file
    await producer.execute("".join(f"DROP TABLE shared_{number};" for number in range(len(ACTIONS))))


async def test_result_whose_deletion_the_application_refuses_stays(producer):
    user = await producer.user()
    job, [(file, key), (other, _)] = await made(producer, user, count=2)
    await producer.execute(
        f"""CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'this picture is in an exhibition'; END $$;
            CREATE TRIGGER keep BEFORE DELETE ON files FOR EACH ROW WHEN (OLD."storageId" = '{key}')
            EXECUTE FUNCTION keep()"""
    )

    await delete(producer, job)

    await producer.execute("DROP TRIGGER keep ON files; DROP FUNCTION keep")
    assert (await is_there(producer, file), await is_there(producer, other)) == (True, False)


async def test_result_that_another_transaction_holds_stays_and_nobody_waits_for_it(producer):
    user = await producer.user()
    await producer.execute("CREATE TABLE likes (file text REFERENCES files (_id))")
    holder = await asyncpg.connect(producer.studio.url)
    for statement in (
        "SELECT FROM files WHERE _id = '{}' FOR UPDATE",
        "UPDATE files SET url = url || '?' WHERE _id = '{}'",
        "INSERT INTO likes VALUES ('{}')",
    ):
        job, [(file, _), (other, _)] = await made(producer, user, count=2)
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute(statement.format(file))

        with within(5):
            await delete(producer, job)

        await transaction.commit()
        assert (await is_there(producer, file), await is_there(producer, other)) == (True, False)
    await holder.close()
    await producer.execute("DROP TABLE likes")


async def test_user_is_deleted_with_generations_files_and_a_job_in_the_queue(producer):
    user, reader = await producer.user(), await producer.user()
    _, results = await made(producer, user, count=2)
    await made(producer, user)
    await producer.execute("UPDATE files SET category = 'product_image' WHERE _id = $1", results[0][0])
    await producer.order(user, productImageFiles=[results[0][0]], status="uploading")
    kept, kept_results = await made(producer, reader)

    await producer.execute("DELETE FROM users WHERE _id = $1", user)

    for table in ("generations", "files", "usage"):
        assert (table, await producer.fetchval(f'SELECT count(*) FROM {table} WHERE "userId" = $1', user)) == (table, 0)
    assert await producer.fetchval("SELECT count(*) FROM darkroom.job_queue WHERE user_id = $1", user) == 0
    assert await is_there(producer, kept_results[0][0])
    assert (await producer.row(kept))["status"] == "completed"


async def test_objects_without_a_name_are_reported_and_removed_only_where_that_is_switched_on(producer):
    user = await producer.user()
    job, [(_, gone), (file, named)] = await made(producer, user, count=2)
    young_job, [(_, young)] = await made(producer, user)
    await producer.execute("CREATE TABLE shared (file text REFERENCES files (_id))")
    await producer.execute("INSERT INTO shared VALUES ($1)", file)
    uploads = [f"uploads/{user}/unnamed.png", f"studio/{user}/{job}-9-0123456789abcdef.jpg", f"inputs/{user}/x.png"]
    for key in uploads:
        await producer.studio.put(key, b"theirs")
    await delete(producer, job)
    await delete(producer, young_job)
    now = datetime.now(UTC)
    await producer.execute(
        "UPDATE darkroom.objects SET written_at = $2 WHERE key = ANY ($1)", [gone, named], now - timedelta(days=2)
    )

    assert (await collect(producer.studio, now))["reported"] == 1
    assert await producer.fetch("SELECT key FROM darkroom.orphans WHERE key LIKE '%' || $1 || '%'", user) == [(gone,)]
    assert (await collect(producer.studio, now + timedelta(minutes=1)))["removed"] == 0
    assert await exists(producer, gone)
    assert (await collect(producer.studio, now + timedelta(minutes=2), orphans="delete"))["removed"] == 1
    assert not await exists(producer, gone)
    for key in (named, young, *uploads):
        assert (key, await exists(producer, key)) == (key, True)
    assert await producer.fetchval("SELECT count(*) FROM darkroom.orphans WHERE key = ANY ($1)", uploads) == 0
    await producer.execute("DROP TABLE shared")


async def collect(studio, at, **settings):
    """Run the task as a scheduler's tick does that was due at a time; return its counts."""
    registry.use([application("public")])
    database = Database(parse_postgres_url(studio.url), most_connections=2)
    await database.open()
    made_settings = Settings(**settings)
    engine = PeriodicEngine(database, studio.storage, made_settings, periodic_tasks(made_settings))
    try:
        return await engine.run_extra("collect-orphans", at)
    finally:
        await database.close()


async def exists(producer, key):
    try:
        await producer.studio.storage.head(key)
    except MissingObjectError:
        return False
    return True
