"""Statements over many generations: each rule is asked once for all rows, and results go with their generations."""

import asyncpg
import pytest

from models.applications.studio.job_table import generations
from tests.integration.studio.test_entering import balance, insert

MANY = """
INSERT INTO generations (_id, "userId", prompt, parameters, "productImageFiles", "tokensUsed")
SELECT 'm' || n, 'u1', 'a shirt', CASE WHEN n = $1 THEN $2 ELSE '{}' END::jsonb,
       CASE WHEN n = $1 THEN $3 ELSE '{f1}'::text[] END, 2 FROM generate_series(1, 9) n
"""

CALLS = """
SELECT funcname, calls FROM pg_stat_xact_user_functions WHERE funcname LIKE 'studio\\_%' ORDER BY funcname
"""


async def calls_of(connection, statement):
    """Return how often each function of studio's rules was called by a statement, which is rolled back."""
    await connection.execute("SET track_functions = 'all'")
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(statement)
    calls = dict(await connection.fetch(CALLS))
    await transaction.rollback()
    return calls


async def test_rules_are_asked_once_for_all_rows_of_a_statement(foreign):
    statement = MANY.replace("$1", "0").replace("$2", "''").replace("$3", "'{}'::text[]")

    assert await calls_of(foreign, statement) == {
        "studio_check_inputs": 1,
        "studio_check_parameters": 1,
        "studio_record_usage": 1,
    }


@pytest.mark.parametrize(
    ("parameters", "files", "words"),
    [
        ('{"count": 2.5}', ["f1"], "parameters.count: 2.5 is not between 1 and 4"),
        ('{"count": 2}', ["f1"], "wrong price: given 2, expected 4"),
        ("{}", ["f4"], "file f4: not yours"),
        ("{}", ["f1", "f1", "f1", "f1", "f1"], "5 input files, at most 4"),
    ],
)
async def test_one_row_among_many_that_breaks_a_rule_is_told(foreign, parameters, files, words):
    with pytest.raises(asyncpg.PostgresError) as refused:
        await foreign.execute(MANY, 7, parameters, files)

    assert refused.value.message == words
    assert (await foreign.fetchval("SELECT count(*) FROM generations"), await balance(foreign)) == (0, 20)


async def test_whole_number_of_pictures_may_be_written_with_a_point(foreign):
    await insert(foreign, parameters='{"count": 2.0}', tokensUsed=4)

    row = {"tier": "TIER_1K", "prompt": "a shirt", "parameters": {"count": 2.0}, "keys": None, "lost": None}
    row |= {"model": None, "is_redone": False}
    count = generations("public").inputs.load(row).count
    assert (count, type(count)) == (2, int)


async def with_results(connection):
    """Insert five completed generations of `u1`, each with a file that Darkroom wrote for it."""
    await connection.execute("""
        INSERT INTO files (_id, "userId", category, "storageId")
        SELECT 'r' || n, 'u1', 'generated_image', 'studio/u1/m' || n FROM generate_series(1, 5) n;
        INSERT INTO generations (_id, "userId", prompt, "tokensUsed", status, "resultImageFiles")
        SELECT 'm' || n, 'u1', 'a shirt', 2, 'completed', ARRAY['r' || n] FROM generate_series(1, 5) n;
        INSERT INTO darkroom.objects (key, job_type, job_id)
        SELECT 'studio/u1/m' || n, 'studio.generate', 'm' || n FROM generate_series(1, 5) n;
        INSERT INTO generations (_id, "userId", prompt, "tokensUsed", status, "productImageFiles")
        VALUES ('next', 'u1', 'a shirt', 2, 'completed', '{r2}');
        CREATE TABLE likes (file text REFERENCES files);
        INSERT INTO likes VALUES ('r3');
        UPDATE darkroom.objects SET job_id = 'other' WHERE job_id = 'm4'""")


DELETE = "DELETE FROM generations WHERE _id LIKE 'm%'"


async def results(connection):
    rows = await connection.fetch("SELECT _id FROM files WHERE category = 'generated_image' ORDER BY _id")
    return [row["_id"] for row in rows]


async def test_results_go_with_their_generations_unless_something_needs_them(foreign):
    await with_results(foreign)
    assert await calls_of(foreign, DELETE) == {"studio_drop_results": 1}

    await foreign.execute(DELETE)

    assert await results(foreign) == ["r2", "r3", "r4"]


async def test_file_that_a_trigger_keeps_stays_alone(foreign):
    await with_results(foreign)
    await foreign.execute("""
        CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'kept'; END $$;
        CREATE TRIGGER keep BEFORE DELETE ON files FOR EACH ROW WHEN (OLD._id = 'r1') EXECUTE FUNCTION keep()""")

    await foreign.execute(DELETE)

    assert await results(foreign) == ["r1", "r2", "r3", "r4"]


async def test_user_who_goes_takes_their_results_along(foreign):
    await with_results(foreign)
    await foreign.execute("DELETE FROM likes")

    await foreign.execute("DELETE FROM users WHERE _id = 'u1'")

    assert await results(foreign) == []
