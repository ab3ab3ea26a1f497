"""What `db check` and `doctor` report about a role that lacks a worker's rights."""

from uuid import uuid4

import pytest

from config.postgres_url import parse_postgres_url
from models.schema.migrate import check, wait_until_ready
from models.schema.migrations.errors import RightsMissingError
from pipelines.settings import Settings
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


@pytest.mark.parametrize(
    ("granted", "lacks"),
    [
        (APPLICATION, "USAGE on schema darkroom:"),
        (SCHEMA, "DELETE on darkroom.artifacts,"),
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
