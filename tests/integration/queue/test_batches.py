"""Albums: their pictures are submitted, counted, cancelled and tried again together."""

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import pytest

from models.queue.batches import submit_album
from tests.support.builders import (
    balance_of,
    claim_jobs,
    make_image,
    make_pipeline,
    make_user,
    money_violations,
    new_id,
    queue_row,
    set_status,
    waiting_for_locks,
)

SUBMIT = "SELECT darkroom.submit_album($1, $2, $3)"
WITH_KEY = "SELECT darkroom.submit_album($1, $2, $3, idempotency_key => $4)"
REDO = "SELECT darkroom.submit_album($1, $2, $3, redo => true)"
LATER = "SELECT darkroom.submit_album($1, $2, 'FREE', run_at => $3)"
CANCEL = "SELECT darkroom.cancel_batch($1)"
RETRY = "SELECT darkroom.retry_batch($1)"
FINISH = "SELECT darkroom.finish_batches()"
COUNTS = ("total", "waiting", "running", "completed", "failed", "refunded", "cancelled")
SUBMITTER = """
import asyncio, sys, asyncpg

async def main():
    connection = await asyncpg.connect(sys.argv[1])
    await connection.execute("BEGIN")
    statement = "SELECT darkroom.submit_album($1, $2, 'TIER_1K', idempotency_key => 'key')"
    print(await connection.fetchval(statement, *sys.argv[2:]), flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""
ALBUM = """
INSERT INTO public.albums (id, "userId", name, "pipelineId", "defaultTier", "updatedAt")
VALUES ($1, $2, 'Summer ' || $1, $3, 'TIER_2K', darkroom.utc_now())
"""
PLACE = """
INSERT INTO public.album_images (id, "albumId", "imageId", "sortOrder") VALUES ('m' || $2 || $1, $1, $2, $3)
"""


async def make_album(database, user, pictures, pipeline=None):
    album = new_id("a")
    await database.fetch(ALBUM, album, user, pipeline)
    for number, picture in enumerate(pictures):
        await database.fetch(PLACE, album, picture, number)
    return album


@pytest.fixture
async def user(database):
    return await make_user(database)


@pytest.fixture
async def pictures(database, user):
    return [await make_image(database, user) for _ in range(3)]


@pytest.fixture
async def album(database, user, pictures):
    return await make_album(database, user, pictures)


async def progress(database, batch):
    """Return the counters that aren't 0, and whether the batch is finished."""
    (row,) = await database.fetch("SELECT * FROM darkroom.batch_progress($1)", batch)
    return {name: row[name] for name in COUNTS if row[name]}, row["finished_at"] is not None


async def jobs_of(database, batch):
    return await database.fetchval("SELECT job_ids FROM darkroom.batches WHERE id = $1", batch)


async def end(database, batch, *statuses):
    """Let jobs of a batch end so, in their order."""
    for job, status in zip(await jobs_of(database, batch), statuses, strict=False):
        if status == "COMPLETED":
            await set_status(database, job, "PROCESSING")
        await set_status(database, job, status)


async def refused(awaitable):
    with pytest.raises(asyncpg.PostgresError) as caught:
        await awaitable
    return caught.value


async def rows(database):
    return [await database.fetchval(f"SELECT count(*) FROM {table}") for table in (
        "darkroom.batches", "public.image_enhancement_jobs", "darkroom.job_queue", "darkroom.submissions")]  # fmt: skip


async def test_album_is_submitted_charged_and_claimed_in_its_order(database, foreign, user, pictures, album):
    batch = await foreign.fetchval(SUBMIT, user, album, "TIER_1K")

    assert await progress(database, batch) == ({"total": 3, "waiting": 3}, False)
    assert await balance_of(database, user) == 94
    claims = await claim_jobs(database, most=3)
    assert [claim.job_id for claim in claims] == await jobs_of(database, batch)
    found = await database.fetch('SELECT "imageId", tier FROM public.image_enhancement_jobs ORDER BY id')
    assert [tuple(row) for row in found] == [(picture, "TIER_1K") for picture in pictures]
    row = await database.fetchrow("SELECT label, album_id, tier, user_id FROM darkroom.batches")
    assert tuple(row) == (f"Summer {album}", album, "TIER_1K", user)
    assert await progress(database, batch) == ({"total": 3, "running": 3}, False)


async def test_second_call_adds_nothing_and_is_finished_at_once(database, foreign, user, album):
    first = await foreign.fetchval(SUBMIT, user, album, "TIER_1K")
    await end(database, first, "COMPLETED")

    second = await foreign.fetchval(SUBMIT, user, album, "TIER_1K")

    assert second != first
    assert await progress(database, second) == ({}, True)
    assert await balance_of(database, user) == 94


async def test_only_the_same_tier_and_the_same_user_count_and_failed_jobs_do_not(database, foreign, user, album):
    first = await foreign.fetchval(SUBMIT, user, album, "TIER_1K")
    await end(database, first, "COMPLETED", "FAILED", "CANCELLED")

    again = await foreign.fetchval(SUBMIT, user, album, "TIER_1K")
    larger = await foreign.fetchval(SUBMIT, user, album, None)

    assert await progress(database, again) == ({"total": 2, "waiting": 2}, False)
    assert await progress(database, larger) == ({"total": 3, "waiting": 3}, False)
    assert await database.fetchval("SELECT tier FROM darkroom.batches WHERE id = $1", larger) == "TIER_2K"
    assert await money_violations(database) == []


async def test_blend_of_a_picture_is_no_enhancement_of_it(database, foreign, user, pictures, album):
    await foreign.fetchval(
        "SELECT darkroom.submit_enhancement($1, $2, 'TIER_1K', source_image_id => $3)", user, *pictures[:2]
    )

    batch = await foreign.fetchval(SUBMIT, user, album, "TIER_1K")

    assert (await progress(database, batch))[0]["total"] == 3


async def test_redo_takes_what_is_done_and_leaves_what_is_under_way(database, foreign, user, album):
    first = await foreign.fetchval(SUBMIT, user, album, "TIER_1K")
    await end(database, first, "COMPLETED", "COMPLETED")

    batch = await foreign.fetchval(REDO, user, album, "TIER_1K")

    assert await progress(database, batch) == ({"total": 2, "waiting": 2}, False)
    for job in await jobs_of(database, batch):
        row = await queue_row(database, job)
        assert (row["payload"], row["batch_id"]) == ({"is_redone": True}, batch)


async def test_producer_that_is_killed_before_its_commit_leaves_nothing_and_its_key_works(
    database, database_url, foreign, user, album
):
    arguments = (sys.executable, "-c", SUBMITTER, database_url, user, album)
    producer = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE)
    lost = (await producer.stdout.readline()).decode().strip()
    producer.kill()
    await producer.communicate()

    batch = await foreign.fetchval(WITH_KEY, user, album, "TIER_1K", "key")

    assert str(batch) != lost
    assert await rows(database) == [1, 3, 3, 1]
    assert await balance_of(database, user) == 94


async def test_key_returns_the_first_batch_and_refuses_other_arguments(database, foreign, user, album):
    batch = await foreign.fetchval(WITH_KEY, user, album, "TIER_1K", "key")

    assert await foreign.fetchval(WITH_KEY, user, album, "TIER_1K", "key") == batch
    other = await refused(foreign.fetchval(WITH_KEY, user, album, "TIER_2K", "key"))
    single = await refused(
        foreign.fetchval("SELECT darkroom.submit_enhancement($1, 'p', 'TIER_1K', idempotency_key => 'key')", user)
    )

    assert (other.sqlstate, single.sqlstate) == ("22023", "22023")
    assert f"key key was used for batch {batch} with another tier" in str(other)
    assert await rows(database) == [1, 3, 3, 1]


async def test_key_with_a_duration_is_repeated_and_returns_the_first_batch(database, user, album):
    async def submit(hours):
        return await database.commit("submit_album", lambda connection: submit_album(
            *(connection, user, album, "FREE"), pipeline_id=None, redo=False, idempotency_key="key",
            run_at=timedelta(hours=hours)))  # fmt: skip

    batch = await submit(1)

    assert await submit(1) == batch
    assert "with another run_at" in str(await refused(submit(2)))
    assert await rows(database) == [1, 3, 3, 1]


async def test_album_waits_for_its_time_and_a_later_submission_does_not(database, foreign, user, pictures, album):
    run_at = datetime.now(UTC) + timedelta(hours=1)
    async with foreign.transaction():
        batch = await foreign.fetchval(
            "SELECT darkroom.submit_album($1, $2, 'FREE', run_at => $3)", user, album, run_at
        )
        single = await foreign.fetchval("SELECT darkroom.submit_enhancement($1, $2, 'TIER_4K')", user, pictures[0])

    assert [(await queue_row(database, job))["run_at"] for job in await jobs_of(database, batch)] == [run_at] * 3
    row = await queue_row(database, single)
    assert (row["run_at"], row["batch_id"]) == (None, None)


NESTED = """
CREATE FUNCTION public.nested() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.id NOT LIKE 'nested%' THEN
        INSERT INTO public.image_enhancement_jobs (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt")
        VALUES ('nested' || NEW.id, NEW."imageId", NEW."userId", 'TIER_2K', 5, 'PENDING', now());
        PERFORM darkroom.submit_generation(NEW."userId", 'GENERATE', 'FREE', 'a cat', run_at => now() + interval '1 d');
    END IF;
    RETURN NEW; END $$;
"""


@pytest.mark.parametrize("when", ["BEFORE", "AFTER"])
async def test_jobs_that_a_trigger_of_the_application_inserts_meanwhile_are_not_of_the_batch(
    database, foreign, user, pictures, when
):
    pipeline = await make_pipeline(database, user)
    album = await make_album(database, user, pictures, pipeline)
    await database.run(
        lambda connection: connection.execute(f"""{NESTED} CREATE TRIGGER nested {when} INSERT
        ON public.image_enhancement_jobs FOR EACH ROW EXECUTE FUNCTION public.nested()""")
    )
    run_at = datetime.now(UTC) + timedelta(hours=1)

    batch = await foreign.fetchval(
        "SELECT darkroom.submit_album($1, $2, 'FREE', redo => true, run_at => $3)", user, album, run_at
    )

    queued = await database.fetch("SELECT job_id, batch_id, run_at, payload, job_type FROM darkroom.job_queue")
    ours = await jobs_of(database, batch)
    assert {row["job_id"] for row in queued if row["batch_id"] is not None} == set(ours)
    assert {row["job_id"] for row in queued if row["run_at"] == run_at} == set(ours)
    assert {row["job_id"] for row in queued if row["payload"].get("is_redone")} == set(ours)
    nested = await database.fetch("""SELECT q.run_at, j."pipelineId" FROM darkroom.job_queue q
        JOIN public.image_enhancement_jobs j ON j.id = q.job_id WHERE q.job_id LIKE 'nested%'""")
    assert [tuple(row) for row in nested] == [(None, pipeline)] * 3
    assert [row["batch_id"] for row in queued if row["job_type"] == "generate"] == [None] * 3
    await end(database, batch, *["CANCELLED"] * 3)
    assert await database.fetchval(FINISH) == 1


@pytest.mark.parametrize("is_named", [True, False], ids=["named", "the album's"])
async def test_pipeline_is_written_into_each_job(database, foreign, user, pictures, is_named):
    pipeline = await make_pipeline(database, user)
    album = await make_album(database, user, pictures, None if is_named else pipeline)

    await foreign.fetchval(
        "SELECT darkroom.submit_album($1, $2, 'FREE', pipeline_id => $3)", user, album, pipeline if is_named else None
    )

    found = await database.fetch('SELECT DISTINCT "pipelineId" FROM public.image_enhancement_jobs')
    assert [row["pipelineId"] for row in found] == [pipeline]


@pytest.mark.parametrize("privacy", ["PRIVATE", "PUBLIC"])
async def test_album_of_another_user_is_refused_also_a_public_one(database, foreign, user, album, privacy):
    await database.fetch('UPDATE public.albums SET privacy = $1::text::"AlbumPrivacy"', privacy)
    other = await make_user(database)

    error = await refused(foreign.fetchval(WITH_KEY, other, album, "TIER_1K", "key"))

    assert (error.sqlstate, str(error)) == ("42501", f"album {album} is not yours")
    assert await rows(database) == [0, 0, 0, 0]


async def test_pictures_that_the_user_may_not_enhance_are_refused_by_name(database, foreign, user, pictures):
    other = await make_user(database)
    private, public = await make_image(database, other), await make_image(database, other, is_public=True)
    album = await make_album(database, user, [pictures[0], private, public])

    error = await refused(foreign.fetchval(WITH_KEY, user, album, "TIER_1K", "key"))

    assert (error.sqlstate, str(error)) == ("42501", f"not yours: picture {private}")
    assert await rows(database) == [0, 0, 0, 0]
    assert await balance_of(database, user) == 100


@pytest.mark.parametrize(
    ("changes", "sqlstate", "words"),
    [
        ({"user": "nobody"}, "P0002", "user nobody not found"),
        ({"album": "none"}, "P0002", "album none not found"),
        ({"album": None}, "P0002", "not found"),
        ({"tier": "TIER_8K"}, "22023", "there is no tier"),
        ({"pipeline": "none"}, "P0002", "pipeline none not found"),
        ({"pipeline": "theirs"}, "42501", "is not yours"),
        ({"pipeline": "linked"}, "42501", "shared by link"),
        ({"run_at": datetime(3000, 1, 1, tzinfo=UTC)}, "22023", "run_at"),
        ({"balance": 5}, "P0001", "needed 6, available 5"),
        ({"key": "/../x"}, "22023", "is no key"),
    ],
)
async def test_bad_arguments_are_refused_and_nothing_is_half_done(
    database, foreign, user, pictures, album, changes, sqlstate, words
):
    other = await make_user(database)
    theirs = {"theirs": await make_pipeline(database, other),
              "linked": await make_pipeline(database, other, visibility="LINK")}  # fmt: skip
    if "balance" in changes:
        user = await make_user(database, balance=changes["balance"])
        album = await make_album(database, user, [await make_image(database, user) for _ in range(3)])
    if "key" in changes:
        await database.fetch(
            'UPDATE public.enhanced_images SET "originalR2Key" = $1 WHERE id = $2', "/../x", pictures[1]
        )
    pipeline = changes.get("pipeline")

    error = await refused(
        foreign.fetchval(
            "SELECT darkroom.submit_album($1, $2, $3, $4, idempotency_key => 'key', run_at => $5)",
            *(changes.get("user", user), changes.get("album", album), changes.get("tier", "TIER_1K")),
            *(theirs.get(pipeline, pipeline), changes.get("run_at")),
        )
    )

    assert error.sqlstate == sqlstate
    assert words in str(error)
    assert await rows(database) == [0, 0, 0, 0]


async def test_row_that_a_trigger_of_the_application_drops_refuses_the_album(database, foreign, user, pictures, album):
    await database.fetch("""CREATE FUNCTION public.drop_one() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW."imageId" = TG_ARGV[0] THEN RETURN NULL; END IF; RETURN NEW; END $$""")
    await database.fetch(f"""CREATE TRIGGER drop_one BEFORE INSERT ON public.image_enhancement_jobs FOR EACH ROW
                             EXECUTE FUNCTION public.drop_one('{pictures[1]}')""")

    error = await refused(foreign.fetchval(SUBMIT, user, album, "TIER_1K"))

    assert error.sqlstate == "27000"
    assert await rows(database) == [0, 0, 0, 0]
    assert await balance_of(database, user) == 100


async def test_concurrent_submissions_of_an_album_submit_each_picture_once(database, connect, user, album):
    connections = [await connect() for _ in range(5)]

    batches = await asyncio.gather(*(one.fetchval(SUBMIT, user, album, "TIER_1K") for one in connections))

    totals = sorted([(await progress(database, batch))[0].get("total", 0) for batch in batches])
    assert totals == [0, 0, 0, 0, 3]
    assert await balance_of(database, user) == 94


async def test_submission_with_an_old_snapshot_fails_instead_of_paying_twice(database, connect, user, album):
    late = await connect()
    transaction = late.transaction(isolation="repeatable_read")
    await transaction.start()
    await late.fetchval("SELECT 1 FROM public.users")
    await (await connect()).fetchval(SUBMIT, user, album, "TIER_1K")

    error = await refused(late.fetchval(SUBMIT, user, album, "TIER_1K"))

    assert error.sqlstate == "40001"
    await transaction.rollback()


async def test_submission_that_is_rolled_back_leaves_nothing(database, foreign, user, album):
    transaction = foreign.transaction()
    await transaction.start()
    await foreign.fetchval(WITH_KEY, user, album, "TIER_1K", "key")
    await transaction.rollback()

    assert await rows(database) == [0, 0, 0, 0]
    batch = await foreign.fetchval(WITH_KEY, user, album, "TIER_1K", "key")
    assert (await progress(database, batch))[0]["total"] == 3


async def test_end_of_a_batch_is_notified_once_however_many_look(database, connect, eventually, user, album):
    listener, heard = await connect(), []
    batch = await listener.fetchval(SUBMIT, user, album, "TIER_1K")
    await listener.add_listener("darkroom_jobs", lambda *notified: heard.append(json.loads(notified[-1])))
    await end(database, batch, "COMPLETED", "FAILED")
    assert await database.fetchval(FINISH) == 0
    await end(database, batch, "COMPLETED", "FAILED", "CANCELLED")
    before = await progress(database, batch)
    looking = [await connect() for _ in range(4)]

    finished = await asyncio.gather(*(one.fetchval(FINISH) for one in looking))
    await listener.fetchval("SELECT 1")

    assert sorted(finished) == [0, 0, 0, 1]
    assert await database.fetchval(FINISH) == 0
    assert before == ({"total": 3, "completed": 1, "failed": 1, "cancelled": 1}, True)
    assert await progress(database, batch) == before

    async def is_heard():
        return [one for one in heard if one["type"] == "batch"]

    await eventually(is_heard)
    assert [one for one in heard if one["type"] == "batch"] == [
        {"id": str(batch), "type": "batch", "status": "COMPLETED", "stage": None}
    ]


async def test_finished_batch_keeps_its_counters_and_time_when_rows_are_deleted(database, foreign, user, album):
    batch = await foreign.fetchval(SUBMIT, user, album, "TIER_1K")
    await end(database, batch, "COMPLETED", "REFUNDED")
    await database.fetch("DELETE FROM public.image_enhancement_jobs WHERE id = $1", (await jobs_of(database, batch))[2])
    (before,) = await database.fetch("SELECT * FROM darkroom.batch_progress($1)", batch)
    assert await database.fetchval(FINISH) == 1

    await database.fetch("DELETE FROM public.image_enhancement_jobs")

    (after,) = await database.fetch("SELECT * FROM darkroom.batch_progress($1)", batch)
    assert tuple(after) == tuple(before)
    assert tuple(after)[:-1] == (3, 0, 0, 1, 0, 1, 1)


async def test_batch_whose_queue_rows_are_lost_is_not_finished(database, foreign, user, album):
    batch = await foreign.fetchval(SUBMIT, user, album, "TIER_1K")
    await database.fetch("DELETE FROM darkroom.job_queue")

    assert await database.fetchval(FINISH) == 0
    assert await progress(database, batch) == ({"total": 3, "waiting": 3}, False)


async def test_cancel_ends_and_refunds_what_is_unfinished_and_says_how_many(database, foreign, user, album):
    batch = await foreign.fetchval(SUBMIT, user, album, "TIER_1K")
    await claim_jobs(database, most=1)
    await end(database, batch, "COMPLETED")

    assert await foreign.fetchval(CANCEL, batch) == 2
    assert await foreign.fetchval(CANCEL, batch) == 0

    assert await progress(database, batch) == ({"total": 3, "completed": 1, "cancelled": 2}, True)
    assert await balance_of(database, user) == 98
    assert await money_violations(database) == []


async def test_cancel_waits_for_a_job_that_is_just_ending_and_leaves_it(
    database, connect, foreign, eventually, user, album
):
    batch = await foreign.fetchval(SUBMIT, user, album, "TIER_1K")
    job = (await jobs_of(database, batch))[1]
    other = await connect()
    transaction = other.transaction()
    await transaction.start()
    await other.execute("UPDATE public.image_enhancement_jobs SET status = 'FAILED' WHERE id = $1", job)

    cancelling = asyncio.create_task(foreign.fetchval(CANCEL, batch))
    await eventually(lambda: waiting_for_locks(database))
    await transaction.commit()

    assert await cancelling == 2
    assert await progress(database, batch) == ({"total": 3, "failed": 1, "cancelled": 2}, True)
    assert await balance_of(database, user) == 100


async def test_job_that_the_database_refuses_to_change_does_not_keep_the_others(database, foreign, user, album):
    batch = await foreign.fetchval(SUBMIT, user, album, "TIER_1K")
    job = (await jobs_of(database, batch))[1]
    await database.fetch(f"""ALTER TABLE public.image_enhancement_jobs
                             ADD CONSTRAINT keeps CHECK (id <> '{job}' OR status <> 'CANCELLED')""")

    assert await foreign.fetchval(CANCEL, batch) == 3

    assert await progress(database, batch) == ({"total": 3, "cancelled": 3}, True)
    assert await balance_of(database, user) == 100


@pytest.mark.parametrize("statement", [CANCEL, RETRY])
async def test_batch_that_there_is_not_is_not_found(database, foreign, statement):
    unknown = "00000000-0000-0000-0000-000000000000"

    assert (await refused(foreign.fetchval(statement, unknown))).sqlstate == "P0002"
    assert await foreign.fetch("SELECT * FROM darkroom.batch_progress($1)", unknown) == []


async def test_retry_submits_what_failed_as_a_new_batch_and_only_once(database, foreign, user, pictures, album):
    pipeline = await make_pipeline(database, user)
    batch = await foreign.fetchval(
        "SELECT darkroom.submit_album($1, $2, 'TIER_1K', pipeline_id => $3)", user, album, pipeline
    )
    await end(database, batch, "COMPLETED", "REFUNDED", "CANCELLED")

    again, twice = await foreign.fetchval(RETRY, batch), await foreign.fetchval(RETRY, batch)

    assert await progress(database, again) == ({"total": 2, "waiting": 2}, False)
    assert await progress(database, twice) == ({}, True)
    found = await database.fetch(
        'SELECT "imageId", "pipelineId" FROM public.image_enhancement_jobs WHERE id = ANY ($1) ORDER BY id',
        await jobs_of(database, again),
    )
    assert [tuple(row) for row in found] == [(picture, pipeline) for picture in pictures[1:]]
    assert await database.fetchval("SELECT retried_as FROM darkroom.batches WHERE id = $1", batch) == again
    assert await balance_of(database, user) == 94


RETRY_AS = "SELECT darkroom.retry_batch($1, $2)"


@pytest.mark.parametrize("other", ["a submission of the album", "a retry", "the same retry"])
async def test_retry_beside_another_call_submits_a_picture_once(database, foreign, connect, user, album, other):
    batch = await foreign.fetchval(SUBMIT, user, album, "TIER_1K")
    await end(database, batch, *["CANCELLED"] * 3)
    second, new_batch = await connect(), uuid4()
    calls = {
        "a submission of the album": (SUBMIT, user, album, "TIER_1K"),
        "a retry": (RETRY_AS, batch, uuid4()),
        "the same retry": (RETRY_AS, batch, new_batch),
    }

    async with foreign.transaction():
        assert await foreign.fetchval(RETRY_AS, batch, new_batch) == new_batch
        beside = asyncio.create_task(second.fetchval(*calls[other]))
        await asyncio.sleep(0.2)
    answer = await beside

    assert (await progress(database, new_batch))[0] == {"total": 3, "waiting": 3}
    assert answer == new_batch or (await progress(database, answer))[0] == {}
    assert await database.fetchval("SELECT count(*) FROM darkroom.job_queue") == 3
    assert await balance_of(database, user) == 94


async def test_retry_of_a_redone_batch_takes_what_failed_though_an_earlier_result_is_there(
    database, foreign, user, album
):
    await end(database, await foreign.fetchval(SUBMIT, user, album, "FREE"), *["COMPLETED"] * 3)
    await asyncio.sleep(0.002)  # a job's time of creation has milliseconds
    batch = await foreign.fetchval(REDO, user, album, "FREE")
    await end(database, batch, "FAILED", "COMPLETED", "COMPLETED")

    assert await progress(database, await foreign.fetchval(RETRY, batch)) == ({"total": 1, "waiting": 1}, False)


async def test_retry_of_a_picture_that_is_no_longer_allowed_is_refused_by_name(database, foreign, user):
    picture = await make_image(database, await make_user(database), is_public=True)
    batch = await foreign.fetchval(SUBMIT, user, await make_album(database, user, [picture]), "FREE")
    await end(database, batch, "FAILED")
    await database.fetch('UPDATE public.enhanced_images SET "isPublic" = false WHERE id = $1', picture)

    error = await refused(foreign.fetchval(RETRY, batch))

    assert (error.sqlstate, str(error)) == ("42501", f"not yours: picture {picture}")
    assert await database.fetchval("SELECT retried_as FROM darkroom.batches") is None


async def test_batch_follows_its_users_new_id(database, foreign, user, album):
    batch = await foreign.fetchval(SUBMIT, user, album, "FREE")

    await database.fetch("UPDATE public.users SET id = 'renamed' WHERE id = $1", user)

    assert await database.fetchval("SELECT user_id FROM darkroom.batches WHERE id = $1", batch) == "renamed"
