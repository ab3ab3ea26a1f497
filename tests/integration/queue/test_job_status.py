"""darkroom.job_status: what a program learns about a job, and what a role that may only poll can't do."""

from datetime import UTC, datetime

import asyncpg
import pytest

from tests.support.builders import make_generation, make_job, make_user, new_id, set_status

ASK = "SELECT * FROM darkroom.job_status($1)"


@pytest.fixture
async def reader(database, connect):
    """Another program's connection, whose role may poll and has no other right on anything."""
    role = new_id("poller_")
    await database.fetch(f"CREATE ROLE {role}")
    await database.fetch("SELECT darkroom.grant_read_to($1)", role)
    connection = await connect()
    await connection.execute(f"SET ROLE {role}")
    yield connection
    connection.terminate()
    await database.fetch(f"DROP OWNED BY {role}")
    await database.fetch(f"DROP ROLE {role}")


@pytest.mark.parametrize(
    ("make", "kind", "tier"), [(make_job, "enhance", "TIER_1K"), (make_generation, "generate", "TIER_1K")]
)
async def test_reader_sees_status_and_money_of_a_job_of_each_table(database, reader, make, kind, tier):
    job = await make(database, user_id=await make_user(database))

    before = await reader.fetchrow(ASK, job)
    await set_status(database, job, "CANCELLED")
    after = await reader.fetchrow(ASK, job)

    assert (before["id"], before["type"], before["status"], before["tier"]) == (job, kind, "PENDING", tier)
    assert (before["charged"], before["refunded"], before["error"], before["url"]) == (2, 0, None, None)
    assert (after["status"], after["charged"], after["refunded"]) == ("CANCELLED", 2, 2)


async def test_reader_is_told_times_with_their_zone_whatever_its_session_has(database, reader):
    job = await make_job(database, user_id=await make_user(database))
    await reader.execute("SET TIME ZONE 'Pacific/Kiritimati'")

    created = await reader.fetchval("SELECT created_at FROM darkroom.job_status($1)", job)

    assert abs((datetime.now(UTC) - created).total_seconds()) < 60


async def test_nobodys_id_has_no_row(reader):
    assert await reader.fetch(ASK, "nobody's") == []


async def test_reader_learns_nothing_of_whose_a_job_is_or_what_it_shows(database, reader):
    user, prompt = await make_user(database), "a secret garden"
    job = await make_generation(database, user_id=user, prompt=prompt)

    row = await reader.fetchrow(ASK, job)

    assert not {user, prompt} & {str(value) for value in row.values()}


async def test_job_whose_row_refused_its_end_is_shown_as_over(database, reader):
    job = await make_job(database, user_id=await make_user(database))
    await database.fetch(
        """CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN RAISE EXCEPTION 'not this one' USING ERRCODE = '23514'; END $$"""
    )
    await database.fetch(
        """CREATE TRIGGER refuse BEFORE UPDATE ON public.image_enhancement_jobs
           FOR EACH ROW EXECUTE FUNCTION public.refuse()"""
    )

    await database.fetch("SELECT darkroom.cancel_job($1)", job)

    row = await reader.fetchrow(ASK, job)
    assert await database.fetchval("SELECT status::text FROM public.image_enhancement_jobs WHERE id = $1", job) == (
        "PENDING"
    )
    assert (row["status"], row["stage"], row["refunded"]) == ("CANCELLED", None, 2)


@pytest.mark.parametrize(
    "forbidden",
    [
        "SELECT * FROM darkroom.jobs",
        "SELECT * FROM darkroom.job_rows()",
        "SELECT * FROM darkroom.job_money",
        "SELECT * FROM public.image_enhancement_jobs",
        "SELECT darkroom.submit_enhancement('u', 'i', 'TIER_1K')",
        "SELECT darkroom.cancel_job('x')",
        "SELECT darkroom.grant_read_to('public')",
    ],
)
async def test_reader_may_do_nothing_else(reader, forbidden):
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await reader.execute(forbidden)


async def test_finding_a_job_reads_no_table_as_a_whole(database):
    plan = "\n".join(
        row["QUERY PLAN"]
        for row in await database.fetch(
            "EXPLAIN SELECT * FROM darkroom.jobs_of(ARRAY['x']) j",
        )
    )

    assert plan.count("_pkey") == 2, plan
