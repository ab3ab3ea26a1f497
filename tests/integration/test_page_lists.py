"""The lists in docs/producers.md are those of the code."""

import json
import re
from pathlib import Path

import asyncpg
import pytest

from config.periodic_terms import RETENTION_DAYS
from config.tiers import LONG_SIDE_PX, PRICES_TOKENS
from models.applications.pictures.job_tables import ENHANCEMENTS
from models.job_state import JobStatus
from models.schema.migrations import grants
from models.schema.migrations.session import OUR_COST_COLUMN
from models.schema.rendered import rendered_files
from tests.support.builders import (
    balance_of,
    claim_jobs,
    make_image,
    make_job,
    make_user,
    new_id,
    queue_row,
    set_mode,
    set_status,
)
from tests.support.page import PAGE, blocks, codes, table
from workers.services.services import OBJECTS_FOLDER


def test_every_status_is_listed_and_whether_it_is_over():
    listed = {row[0]: row[1] for row in table("status")}

    assert listed == {status.value: "yes" if status.is_terminal else "no" for status in JobStatus}


@pytest.mark.parametrize("status", [status for status in JobStatus if status.is_terminal])
async def test_who_has_the_tokens_of_a_job_that_another_program_ends_is_as_the_page_says(database, status):
    (said,) = (row[3] for row in table("status") if row[0] == status)
    user = await make_user(database, balance=100)
    job = await make_job(database, user_id=user)
    await claim_jobs(database)

    await set_status(database, job, status)

    assert await balance_of(database, user) == {"refunded": 100, "charged": 98}[said.split(",")[0].split()[-1]]


@pytest.mark.parametrize("status", ["FAILED", "REFUNDED", "CANCELLED"])
async def test_another_programs_end_moves_no_tokens_in_producer_mode(database, status):
    (said,) = (row[4] for row in table("status") if row[0] == status)
    await set_mode(database, "producer")
    user = await make_user(database, balance=100)
    job = await make_job(database, user_id=user)

    await set_status(database, job, status)

    assert said in {"the application's to decide", "refunded, if Darkroom ended it"}
    assert await balance_of(database, user) == 100


def test_prices_and_sizes_are_those_of_the_tiers():
    listed = {row[0]: (int(row[1]), int(row[2])) for row in table("tier")}

    assert listed == {tier: (PRICES_TOKENS[tier], LONG_SIDE_PX[tier]) for tier in LONG_SIDE_PX}


def test_every_sqlstate_that_our_sql_raises_is_listed():
    sql = "\n".join(rendered_files(OUR_COST_COLUMN).values())
    raised = set(re.findall(r"(?:ERRCODE = |\bstate := )'(\w{5})'", sql))

    assert {row[0] for row in table("raised by Darkroom")} == raised


INSERT = """INSERT INTO public.image_enhancement_jobs (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt")
            VALUES ($1, $2, $3, {tier}, 2, 'PENDING', now() AT TIME ZONE 'utc') {rest}"""


@pytest.mark.parametrize(
    ("sqlstate", "change"),
    [("23503", {"image": "nope"}), ("23505", {"job": "taken"}), ("22P02", {"tier": "'2k'"})],
    ids=["picture", "id", "tier"],
)
async def test_insert_that_postgresql_refuses_has_the_sqlstate_on_the_page(database, sqlstate, change):
    user = await make_user(database)
    given = {"job": "new", "image": await make_image(database, user), "tier": "'TIER_1K'"}
    await database.fetch(INSERT.format(tier=given["tier"], rest=""), "taken", given["image"], user)
    given |= change

    with pytest.raises(asyncpg.PostgresError) as refused:
        await database.fetch(INSERT.format(tier=given["tier"], rest=""), given["job"], given["image"], user)

    assert refused.value.sqlstate == sqlstate
    assert sqlstate in {row[0] for row in table("raised by PostgreSQL itself")}


async def test_role_that_may_insert_and_nothing_else_submits_by_a_row(database, database_url):
    user, role = await make_user(database), new_id("inserts_")
    image = await make_image(database, user)
    await database.fetch(f"CREATE ROLE {role}")
    await database.fetch(f"GRANT INSERT ON public.image_enhancement_jobs TO {role}")
    connection = await asyncpg.connect(database_url)
    await connection.execute(f"SET ROLE {role}")

    for _ in range(2):
        await connection.execute(INSERT.format(tier="'TIER_1K'", rest="ON CONFLICT DO NOTHING"), "job", image, user)

    await connection.close()
    await database.fetch(f"DROP OWNED BY {role}")
    await database.fetch(f"DROP ROLE {role}")
    assert await queue_row(database, "job")
    assert await balance_of(database, user) == 98


def test_address_of_embedded_services_is_where_they_listen():
    user = Path("/home/ada")  # a path too long for a socket has them elsewhere, and a link here
    home = user / ".darkroom"
    (exported,) = (block for block in blocks("sh") if block.startswith("export"))
    said = dict(re.findall(r'export (\w+)="(.*)"', exported.replace("$HOME", str(user))))

    assert said["DATABASE_URL"] == "$(darkroom db url)"
    assert said["PICTURES"] == str(home / OBJECTS_FOLDER)


def test_days_for_which_keys_are_kept_are_those_of_retention():
    assert f"kept for {RETENTION_DAYS['submissions']} days" in PAGE.read_text()


def test_columns_of_a_picture_that_a_job_reads_are_listed():
    read = set(re.findall(r'\b[is]\."?(\w+)"?', ENHANCEMENTS.inputs.select))

    assert set.union(*(codes(row[0]) for row in table("column of a picture"))) == read


def test_rights_that_a_grant_gives_are_listed():
    rights = PAGE.read_text().split("## Rights")[1].split("##")[0]

    assert set(grants.READERS.functions) < set(grants.PRODUCERS.functions) <= codes(rights)


async def test_columns_of_job_status_are_listed(database):
    columns = await database.fetchval(
        """SELECT proargnames FROM pg_proc
           WHERE proname = 'job_status' AND pronamespace = 'darkroom'::regnamespace"""
    )
    polling = PAGE.read_text().split("## Polling")[1].split("##")[0]
    listed = [name for row in re.findall(r"^\| (`.*?) \|", polling, re.MULTILINE) for name in row.split("`")[1::2]]

    assert sorted(["job_id", *listed]) == sorted(columns)


async def test_columns_of_job_progress_are_listed(database):
    columns = await database.fetchval(
        """SELECT proargnames FROM pg_proc
           WHERE proname = 'job_progress' AND pronamespace = 'darkroom'::regnamespace"""
    )
    progress = PAGE.read_text().split("## Progress")[1].split("##")[0]
    listed = [name for row in re.findall(r"^\| (`.*?) \|", progress, re.MULTILINE) for name in row.split("`")[1::2]]

    assert sorted(["job_id", *listed]) == sorted(columns)


@pytest.mark.parametrize("name", grants.PRODUCERS.functions)
async def test_arguments_of_each_function_are_those_on_the_page(database, name):
    arguments = await database.fetchval(
        """SELECT proargnames[:pronargs] FROM pg_proc
           WHERE proname = $1 AND pronamespace = 'darkroom'::regnamespace""",
        name,
    )

    assert f"`darkroom.{name}({', '.join(arguments)})`" in PAGE.read_text()


async def test_payload_of_a_notification_is_the_one_on_the_page(database, database_url):
    heard = []
    listener = await asyncpg.connect(database_url)
    await listener.add_listener("darkroom_jobs", lambda *message: heard.append(json.loads(message[-1])))
    job = await make_job(database)
    await claim_jobs(database)
    await set_status(database, job, "CANCELLED")
    await listener.fetchval("SELECT 1")
    await listener.close()

    (example,) = (json.loads(block) for block in blocks("json"))
    assert [list(one) for one in heard] == [list(example)] * 2
    assert [(one["id"], one["type"], one["status"], one["stage"]) for one in heard] == [
        (job, "enhance", "PROCESSING", "ANALYZING"),
        (job, "enhance", "CANCELLED", None),
    ]
