"""Users with equal ids in several applications: each is a user of their own, whatever Darkroom keeps of users."""

import asyncio

import asyncpg
import pytest

from config.postgres_url import parse_postgres_url
from models.applications import registry
from models.gate.provider_calls import Admitted, CallPlan, Refused, open_call, open_calls
from models.history.artifacts import find_same, record_artifact
from models.queue.fair import admit, check_slots
from models.queue.refusals import end_refused
from models.queue.rescue import adopt_jobs
from models.queue.transitions import Failed, JobRef, record
from models.queue.user_keys import user_key
from tests.integration.queue.conftest import connect, foreign
from tests.support.builders import claim_jobs, make_artifact, money_violations
from tests.support.equal_users import make_equal_users, submit

__all__ = ["connect", "foreign"]

APPLICATIONS = ("pictures", "studio", "frames")
QUEUE = """
SELECT q.user_id, count(*) AS jobs, min(q.position) - min(min(q.position)) OVER () AS first, min(q.units) AS units
FROM darkroom.job_queue q GROUP BY 1 ORDER BY 1
"""
KEYS = ["1", "frames/1", "studio/1"]
_MADE = {}


@pytest.fixture(scope="session")
def shared_template(services, template, tmp_path_factory):
    """Name of the database that these tests copy."""
    name = "equal_users_template"
    url = parse_postgres_url(services.database_url)
    _MADE["applications"] = asyncio.run(make_equal_users(url, name, template, tmp_path_factory.mktemp("file")))
    return name


@pytest.fixture
async def database_url(services, shared_template):
    """URL of a copy of that database."""
    url = parse_postgres_url(services.database_url)
    admin = await asyncpg.connect(**url.asyncpg_arguments())
    await admin.execute(f"CREATE DATABASE equal_users TEMPLATE {shared_template} STRATEGY file_copy")
    yield url.with_database("equal_users").text()
    await admin.execute("DROP DATABASE equal_users WITH (FORCE)")
    await admin.close()


@pytest.fixture(autouse=True)
def three_applications(only_pictures, shared_template):
    """Let this process drain what is recorded there."""
    registry.use(_MADE["applications"])


async def users_of(database, table="job_queue"):
    rows = await database.fetch(f"SELECT DISTINCT user_id FROM darkroom.{table} ORDER BY 1")
    return [row["user_id"] for row in rows]


async def places(database, *names):
    return [await database.fetchval("SELECT place FROM darkroom.job_progress($1)", name) for name in names]


async def set_caps(database, **caps):
    await database.fetch("INSERT INTO darkroom.settings (key, value) VALUES ('user_caps', $1)", caps)
    await database.commit("check_slots", check_slots)
    while await database.commit("admit", admit):
        pass


async def by_application(database, most):
    """Claim up to so many jobs; return the claims by their applications."""
    found = {name: [] for name in APPLICATIONS}
    for claim in await claim_jobs(database, most=most):
        application, dot, _ = claim.job_type.partition(".")
        found[application if dot else "pictures"].append(claim)
    return found


async def test_turns_and_places_of_one_dont_move_with_the_others(database):
    await database.fetch("""UPDATE public.user_token_balances SET tier = 'PREMIUM' WHERE "userId" = '1'""")
    for name, number in zip(APPLICATIONS, (20, 2, 2), strict=True):
        await submit(database, name, number)
    users = await database.fetch(QUEUE)
    turns = await database.fetch("SELECT user_id, finish FROM darkroom.turns ORDER BY user_id")
    jobs = ("s11", "s12", "1", "2", "p19")
    before = await places(database, *jobs)
    await database.fetch("""UPDATE public.image_enhancement_jobs SET status = 'CANCELLED' WHERE id = 'p11'""")
    await submit(database, "frames", 1)
    after = await places(database, *jobs)
    claims = await by_application(database, 3)

    # only the tier of the user of `pictures` has a weight, and nobody stands behind another one's jobs
    assert [tuple(row) for row in users] == [
        ("1", 20, 0, 250_000),
        ("frames/1", 2, 0, 2_000_000),
        ("studio/1", 2, 0, 2_000_000),
    ]
    assert [(row["user_id"], row["finish"] - turns[1]["finish"]) for row in turns] == [
        ("1", 1_000_000),
        ("frames/1", 0),
        ("studio/1", 0),
    ]
    assert before == [2, 12, 3, 13, 24]
    assert after == [1, 11, 2, 12, 24]  # without the job that was cancelled; the one that entered is before the last
    assert {name: [claim.user_id for claim in ours] for name, ours in claims.items()} == {
        "pictures": ["1"],
        "studio": ["1"],
        "frames": ["1"],
    }


async def test_caps_and_slots_of_one_are_not_taken_by_the_others(database):
    await set_caps(database, FREE=1)
    for name in APPLICATIONS:
        await submit(database, name, 3)
    first = await by_application(database, 9)
    held = await database.fetch(
        """SELECT q.user_id, count(*) FILTER (WHERE q.held_by = 'cap') AS held,
                  count(*) FILTER (WHERE q.status = 'processing') AS running
           FROM darkroom.job_queue q GROUP BY 1 ORDER BY 1"""
    )
    facts = [await database.fetchval("SELECT place FROM darkroom.job_progress($1)", one) for one in ("p12", "s12", "2")]
    await database.run(lambda connection: record(connection, first["studio"][0], Failed("GENERATING", "no")))
    freed = await users_of(database, "freed_slots")
    second = await by_application(database, 9)
    await database.fetch("DELETE FROM frames.orders WHERE id = 1")
    third = await by_application(database, 9)

    assert {name: len(ours) for name, ours in first.items()} == dict.fromkeys(APPLICATIONS, 1)
    assert [tuple(row) for row in held] == [(key, 2, 1) for key in KEYS]
    assert facts == [1, 2, 3]
    assert freed == ["studio/1"]
    assert {name: len(ours) for name, ours in second.items()} == {"pictures": 0, "studio": 1, "frames": 0}
    assert {name: len(ours) for name, ours in third.items()} == {"pictures": 0, "studio": 0, "frames": 1}


async def test_deleted_user_takes_no_job_of_another_application_along(database):
    for name in APPLICATIONS:
        await submit(database, name, 2)
    await database.fetch("DELETE FROM studio.users WHERE _id = '1'")
    without_studio = await users_of(database)
    await database.fetch("DELETE FROM frames.customers WHERE id = 1")
    without_frames = await users_of(database)
    jobs = await database.fetch("SELECT j.status, count(*) FROM darkroom.jobs j GROUP BY 1")
    balance = await database.fetchval("""SELECT balance FROM public.user_token_balances WHERE "userId" = '1'""")
    await submit(database, "studio", 1, "2")
    await database.fetch("DELETE FROM public.users WHERE id = '2'")

    assert without_studio == ["1", "frames/1"]
    assert without_frames == ["1"]
    assert [tuple(row) for row in jobs] == [("PENDING", 2)]
    assert balance == 96
    assert await users_of(database) == ["1", "studio/2"]
    assert await money_violations(database) == []


FOLLOWING = """
ALTER TABLE studio.{0} DROP CONSTRAINT "{0}_userId_fkey",
    ADD FOREIGN KEY ("userId") REFERENCES studio.users ON UPDATE CASCADE ON DELETE CASCADE
"""


async def test_changed_id_is_followed_in_its_application_alone(database):
    for table in ("generations", "usage"):
        await database.fetch(FOLLOWING.format(table))
    await set_caps(database, FREE=1)
    for name in APPLICATIONS:
        await submit(database, name, 2)
    await submit(database, "studio", 1, "2")
    await database.fetch("DELETE FROM studio.users WHERE _id = '2'")
    turn = "SELECT finish FROM darkroom.turns WHERE user_id = $1"
    finish = await database.fetchval(turn, "studio/1")

    await database.fetch("UPDATE studio.users SET _id = '2' WHERE _id = '1'")
    of_studio = [await users_of(database, one) for one in ("job_queue", "turns", "freed_slots")]
    moved = await database.fetchval(turn, "studio/2")
    await database.fetch("UPDATE public.users SET id = 'x' WHERE id = '1'")

    assert of_studio == [["1", "frames/1", "studio/2"]] * 3
    assert moved == finish
    assert await users_of(database) == ["frames/1", "studio/2", "x"]
    assert await users_of(database, "turns") == ["frames/1", "studio/2", "x"]
    claims = await by_application(database, 9)
    assert [claims[name][0].user_id for name in APPLICATIONS] == ["x", "2", "1"]


async def test_adopted_job_has_its_users_key(database):
    for name in APPLICATIONS:
        await submit(database, name, 1)
    await database.fetch("TRUNCATE darkroom.job_queue, darkroom.turns")

    await database.fetch("""INSERT INTO darkroom.settings (key, value) VALUES ('take_over', 'true')
                            ON CONFLICT (key) DO UPDATE SET value = excluded.value""")
    await adopt_jobs(database)

    assert await users_of(database) == KEYS
    assert await users_of(database, "turns") == KEYS
    made = "SELECT darkroom.user_key($1, $2)"
    for job_type in ("enhance", "studio.modify", "frames.enhance"):
        assert await database.fetchval(made, job_type, "a/b") == user_key(job_type, "a/b")


REFUSED = """
CREATE FUNCTION studio.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no ends here'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON studio.generations FOR EACH ROW
    WHEN (NEW.status IN ('failed', 'cancelled')) EXECUTE FUNCTION studio.refuse();
"""


async def test_refused_end_is_refunded_to_the_user_of_its_application(database, foreign):
    for name in APPLICATIONS:
        await submit(database, name, 1)
    await foreign.execute(REFUSED)
    [claim] = (await by_application(database, 3))["studio"]
    failed = Failed("GENERATING", "no")
    with pytest.raises(asyncpg.RaiseError) as refused:
        await database.run(lambda connection: record(connection, claim, failed))
    label = await end_refused(
        database,
        JobRef(claim.job_type, claim.job_id, claim.id),
        failed,
        refused.value,
        condition="q.lease_token = $3",
        value=claim.lease_token,
        waits=True,
    )

    assert label.status == "REFUNDED"
    assert await users_of(database, "refused_ends") == ["1"]
    assert await database.fetchval("""SELECT "tokenBalance" FROM studio.users WHERE _id = '1'""") == 100
    assert await database.fetchval("""SELECT balance FROM public.user_token_balances WHERE "userId" = '1'""") == 98
    assert await money_violations(database) == []


async def test_budgets_and_results_that_may_be_reused_are_a_users_own(database):
    for name in APPLICATIONS:
        await submit(database, name, 2)
    claims = await by_application(database, 6)
    rules = {"first_concurrency": 9, "concurrency": 9, "breaker_failures": 9, "breaker_s": 10}
    rules["budgets"] = {"user_day_calls": 1}
    plan = CallPlan("gemini", "generate", may_be_paid=True, model="m", price_usd=1, images=1, rules=rules)

    opened = {}
    for name, (first, second) in claims.items():
        alone = await database.run(lambda connection, one=first: open_call(connection, one, plan))
        [grouped] = await database.run(lambda connection, one=second: open_calls(connection, [(one, plan)]))
        opened[name] = [type(alone), type(grouped)]
    payers = await database.fetch("SELECT user_id, payer FROM darkroom.provider_calls ORDER BY payer")
    for ours in claims.values():
        await database.run(lambda connection, one=ours[0]: record_artifact(connection, one, make_artifact()))
    await database.fetch("DELETE FROM darkroom.artifacts WHERE job_type = 'enhance'")
    same = {}
    for name, ours in claims.items():
        same[name] = await database.run(lambda connection, one=ours[1]: find_same(connection, one, "f" * 64))

    assert opened == {name: [Admitted, Refused] for name in APPLICATIONS}
    assert [tuple(row) for row in payers] == [("1", "user:1"), ("1", "user:frames/1"), ("1", "user:studio/1")]
    assert same == {"pictures": None, "studio": make_artifact(), "frames": make_artifact()}
