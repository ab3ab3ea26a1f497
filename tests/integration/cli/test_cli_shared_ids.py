"""Ids that stand in several job tables: two of bigint ids in two schemas, and one of text, beside `pictures`."""

import asyncio
import contextlib
from collections.abc import Iterator

import asyncpg
import pytest

from config.postgres_url import parse_postgres_url
from config.tiers import PRICES_TOKENS
from models.applications import registry
from models.applications.application import Application
from models.job_state import JobStatus
from models.job_tables.inputs import JobInputs
from models.job_tables.table import BIGINT, TEXT, IdType, Inputs, JobTable
from models.money.users import User, find_user
from models.queue.ids import ids_beginning
from models.schema.migrate import upgrade
from pipelines.settings import Settings
from tests.integration.queue.conftest import connect
from tests.support.builders import make_job
from tests.support.calling import Arrange, Darkroom
from workers.operations.watching import watch_jobs
from workers.process.compose import open_runtime
from workers.services.instance import EmbeddedInstance
from workers.services.services import Services

__all__ = ["connect"]

TABLES = """
CREATE TABLE {name} (id {type} PRIMARY KEY, owner text NOT NULL DEFAULT 'o', wish text NOT NULL DEFAULT 'a cat',
                     state text NOT NULL DEFAULT 'new', pic text);
"""


def described(name: str, job_type: str, id_type: IdType) -> JobTable:
    return JobTable(
        name=name,
        rows=job_type.replace(".", "_") + "s",
        row=job_type.replace(".", "_"),
        job_types=(job_type,),
        user="r.owner",
        job_type=f"'{job_type}'",
        tier="'TIER_1K'",
        cost="NULL",
        max_attempts="darkroom.max_attempts(NULL)",
        created="darkroom.utc_now()",
        first_stage="'GENERATING'",
        labels=dict(zip(JobStatus, ("new", "working", "done", "error", "error", "stopped"), strict=True)),
        inputs=Inputs(
            f"SELECT r.wish FROM {name} r JOIN darkroom.job_queue q ON q.id = $2 WHERE r.id::text = $1",
            lambda row: JobInputs("TIER_1K", None, None, None, {}, prompt=row["wish"]),
        ),
        result={"pic": "key"},
        id_type=id_type,
        status_column="state",
        status_type="text",
        frozen=("id", "owner", "wish"),
        application=job_type.partition(".")[0],
    )


DESK = Application(
    name="desk",
    schema="public",
    tables=(described("public.notes", "desk.note", BIGINT), described("public.letters", "desk.letter", TEXT)),
    needs={},
)
SHOP = Application(name="shop", schema="shop", tables=(described('"shop".notes', "shop.note", BIGINT),), needs={})


OURS = ("batches", "operator_actions", "job_queue", "job_money", "stage_runs", "provider_calls", "refused_ends")


@pytest.fixture(scope="module")
def shipped() -> Iterator[None]:
    """Let `db upgrade` and every command know the two applications."""
    registry.SHIPPED.update(desk=lambda _: DESK, shop=lambda _: SHOP)
    yield
    del registry.SHIPPED["desk"], registry.SHIPPED["shop"]


@pytest.fixture(scope="module")
def shared_url(services: EmbeddedInstance, template: str, shipped: None) -> str:
    """A database of `pictures` with public.notes and shop.notes, whose ids are bigint, and public.letters."""
    url = parse_postgres_url(services.database_url)
    shared = url.with_database("shared_ids")

    async def make() -> None:
        connection = await asyncpg.connect(**url.asyncpg_arguments())
        await connection.execute(f"CREATE DATABASE shared_ids TEMPLATE {template}")
        await connection.close()
        connection = await asyncpg.connect(**shared.asyncpg_arguments())
        await connection.execute("CREATE SCHEMA shop")
        for name, type_ in (("public.notes", "bigint"), ("shop.notes", "bigint"), ("public.letters", "text")):
            await connection.execute(TABLES.format(name=name, type=type_))
        await connection.close()
        await upgrade(
            shared.text(), mode="managed", prices=PRICES_TOKENS, applications=("pictures", "desk", "shop@shop")
        )

    asyncio.run(make())
    return shared.text()


@pytest.fixture
def database_url(shared_url: str) -> str:
    """URL of that database, without jobs."""

    async def empty() -> None:
        connection = await asyncpg.connect(**parse_postgres_url(shared_url).asyncpg_arguments())
        await connection.execute("SET session_replication_role = replica")
        for name in ("public.notes", "shop.notes", "public.letters", "public.image_enhancement_jobs"):
            await connection.execute(f"DELETE FROM {name}")
        for name in OURS:
            await connection.execute(f"DELETE FROM darkroom.{name}")
        await connection.close()

    asyncio.run(empty())
    return shared_url


async def insert(database, table: str, *ids: object) -> None:
    for one in ids:
        await database.fetch(f"INSERT INTO {table} (id) VALUES ($1)", one)


async def states(database, *tables: str) -> list[str]:
    return [await database.fetchval(f"SELECT string_agg(state, ' ' ORDER BY id) FROM {one}") for one in tables]


TWO = "job 17 stands in notes and letters: give notes/17 or letters/17"


@pytest.fixture
def two(arrange: Arrange) -> None:
    """Job 17 of public.notes and of public.letters."""
    arrange(lambda db: insert(db, "public.notes", 17))
    arrange(lambda db: insert(db, "public.letters", "17"))


COMMANDS = (
    ("show",),
    ("explain",),
    ("watch",),
    ("cancel",),
    ("retry",),
    ("retry", "--dry-run"),
    ("run-now",),
    ("reschedule", "--at", "+1h"),
    ("save", "--out", "."),
)


@pytest.mark.usefixtures("two")
def test_id_that_stands_in_two_tables_is_refused_with_both_names(darkroom: Darkroom, arrange: Arrange) -> None:
    ran = {words: darkroom("jobs", words[0], "17", *words[1:]) for words in COMMANDS}
    costs = darkroom("costs", "--job", "17")

    assert {words: (one.code, TWO in one.err) for words, one in ran.items()} == dict.fromkeys(COMMANDS, (1, True))
    assert (costs.code, TWO in costs.err) == (1, True)
    assert darkroom("jobs", "save", "17", "letters/17", "--out", ".", "--json").json[0]["id"] == "17"
    assert arrange(lambda db: states(db, "public.notes", "public.letters")) == ["new", "new"]
    assert arrange(lambda db: db.fetchval("SELECT count(*) FROM darkroom.operator_actions")) == 0


@pytest.mark.usefixtures("two")
def test_job_of_one_table_is_changed_and_the_other_is_left_alone(darkroom: Darkroom, arrange: Arrange) -> None:
    later = darkroom("jobs", "reschedule", "notes/17", "--at", "+1h")
    due = arrange(lambda db: db.fetch("SELECT job_type, status FROM darkroom.job_queue ORDER BY job_type"))
    cancelled = darkroom("jobs", "cancel", "letters/17")

    assert (later.code, later.err) == (0, "")
    assert later.out.startswith("job notes/17 is due at")
    assert [tuple(row) for row in due] == [("desk.letter", "pending"), ("desk.note", "retrying")]
    assert (cancelled.code, cancelled.out) == (0, "job letters/17 is CANCELLED\n")
    assert arrange(lambda db: states(db, "public.notes", "public.letters")) == ["new", "stopped"]
    # what is recorded of one job isn't told of the other
    note, letter = (darkroom("jobs", "explain", name).out for name in ("notes/17", "letters/17"))
    assert ["made due at" in note, "cancelled by" in note] == [True, False], note
    assert ["made due at" in letter, "cancelled by" in letter] == [False, True], letter


@pytest.mark.usefixtures("two")
def test_jobs_are_listed_watched_and_retried_by_names_that_can_be_pasted(darkroom: Darkroom, arrange: Arrange) -> None:
    arrange(lambda db: insert(db, "public.notes", 18))
    names = {line.split()[0] for line in darkroom("jobs", "list").out.splitlines()[1:]}
    for name in names:
        assert darkroom("jobs", "show", name, "--json").code == 0
    assert darkroom("jobs", "cancel", *names).code == 0

    watched = darkroom("jobs", "watch", "letters/17", "notes/17", "18")
    retried = darkroom("jobs", "retry", "notes/17", "18", "public.notes/17", "notes/18", "--dry-run", "--json")
    saved = darkroom("jobs", "save", "letters/17", "--out", ".")

    assert names == {"notes/17", "letters/17", "18"}
    assert [line.split()[:2] for line in watched.out.splitlines()] == [
        ["letters/17", "desk.letter"],
        ["notes/17", "desk.note"],
        ["18", "desk.note"],
    ]
    assert [(one["id"], one["jobType"]) for one in retried.json] == [("notes/17", "desk.note"), ("18", "desk.note")]
    assert "job letters/17: there is no result, it ended CANCELLED" in saved.err


def test_tables_of_the_same_name_are_told_apart_by_their_schemas(darkroom: Darkroom, arrange: Arrange) -> None:
    for table in ("public.notes", "shop.notes"):
        arrange(lambda db, table=table: insert(db, table, 17))

    for given in ("17", "notes/17"):
        ran = darkroom("jobs", "cancel", given)
        words = f"job {given} stands in public.notes and shop.notes: give public.notes/17 or shop.notes/17"
        assert (ran.code, words in ran.err) == (1, True)
    assert darkroom("jobs", "cancel", "shop.notes/17").out == "job shop.notes/17 is CANCELLED\n"
    assert arrange(lambda db: states(db, "public.notes", "shop.notes")) == ["new", "stopped"]


def test_exact_id_wins_over_a_name_and_a_name_over_a_beginning(darkroom: Darkroom, arrange: Arrange) -> None:
    arrange(lambda db: insert(db, "public.notes", 1, 12, 3))
    arrange(lambda db: insert(db, "public.letters", "oauth2|5f7c", "a/b", "notes/3", "notes/31", "12"))

    def shown(name: str) -> object:
        return darkroom("jobs", "show", name, "--json").json["id"]

    assert [shown(name) for name in ("1", "oauth2|5f7c", "oauth2", "a/b", "letters/a/b", "a/")] == [
        *(1, "oauth2|5f7c", "oauth2|5f7c", "a/b", "a/b", "a/b"),
    ]
    assert shown("notes/3") == "notes/3"  # although note 3 is called so, too
    assert shown("public.notes/3") == 3
    assert shown("notes/12") == 12
    assert shown("letters/oauth") == "oauth2|5f7c"
    assert shown("notes/31") == "notes/31"
    assert darkroom("jobs", "run-now", "notes/12", "1").out == "job notes/12 is due now\njob 1 is due now\n"


def test_beginning_of_jobs_of_several_tables_names_them(darkroom: Darkroom, arrange: Arrange) -> None:
    arrange(lambda db: insert(db, "public.notes", 170, 171))
    arrange(lambda db: insert(db, "public.letters", "170"))

    ran = darkroom("jobs", "cancel", "17", "letters/1")

    assert ran.err == "darkroom: job 17: letters/170, notes/170, 171 begin so; give more of the id\n"
    assert ran.out == "job letters/170 is CANCELLED\n"
    assert arrange(lambda db: states(db, "public.notes", "public.letters")) == ["new new", "stopped"]


@pytest.mark.usefixtures("two")
def test_records_of_a_deleted_job_are_told_by_its_name(darkroom: Darkroom, arrange: Arrange) -> None:
    record = "INSERT INTO darkroom.stage_runs (job_type, job_id, event) VALUES ($1, '17', 'claimed')"
    for job_type in ("desk.note", "desk.letter"):
        arrange(lambda db, job_type=job_type: db.fetch(record, job_type))
    arrange(lambda db: db.fetch("DELETE FROM public.notes"))

    of_the_living = darkroom("jobs", "explain", "17", "--json").json
    of_the_deleted = darkroom("jobs", "explain", "notes/17").out
    arrange(lambda db: db.fetch("DELETE FROM public.letters"))
    of_both = darkroom("jobs", "explain", "17")

    assert [one["event"] for one in of_the_living["timeline"]].count("claimed") == 1
    assert of_the_living["status"] == "PENDING"
    assert "job notes/17 is deleted" in of_the_deleted
    assert of_both.code == 1
    assert "give public.notes/17 or public.letters/17" in of_both.err


async def test_watching_goes_on_when_another_table_gets_the_id(database, database_url, redis_url, tmp_path) -> None:
    await insert(database, "public.notes", 17)
    urls = {"database_url": database_url, "database_direct_url": database_url}
    urls |= {"redis_url": redis_url, "broker_url": redis_url, "storage_url": tmp_path.as_uri()}
    async with (
        open_runtime(Settings(home=tmp_path), Services(**urls, is_embedded=False)) as runtime,
        contextlib.aclosing(watch_jobs(runtime, ["17"])) as looks,
    ):
        first = await anext(looks)
        await insert(database, "public.letters", "17")
        await database.fetch("SELECT darkroom.cancel_job('notes/17')")
        later = [(one.job_type, one.status) async for look in looks for one in look.jobs]

    assert [one.status for one in first.jobs] == ["PENDING"]
    assert (set(later) - {("desk.note", "PENDING")}, later[-1][1]) == ({("desk.note", "CANCELLED")}, "CANCELLED")
    assert await states(database, "public.letters") == ["new"]


@pytest.mark.usefixtures("two")
async def test_producers_are_refused_and_ask_by_the_table(connect) -> None:
    session = await connect()
    await session.execute("INSERT INTO public.letters (id) VALUES ('a/b')")

    for function in ("cancel_job", "job_status", "job_progress"):
        with pytest.raises(asyncpg.InvalidParameterValueError) as refused:
            await session.fetch(f"SELECT * FROM darkroom.{function}('17')")
        assert (refused.value.sqlstate, str(refused.value)) == ("22023", TWO)
        assert await session.fetch("SELECT * FROM darkroom.job_status('notes/18')") == []

    status = "SELECT type, status FROM darkroom.job_status($1)"
    assert await session.fetchval("SELECT darkroom.cancel_job('notes/17')") == "CANCELLED"
    assert await session.fetchval("SELECT darkroom.cancel_job('a/b')") == "CANCELLED"
    assert [tuple(row) for row in await session.fetch(status, "notes/17")] == [("desk.note", "CANCELLED")]
    assert [tuple(row) for row in await session.fetch(status, "public.letters/17")] == [("desk.letter", "PENDING")]
    assert await session.fetchval("SELECT status FROM darkroom.job_progress('letters/17')") == "PENDING"
    with pytest.raises(asyncpg.NoDataFoundError, match="job notes/18 not found"):
        await session.fetchval("SELECT darkroom.cancel_job('notes/18')")


def test_jobs_of_pictures_with_the_same_id_are_refused_too(darkroom: Darkroom, arrange: Arrange) -> None:
    arrange(lambda db: make_job(db, job_id="17"))
    arrange(lambda db: insert(db, "public.notes", 17))

    refused, cancelled = darkroom("jobs", "cancel", "17"), darkroom("jobs", "cancel", "image_enhancement_jobs/17")

    assert "job 17 stands in image_enhancement_jobs and notes" in refused.err
    assert cancelled.code == 0
    assert arrange(lambda db: states(db, "public.notes")) == ["new"]


def test_batch_counts_and_cancels_its_own_jobs_alone(darkroom: Darkroom, arrange: Arrange) -> None:
    arrange(lambda db: make_job(db, job_id="17"))
    arrange(lambda db: insert(db, "public.notes", 17))
    batch = """INSERT INTO darkroom.batches (user_id, job_ids) SELECT j."userId", '{17}'
               FROM public.image_enhancement_jobs j RETURNING id::text"""
    batch_id = arrange(lambda db: db.fetchval(batch))

    shown = darkroom("batches", "show", batch_id, "--json").json
    cancelled = darkroom("batches", "cancel", batch_id, "--json").json

    assert (shown["total"], shown["waiting"]) == (1, 1)
    assert (cancelled["waiting"], cancelled["cancelled"]) == (0, 1)
    assert arrange(lambda db: states(db, "public.notes")) == ["new"]


@pytest.mark.usefixtures("two")
def test_jobs_are_listed_of_a_user_whom_only_another_application_has(darkroom: Darkroom) -> None:
    found, unknown = (darkroom("jobs", "list", "--user", user) for user in ("o", "nobody"))

    assert {line.split()[0] for line in found.out.splitlines()[1:]} == {"notes/17", "letters/17"}
    assert unknown.out == "there are no such jobs\n"  # another application's users are known by their jobs alone


@pytest.fixture
def without_pictures() -> Iterator[None]:
    drained = registry.applications()
    registry.use([one for one in drained if one.name != "pictures"])
    yield
    registry.use(drained)


@pytest.mark.usefixtures("without_pictures")
async def test_without_pictures_no_table_of_it_is_asked_for_ids(connect) -> None:
    session = await connect()
    await session.execute("BEGIN; ALTER TABLE public.users RENAME TO nobodys")

    assert [await ids_beginning(session, kind, "u", 4) for kind in ("user", "pipeline", "album")] == [[], [], []]
    assert await find_user(session, "o") == User("o", None)
