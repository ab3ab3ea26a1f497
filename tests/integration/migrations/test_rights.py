"""What `db check` and `doctor` report about a role that lacks a worker's rights."""

from uuid import uuid4

import asyncpg
import pytest

from config.postgres_url import parse_postgres_url
from config.tiers import PRICES_TOKENS
from models.database import Database
from models.schema.migrate import check, upgrade, wait_until_ready
from models.schema.migrations.errors import RightsMissingError
from pipelines.settings import Settings
from tests.support.builders import claim_jobs, make_job, make_worker
from workers.operations.doctor import examine
from workers.services.services import Services

APPLICATION = "GRANT ALL ON ALL TABLES IN SCHEMA public TO {role};"
SCHEMA = APPLICATION + "GRANT USAGE ON SCHEMA darkroom TO {role};"
TABLES = (
    SCHEMA
    + "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA darkroom TO {role};"
    + "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA darkroom TO {role};"
)
EVERYTHING = TABLES + "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA darkroom TO {role};"


@pytest.fixture
async def role(database):
    """A role without any rights, and a way to give it some."""
    name = f"dk{uuid4().hex[:8]}"

    async def grant(sql):
        await database.run(lambda connection: connection.execute(sql.format(role=name)))

    await grant("CREATE ROLE {role} LOGIN")
    yield name, grant
    await grant("DROP OWNED BY {role}; DROP ROLE {role}")


def url_of(database_url, role):
    url = parse_postgres_url(database_url)
    return url.text().replace(f"//{url.user}@", f"//{role}@")


async def test_role_with_a_workers_rights_claims_from_queues_that_a_later_upgrade_makes(database, database_url, role):
    name, grant = role
    await grant(EVERYTHING)
    await upgrade(database_url, prices=PRICES_TOKENS, fair_terms={"stage_queues": {"ANALYZING": "cpu"}})
    job = await make_job(database)
    assert await check(url_of(database_url, name)) == []

    theirs = Database(parse_postgres_url(url_of(database_url, name)), most_connections=1)
    await theirs.open()
    try:
        worker = await make_worker(database)
        claims = await claim_jobs(theirs, worker, queue="cpu", most=5)
    finally:
        await theirs.close()

    assert [one.job_id for one in claims] == [job]
    # virtual time advances with it, whose sequence the role may not write
    assert await database.fetchval("SELECT darkroom.virtual_time('cpu')") > 1_000_000_000_000


async def test_subscriptions_that_may_not_be_read_give_nobody_priority(database_url, role):
    name, grant = role
    await grant(EVERYTHING + "REVOKE ALL ON public.subscription_plans FROM {role};")
    connection = await asyncpg.connect(url_of(database_url, name))
    try:
        assert await connection.fetchval("SELECT darkroom.has_subscriptions()") is False
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("granted", "lacks"),
    [
        (APPLICATION, "USAGE on schema darkroom:"),
        (SCHEMA, "DELETE on darkroom.album_batches,"),
        (TABLES, "EXECUTE on darkroom."),
        (EVERYTHING + "REVOKE UPDATE ON darkroom.workers FROM {role}", "UPDATE on darkroom.workers:"),
        (EVERYTHING + "REVOKE UPDATE ON public.image_enhancement_jobs FROM {role}", "UPDATE on public.image_enh"),
    ],
    ids=["application", "schema", "tables", "one of our tables", "one of the application's"],
)
async def test_missing_rights_are_the_one_problem_that_is_found_and_nothing_raises(database_url, role, granted, lacks):
    name, grant = role
    await grant(granted)
    url = url_of(database_url, name)

    (problem,) = await check(url)

    assert problem.kind == "rights_missing"
    assert problem.message.startswith(f"role {name} lacks {lacks}")
    with pytest.raises(RightsMissingError, match="lacks"):
        await wait_until_ready(url)


async def test_role_with_every_right_is_no_problem(database_url, role):
    name, grant = role
    await grant(EVERYTHING)

    assert await check(url_of(database_url, name)) == []


async def test_doctor_names_the_rights_that_a_role_lacks(database_url, role, redis_url, tmp_path):
    name, grant = role
    await grant(TABLES)
    url = url_of(database_url, name)
    services = Services(
        database_url=url,
        database_direct_url=url,
        redis_url=redis_url,
        broker_url=redis_url,
        storage_url=tmp_path.as_uri(),
        is_embedded=False,
    )

    found = {one.name: one for one in await examine(Settings(home=tmp_path), services)}

    assert found["rights"].status == "fail"
    assert "EXECUTE on darkroom." in found["rights"].message
