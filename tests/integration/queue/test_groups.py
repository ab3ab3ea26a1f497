"""Group commit: each job of a group is written as it is alone, whatever becomes of the others."""

import asyncio
import json
from datetime import timedelta

import pytest

from models.applications.registry import table_of
from models.database import Database
from models.queue.checkpoints import checkpoint
from models.queue.claims import FencedError
from models.queue.groups import MOST_GROUPS, GroupWriter
from models.queue.transition_statements import ClaimWrite, as_json, parts_of, transition_statement
from models.queue.transitions import Checkpoint, Completed, HandedOver, Kept, Released, Retried, Snoozed
from tests.integration.queue.test_fence import WAYS
from tests.support.builders import (
    claim_jobs,
    make_artifact,
    make_claim,
    make_generation,
    make_job,
    make_user,
    queue_row,
    waiting_for_locks,
)
from tests.support.grouping import Write, add_all, facts_of, rows_of, write_all, write_one_by_one
from tests.support.patience import HANGS_AFTER_S

HOUR = timedelta(hours=1)
TABLES = ("enhancements", "generations")
ANALYSIS = {"result": {"defects": {}}, "source": "local", "measures": {"noise": 2.5}}
BOX = {"x": 1, "y": 2, "w": 3, "h": 4}
RESULT = dict.fromkeys(("key", "url", "model"), "made") | dict.fromkeys(("width_px", "height_px", "size_bytes"), 9)


def reached(claim, stage, following, output=None):
    return checkpoint(claim.job_type, stage, output, following=following, deadline_s=60, duration_ms=5)


def analyzed(claim):
    return reached(claim, claim.stage, "CROPPING", ANALYSIS)


def completed(claim, stage="GENERATING"):
    columns = {"enhancedWidth": 9} if claim.job_type == "enhance" else {"outputWidth": 9}
    return Completed(stage, 5, columns, {"seen": True})


EVENTS = {
    "checkpoint": lambda claim: [analyzed(claim)],
    "checkpoint without a column": lambda claim: [
        Checkpoint(claim.stage, "CHECKING", 60, 5, kept=Kept({"words": ["ä", None]}))
    ],
    "three checkpoints": lambda claim: [
        analyzed(claim),
        reached(claim, "CROPPING", "CHECKING", {"was_cropped": True, "box": BOX}),
        reached(claim, "CHECKING", "PROMPTING", {"b": 2}),
    ],
    "two checkpoints, to a stage without a label": lambda claim: [
        analyzed(claim),
        reached(claim, "CROPPING", "CHECKING", {"was_cropped": True, "box": BOX}),
    ],
    "completed": lambda claim: [completed(claim)],
    "checkpoints and completed": lambda claim: [
        analyzed(claim),
        reached(claim, "CROPPING", "GENERATING"),
        completed(claim),
    ],
    "retried": lambda claim: [Retried(claim.stage, "la\0te" + "x" * 3_000, HOUR, 5)],
    "snoozed": lambda claim: [Snoozed(claim.stage, "busy", 2 * HOUR, 5)],
    "released": lambda claim: [Released(claim.stage, 5)],
    "handed over": lambda claim: [HandedOver(claim.stage, "gpu", 5)],
    "artifact": lambda _claim: [make_artifact()],
    "artifact and completed": lambda claim: [make_artifact(), completed(claim)],
    "artifact and checkpoint": lambda claim: [make_artifact(), reached(claim, claim.stage, "NOTIFYING")],
}


@pytest.fixture
def committed(monkeypatch):
    """Names of the commits that were tried, in order."""
    names, commit = [], Database.commit

    async def noted(self, name, work, **options):
        names.append(name)
        return await commit(self, name, work, **options)

    monkeypatch.setattr(Database, "commit", noted)
    return names


@pytest.fixture
async def told(database, connect, eventually):
    """A look at what was notified, by job."""
    found, listener = {}, await connect()

    def hear(_connection, _pid, _channel, payload):
        said = json.loads(payload)
        found.setdefault(said.pop("id"), []).append(said)

    await listener.add_listener("darkroom_jobs", hear)

    async def told():
        """Return what was notified of each job since the last look."""
        sentinel = json.dumps({"id": "sentinel"})
        await database.fetch("SELECT pg_notify('darkroom_jobs', $1)", sentinel)
        await eventually(lambda: asyncio.sleep(0, "sentinel" in found))
        heard = dict(found)
        found.clear()
        return heard

    return told


async def make_claims(database, count, table="enhancements"):
    """Claim new jobs of one user."""
    user = await make_user(database)
    make = make_job if table == "enhancements" else make_generation
    jobs = [await make(database, user_id=user) for _ in range(count)]
    claims = {claim.job_id: claim for claim in await claim_jobs(database, most=count + 1)}
    return [claims[job] for job in jobs]


async def history_of(database, claim):
    rows = await database.fetch(
        "SELECT event, stage FROM darkroom.stage_runs WHERE job_id = $1 AND event <> 'claimed' ORDER BY id",
        claim.job_id,
    )
    return [f"{row['event']} {row['stage']}" for row in rows]


async def test_every_kind_of_event_is_written_in_one_group_as_it_is_alone(database, told, committed):
    twins = {}
    for table in TABLES:
        for kind, events in EVENTS.items():
            alone, grouped = await make_claims(database, 2, table)
            twins[table, kind] = (alone, events(alone)), (grouped, events(grouped))
    await database.fetch("UPDATE darkroom.job_queue SET notified_at = now() - interval '1 minute'")
    lonely = [Write(claim, event) for (claim, events), _ in twins.values() for event in events]
    together = [Write(claim, event) for _, (claim, events) in twins.values() for event in events]
    await told()
    committed.clear()

    assert set(await write_one_by_one(database, lonely)) == {None}
    assert set(await write_all(GroupWriter(database), together)) == {None}

    assert committed == ["record_group"] * 2  # one for each table
    heard = await told()
    for case, ((alone, _), (grouped, _)) in twins.items():
        assert await facts_of(database, grouped) == await facts_of(database, alone), case
        said = [heard.get(claim.job_id, []) for claim in (alone, grouped)]
        if "checkpoints" in case[1]:  # of several within a second, the first one is told alone, and the last in a group
            said = [[one | {"stage": "any"} for one in those[-1:]] for those in said]
        assert said[0] == said[1], case


async def test_group_of_pictures_only_is_one_commit(database, committed):
    claims = await make_claims(database, 2)
    committed.clear()

    assert set(await write_all(GroupWriter(database), [Write(claim, make_artifact()) for claim in claims])) == {None}

    assert committed == ["record_group"]
    assert await database.fetchval("SELECT count(*) FROM darkroom.artifacts") == len(claims)


@pytest.mark.parametrize(
    ("lose", "table"),
    [*((lose, TABLES[0]) for lose in WAYS.values()), (WAYS["lose_to_another_worker"], TABLES[1])],
    ids=[*WAYS, "generation"],
)
async def test_claim_that_is_lost_writes_no_row_and_the_others_of_its_group_do(database, lose, table):
    zombie = await make_claim(database, table)
    await lose(database, zombie)
    others = await make_claims(database, 3, table)
    left = await rows_of(database, zombie)
    kinds = ("three checkpoints", "checkpoints and completed", "retried", "snoozed", "released", "artifact")

    for number, kind in enumerate(kinds):
        writes = [Write(zombie, event) for event in EVENTS[kind](zombie)]
        if number < len(others):
            writes += [Write(others[number], event) for event in EVENTS[kind](others[number])]
        errors = await write_all(GroupWriter(database), writes)
        lost = [isinstance(error, FencedError) for error in errors]
        assert lost == [write.claim is zombie for write in writes], (kind, errors)

    assert await rows_of(database, zombie) == left
    assert await history_of(database, others[1]) == [
        f"finished {one}" for one in (zombie.stage, "CROPPING", "GENERATING")
    ]


LOCKS = {
    "job's row": "SELECT FROM {table} WHERE id = $1 FOR UPDATE",
    "queue row": "SELECT FROM darkroom.job_queue WHERE job_id = $1 FOR UPDATE",
}


@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("table", TABLES)
async def test_row_that_another_program_holds_holds_up_no_other_and_is_written_when_it_is_free(
    database, foreign, committed, table, lock
):
    held, *others = await make_claims(database, 4, table)
    writes = [Write(claim, event) for claim in (held, *others) for event in EVENTS["three checkpoints"](claim)]
    async with foreign.transaction():
        await foreign.execute(LOCKS[lock].format(table=table_of(held.job_type).name), held.job_id)
        committed.clear()
        waiting, *free = dict.fromkeys(add_all(GroupWriter(database), writes))
        async with asyncio.timeout(HANGS_AFTER_S):
            await asyncio.gather(*free)
            while "record_checkpoint" not in committed:  # noqa: ASYNC110 - of another task
                await asyncio.sleep(0.01)
        assert not waiting.done()
        assert committed == ["record_group"] * MOST_GROUPS + ["record_checkpoint"]

    await asyncio.wait_for(waiting, HANGS_AFTER_S)
    assert {tuple(await history_of(database, claim)) for claim in (held, *others)} == {
        (f"finished {held.stage}", "finished CROPPING", "finished CHECKING")
    }


EDITS = {
    "another column": """UPDATE {table} SET "updatedAt" = '2001-02-03' WHERE id = $1""",
    "the queue row": "UPDATE darkroom.job_queue SET run_token = gen_random_uuid() WHERE job_id = $1",
    "cancelled": "UPDATE {table} SET status = 'CANCELLED' WHERE id = $1",
    "deleted": "DELETE FROM {table} WHERE id = $1",
}
HELD_UP = "set_config('lock_timeout', '20000', true), pg_advisory_xact_lock(77), "
"""It lets a statement wait between its snapshot and its locks."""


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("table", TABLES)
async def test_edit_between_a_groups_snapshot_and_its_locks_stays_and_its_job_is_written_as_a_whole_or_not(
    database, foreign, eventually, table, edit
):
    edited, other = await make_claims(database, 2, table)
    writes = [
        ClaimWrite(one.job_id, one.id, one.lease_token, EVENTS["three checkpoints"](one), make_artifact())
        for one in (edited, other)
    ]
    values = [as_json(table_of(edited.job_type), number, one) for number, one in enumerate(writes)]
    statement = transition_statement(table_of(edited.job_type), parts_of(values), is_group=True)
    assert statement.count("(SELECT set_config(") == 1
    held_up = statement.replace("(SELECT set_config(", f"(SELECT {HELD_UP}set_config(")

    async def run(sql):
        return {row["n"] for row in await database.run(lambda connection: connection.fetch(sql, values))}

    await foreign.execute("SELECT pg_advisory_lock(77)")
    writing = asyncio.create_task(run(held_up))
    await eventually(lambda: waiting_for_locks(database))
    await foreign.execute(EDITS[edit].format(table=table_of(edited.job_type).name), edited.job_id)
    after_the_edit = await rows_of(database, edited)
    await foreign.execute("SELECT pg_advisory_unlock(77)")

    assert await writing == {1}
    assert await rows_of(database, edited) == after_the_edit
    stages = [f"finished {one}" for one in (other.stage, "CROPPING", "CHECKING")]
    assert await history_of(database, other) == stages
    if edit in {"cancelled", "deleted"}:
        assert await run(statement) == {1}
        assert await rows_of(database, edited) == after_the_edit
    else:
        run_token = (await queue_row(database, edited.job_id))["run_token"]
        assert await run(statement) == {0, 1}
        assert await history_of(database, edited) == stages
        assert (await queue_row(database, edited.job_id))["run_token"] == run_token


@pytest.mark.parametrize("table", ["public.image_enhancement_jobs", "public.mcp_generation_jobs"])
async def test_row_of_a_table_that_inherits_is_no_jobs_row(database, foreign, table):
    """Rows of an archive that a DBA has made of the table have places (ctid) of their own, which are equal."""
    (claim,) = await make_claims(database, 1, "enhancements" if "enh" in table else "generations")
    await foreign.execute(f"CREATE TABLE public.archive () INHERITS ({table})")
    await foreign.execute(
        f"""INSERT INTO public.archive
            SELECT (jsonb_populate_record(j, jsonb_build_object('id', n::text))).*
            FROM ONLY {table} j, generate_series(1, 3) n"""
    )
    archived = await foreign.fetch("SELECT a::text FROM public.archive a")
    assert len(archived) == 3

    writes = [Write(claim, event) for event in EVENTS["checkpoints and completed"](claim)]
    assert await write_all(GroupWriter(database), writes) == [None] * 3

    assert await foreign.fetch("SELECT a::text FROM public.archive a") == archived


async def test_columns_of_other_programs_need_not_accept_null(database, foreign):
    await foreign.execute("CREATE DOMAIN public.app_rank AS integer NOT NULL DEFAULT 3")
    await foreign.execute("ALTER TABLE public.image_enhancement_jobs ADD COLUMN rank public.app_rank")
    first, second = await make_claims(database, 2)

    errors = await write_all(GroupWriter(database), [Write(first, analyzed(first)), Write(second, completed(second))])

    assert errors == [None, None]
    rows = await database.fetch("SELECT id, status::text, rank FROM public.image_enhancement_jobs")
    assert {tuple(row) for row in rows} == {(first.job_id, "PROCESSING", 3), (second.job_id, "COMPLETED", 3)}


async def test_triggers_on_columns_that_no_write_has_do_not_fire(database, foreign):
    await foreign.execute("CREATE TABLE public.app_seen (id text)")
    await foreign.execute("GRANT ALL ON public.app_seen TO PUBLIC")
    await foreign.execute(
        """CREATE FUNCTION public.app_see() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN INSERT INTO public.app_seen VALUES (NEW.id); RETURN NULL; END $$"""
    )
    await foreign.execute(
        """CREATE TRIGGER app_see AFTER UPDATE OF "geminiPrompt" ON public.image_enhancement_jobs
           FOR EACH ROW EXECUTE FUNCTION public.app_see()"""
    )
    first, second = await make_claims(database, 2)

    errors = await write_all(GroupWriter(database), [Write(first, analyzed(first)), Write(second, completed(second))])

    assert errors == [None, None]
    assert await database.fetch("SELECT id FROM public.app_seen") == []
