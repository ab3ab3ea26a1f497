"""What docs/producers.md lists is what the code has."""

import json
import re
from urllib.parse import unquote

import asyncpg
import pytest

from config.embedded.instance import EmbeddedInstance
from config.embedded.services import EMBEDDED_FOLDER, OBJECTS_FOLDER
from config.tiers import LONG_SIDE_PX, PRICES_TOKENS
from models.job_state import JobStatus
from models.job_tables.pictures import ENHANCEMENTS
from models.schema.migrations import grants
from models.schema.migrations.session import OUR_COST_COLUMN
from models.schema.rendered import rendered_files
from tests.builders import claim_jobs, make_job, set_status
from tests.producers.page import PAGE, blocks, codes, table


def test_every_status_is_listed_and_whether_it_is_over():
    listed = {row[0]: row[1] for row in table("status")}

    assert listed == {status.value: "yes" if status.is_terminal else "no" for status in JobStatus}


def test_prices_and_sizes_are_those_of_the_tiers():
    listed = {row[0]: (int(row[1]), int(row[2])) for row in table("tier")}

    assert listed == {tier: (PRICES_TOKENS[tier], LONG_SIDE_PX[tier]) for tier in LONG_SIDE_PX}


def test_every_sqlstate_that_our_sql_raises_is_listed():
    sql = "\n".join(rendered_files(OUR_COST_COLUMN).values())
    raised = set(re.findall(r"(?:ERRCODE = |\bstate := )'(\w{5})'", sql))

    assert {row[0] for row in table("raised by Darkroom")} == raised


def test_address_of_embedded_services_is_where_they_listen(tmp_path):
    home = tmp_path / ".darkroom"
    (exported,) = (block for block in blocks("sh") if block.startswith("export"))
    said = dict(re.findall(r'export (\w+)="(.*)"', exported.replace("$HOME", str(tmp_path))))

    assert said["DATABASE_URL"] == unquote(EmbeddedInstance(home / EMBEDDED_FOLDER).database_url)
    assert said["PICTURES"] == str(home / OBJECTS_FOLDER)


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
