"""A job of a type that no table has is an error everywhere; no other table's rules are used for it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from models.applications.registry import job_tables, table_of
from models.gate.provider_calls import CallPlan, open_call
from models.history.objects import record_object
from models.periodic.orphans import object_page
from tests.support.builders import all_rows, balance_of, make_claim, make_generation, make_job, make_user, queue_row

LATER = timedelta(minutes=1)


@pytest.mark.parametrize(
    "call",
    [
        "SELECT darkroom.payer_of('print', 'j', 'u')",
        "SELECT darkroom.write_label('print', 'j', 'CANCELLED')",
        "SELECT darkroom.end_left_behind('print', 'j', now()::timestamp, 'old')",
        "SELECT darkroom.settle_refused_end('print', 'j')",
    ],
)
async def test_function_that_chooses_a_table_refuses_a_type_of_none(database, call):
    with pytest.raises(asyncpg.CaseNotFoundError):
        await database.fetch(call)


async def test_call_of_a_job_of_no_table_is_refused(database):
    claim = replace(await make_claim(database), job_type="print")
    plan = CallPlan("fake", "generate", may_be_paid=False)

    with pytest.raises(asyncpg.CaseNotFoundError):
        await database.run(lambda connection: open_call(connection, claim, plan))


async def test_charge_of_a_job_of_no_table_is_refused_and_books_nothing(database):
    user = await make_user(database, balance=100)
    rows = await all_rows(database)

    with pytest.raises(asyncpg.InvalidParameterValueError, match="no job table has jobs of type 'print'"):
        await database.fetch(
            "SELECT darkroom.charge(ARRAY[ROW('print', 'j', $1, 'TIER_1K', darkroom.price('TIER_1K'), 'GENERATING', 3,"
            " now())::darkroom.entering], darkroom.setting('prices'))",
            user,
        )

    assert await balance_of(database, user) == 100
    assert await all_rows(database) == rows


async def test_object_of_a_type_of_no_table_stops_the_search_for_orphans(database):
    await database.run(lambda c: record_object(c, "k", job_type="print", job_id="j", sha256="0" * 64, size_bytes=1))

    with pytest.raises(asyncpg.InvalidParameterValueError, match="'print'"):
        await database.run(lambda c: object_page(c, "", datetime.now(UTC) + LATER))


@pytest.mark.parametrize("kind", ["input", "probe"])
async def test_object_of_no_job_is_no_error(database, kind):
    await database.run(lambda c: record_object(c, "k", job_type=kind, job_id="j", sha256="0" * 64, size_bytes=1))

    page = await database.run(lambda c: object_page(c, "", datetime.now(UTC) + LATER))

    assert [one.key for one in page.unnamed] == ["k"]


async def test_queue_row_of_a_type_of_no_table_is_left_alone(database):
    kept, gone = await make_job(database), await make_job(database)
    await database.fetch("UPDATE darkroom.job_queue SET job_type = 'print' WHERE job_id = $1", kept)
    await database.fetch("ALTER TABLE public.image_enhancement_jobs DISABLE TRIGGER USER")
    await database.fetch("DELETE FROM public.image_enhancement_jobs")

    row = await database.fetch("SELECT dropped FROM darkroom.adopt()")

    assert [one["dropped"] for one in row] == [1]
    assert await queue_row(database, kept) is not None
    assert await queue_row(database, gone) is None


async def test_settling_locks_the_row_of_its_own_table_only(database, database_url):
    job = await make_job(database)
    made = await make_generation(database)
    await database.fetch("ALTER TABLE public.mcp_generation_jobs DISABLE TRIGGER USER")
    await database.fetch("UPDATE public.mcp_generation_jobs SET id = $1 WHERE id = $2", job, made)
    other = await asyncpg.connect(database_url)
    try:
        async with other.transaction():
            await other.execute("SELECT FROM public.mcp_generation_jobs WHERE id = $1 FOR UPDATE", job)
            await database.fetch("SELECT set_config('lock_timeout', '200', false)")

            assert await database.fetchval("SELECT darkroom.settle_refused_end('enhance', $1)", job) is False
    finally:
        await other.close()


def test_each_type_belongs_to_one_table():
    types = [one for table in job_tables() for one in table.job_types]

    assert len(types) == len(set(types))
    with pytest.raises(KeyError):
        table_of("print")
