"""Which changes of a status the database accepts, compared with models/job_state.py, and what never changes."""

import asyncpg
import pytest

from models.job_state import LABEL_CHANGES, TERMINAL, TRANSITIONS, JobStatus
from tests.support.builders import (
    all_rows,
    job_row,
    make_generation,
    make_image,
    make_job,
    make_user,
    queue_row,
    set_status,
)

TABLES = {"enhancements": "public.image_enhancement_jobs", "generations": "public.mcp_generation_jobs"}
MAKE = {"enhancements": make_job, "generations": make_generation}

PATHS = {
    JobStatus.PENDING: (),
    JobStatus.PROCESSING: ("PROCESSING",),
    JobStatus.COMPLETED: ("PROCESSING", "COMPLETED"),
    JobStatus.FAILED: ("FAILED",),
    JobStatus.REFUNDED: ("REFUNDED",),
    JobStatus.CANCELLED: ("CANCELLED",),
}


@pytest.fixture(params=TABLES)
def table(request):
    return request.param


async def make_with_status(database, table, status, **columns):
    job = await MAKE[table](database, **columns)
    for step in PATHS[JobStatus(status)]:
        await set_status(database, job, step)
    assert (await job_row(database, job))["status"] == status
    return job


async def outcome_of(database, table, before, after):
    """Return what became of a job in `before` when `after` was written, or the SQLSTATE."""
    job = await make_with_status(database, table, before)
    try:
        await set_status(database, job, after)
    except asyncpg.PostgresError as error:
        return error.sqlstate
    return (await job_row(database, job))["status"]


def expected_outcome(before, after):
    if before == after or after in TRANSITIONS[before] or (before, after) in LABEL_CHANGES:
        return str(after)
    return str(before) if before.is_terminal else "23514"


async def test_all_pairs_of_statuses_end_as_the_state_machine_says(database, table):
    pairs = [(before, after) for before in JobStatus for after in JobStatus]

    found = {pair: await outcome_of(database, table, *pair) for pair in pairs}

    assert found == {pair: expected_outcome(*pair) for pair in pairs}


def test_state_machine_knows_no_way_out_of_a_terminal_status():
    assert all(not TRANSITIONS[status] for status in TERMINAL)
    assert {(JobStatus.FAILED, JobStatus.REFUNDED)} == LABEL_CHANGES


@pytest.mark.parametrize("before", sorted(TERMINAL))
@pytest.mark.parametrize("after", ["PENDING", "PROCESSING", "FAILED", "CANCELLED"])
async def test_blind_write_to_a_finished_job_changes_no_row_anywhere(database, table, before, after):
    job = await make_with_status(database, table, before)
    rows = await all_rows(database)

    await database.fetch(
        f"""UPDATE {TABLES[table]} SET status = '{after}', "errorMessage" = 'late', "geminiModel" = 'late',
                "updatedAt" = "updatedAt" + interval '1 day' WHERE id = $1 AND status <> '{after}'""",
        job,
    )

    assert await all_rows(database) == rows


async def test_label_refunded_on_a_failed_job_moves_no_money(database, table):
    job = await make_with_status(database, table, "FAILED")
    rows = await all_rows(database)

    await set_status(database, job, "REFUNDED")

    after = await all_rows(database)
    assert (await job_row(database, job))["status"] == "REFUNDED"
    assert {name: after[name] for name in after if name != TABLES[table]} == {
        name: rows[name] for name in rows if name != TABLES[table]
    }


async def test_refused_change_names_both_statuses(database, table):
    job = await make_with_status(database, table, "PENDING")

    with pytest.raises(asyncpg.CheckViolationError, match="from PENDING to COMPLETED"):
        await set_status(database, job, "COMPLETED")


async def test_status_written_as_it_is_changes_nothing_else(database, table):
    await make_with_status(database, table, "PROCESSING")
    rows = await all_rows(database)

    await database.fetch(f"UPDATE {TABLES[table]} SET status = status")

    assert await all_rows(database) == rows


async def test_foreign_change_of_status_without_a_date_gets_one(database, table):
    job = await MAKE[table](database)
    await database.fetch(f"""UPDATE {TABLES[table]} SET "updatedAt" = '2020-01-01' WHERE id = $1""", job)

    await set_status(database, job, "CANCELLED")

    assert (await job_row(database, job))["updatedAt"].year > 2020


async def test_end_clears_the_stage(database):
    job = await make_with_status(database, "enhancements", "PROCESSING")
    await database.fetch("""UPDATE public.image_enhancement_jobs SET "currentStage" = 'PROMPTING' WHERE id = $1""", job)

    await set_status(database, job, "FAILED")

    assert (await job_row(database, job))["currentStage"] is None


async def test_foreign_reset_keeps_the_stage(database):
    job = await make_with_status(database, "enhancements", "PROCESSING")
    await database.fetch("""UPDATE public.image_enhancement_jobs SET "currentStage" = 'PROMPTING' WHERE id = $1""", job)

    await set_status(database, job, "PENDING")

    assert (await job_row(database, job))["currentStage"] == "PROMPTING"


@pytest.mark.parametrize("column", ["id", "userId", "tier", "tokensCost"])
@pytest.mark.parametrize("status", ["PENDING", "PROCESSING"])
async def test_identity_of_an_unfinished_job_cannot_change(database, table, status, column):
    job = await make_with_status(database, table, status)
    value = {"id": "'other'", "userId": f"'{await make_user(database)}'", "tier": "'FREE'", "tokensCost": "0"}[column]

    with pytest.raises(asyncpg.CheckViolationError, match=f"{job} is {status}: its id, userId, .*tokensCost.* don't"):
        await database.fetch(f'UPDATE {TABLES[table]} SET "{column}" = {value} WHERE id = $1', job)


@pytest.mark.parametrize(
    ("table_name", "column", "value"),
    [("enhancements", "isBlend", "true"), ("generations", "type", "'MODIFY'")],
)
async def test_job_type_of_an_unfinished_job_cannot_change(database, table_name, column, value):
    job = await make_with_status(database, table_name, "PENDING")

    with pytest.raises(asyncpg.CheckViolationError):
        await database.fetch(f'UPDATE {TABLES[table_name]} SET "{column}" = {value} WHERE id = $1', job)


async def test_picture_of_an_unfinished_job_cannot_change(database):
    user = await make_user(database)
    job, other = await make_job(database, user_id=user), await make_image(database, user)

    with pytest.raises(asyncpg.CheckViolationError):
        await database.fetch('UPDATE public.image_enhancement_jobs SET "imageId" = $2 WHERE id = $1', job, other)


async def test_identity_changed_together_with_the_end_is_refused(database):
    job = await make_with_status(database, "enhancements", "PENDING")

    with pytest.raises(asyncpg.CheckViolationError):
        await database.fetch(
            """UPDATE public.image_enhancement_jobs SET status = 'CANCELLED', "tokensCost" = 50 WHERE id = $1""", job
        )


async def test_other_columns_of_an_unfinished_job_are_the_applications(database):
    job = await make_with_status(database, "enhancements", "PENDING")

    await database.fetch("""UPDATE public.image_enhancement_jobs SET "isAnonymous" = true WHERE id = $1""", job)

    assert await database.fetchval('SELECT "isAnonymous" FROM public.image_enhancement_jobs WHERE id = $1', job)


async def test_many_jobs_cancelled_in_one_statement_are_each_ended_once(database, table):
    user = await make_user(database, balance=40)
    jobs = [await MAKE[table](database, user_id=user) for _ in range(20)]
    await set_status(database, jobs[0], "CANCELLED")

    await database.fetch(f"UPDATE {TABLES[table]} SET status = 'CANCELLED'")

    assert await database.fetchval("SELECT count(*) FROM darkroom.job_queue") == 0
    assert await database.fetchval("SELECT count(*) FROM darkroom.job_money WHERE kind = 'refund'") == 20


async def test_one_bad_change_in_a_statement_leaves_all_jobs_as_they_were(database, table):
    jobs = [await MAKE[table](database) for _ in range(2)]
    await set_status(database, jobs[0], "PROCESSING")
    rows = await all_rows(database)

    with pytest.raises(asyncpg.CheckViolationError):
        await database.fetch(f"UPDATE {TABLES[table]} SET status = 'COMPLETED'")

    assert await all_rows(database) == rows


async def test_foreign_completion_ends_the_job_without_a_refund(database, table):
    job = await make_with_status(database, table, "COMPLETED")

    assert await queue_row(database, job) is None
    assert await database.fetchval("SELECT count(*) FROM darkroom.job_money WHERE kind = 'refund'") == 0
