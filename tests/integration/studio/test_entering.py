"""What a producer of studio may insert, and what becomes of it in the producer's own statement."""

import asyncio
import json

import asyncpg
import pytest

INSERT = """
INSERT INTO generations (_id, "userId", prompt, parameters, "productImageFiles", "modelImageFiles", "tokensUsed")
VALUES ('g1', 'u1', 'The shirt on the model, at a market', '{"size": "1K", "count": 2}', '{f1}', '{f2}', 4)
"""

MOST_PROMPT_CHARS = 8_000


async def insert(connection, **columns):
    """Insert a generation that would be accepted but for the given columns; return its id."""
    row = {"userId": "u1", "prompt": "a shirt", "parameters": "{}", "tokensUsed": 2} | columns
    names = ", ".join(f'"{name}"' for name in row)
    places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    return await connection.fetchval(
        f"INSERT INTO generations ({names}) VALUES ({places}) RETURNING _id", *row.values()
    )


async def balance(connection, user="u1"):
    return await connection.fetchval("""SELECT "tokenBalance" FROM users WHERE _id = $1""", user)


async def entries(connection, user="u1"):
    """Return kind, amount, job and balance after it of each change of a user's balance, in order."""
    rows = await connection.fetch(
        """SELECT kind, amount, job_id, balance_after FROM darkroom.token_entries
           WHERE application = 'studio' AND user_id = $1 ORDER BY id""",
        user,
    )
    return [tuple(row) for row in rows]


async def usage(connection, user="u1"):
    rows = await connection.fetch(
        """SELECT action, metadata FROM usage WHERE "userId" = $1 ORDER BY timestamp, action""", user
    )
    return [(row["action"], json.loads(row["metadata"])) for row in rows]


async def test_generation_enters_and_is_charged_in_its_own_statement(foreign):
    await foreign.execute(INSERT)

    assert await balance(foreign) == 16
    assert await entries(foreign) == [("opening", 20, None, 20), ("charge", -4, "g1", 16)]
    assert tuple(
        await foreign.fetchrow("SELECT job_type, user_id, tier, ready FROM darkroom.job_queue WHERE job_id = 'g1'")
    ) == ("studio.modify", "studio/u1", "TIER_1K", True)
    assert await usage(foreign) == [("generation_started", {"generationId": "g1", "tokens": 4})]


async def test_repeated_id_is_refused_and_charges_nothing(foreign):
    await foreign.execute(INSERT)

    with pytest.raises(asyncpg.UniqueViolationError):
        await foreign.execute(INSERT)

    assert await balance(foreign) == 16
    assert len(await usage(foreign)) == 1


async def test_generation_that_is_rolled_back_leaves_nothing(foreign):
    transaction = foreign.transaction()
    await transaction.start()
    await foreign.execute(INSERT)
    await transaction.rollback()

    assert await balance(foreign) == 20
    assert await entries(foreign) == [("opening", 20, None, 20)]
    assert await usage(foreign) == []
    assert await foreign.fetchval("SELECT count(*) FROM darkroom.job_queue") == 0


@pytest.mark.parametrize("label", ["completed", "failed", "cancelled"])
async def test_row_with_a_terminal_label_is_history(foreign, label):
    await insert(foreign, status=label, tokensUsed=999)

    assert await balance(foreign) == 20
    assert await usage(foreign) == []
    assert await foreign.fetchval("SELECT count(*) FROM darkroom.job_queue") == 0


REFUSED = [
    ({"parameters": '{"size": "8K"}'}, "22023", 'parameters.size: "8K" is none of 1K, 2K, 4K'),
    ({"parameters": '{"size": 2}'}, "22023", "parameters.size: 2 is none of 1K, 2K, 4K"),
    ({"parameters": '{"count": 9}'}, "22023", "parameters.count: 9 is not between 1 and 4"),
    ({"parameters": '{"count": 0}'}, "22023", "parameters.count: 0 is not between 1 and 4"),
    ({"parameters": '{"count": "2"}'}, "22023", 'parameters.count: "2" is not between 1 and 4'),
    ({"parameters": "[]"}, "22023", "parameters: [] is no object"),
    ({"tokensUsed": 1}, "P0001", "wrong price: given 1, expected 2"),
    ({"tokensUsed": -2}, "P0001", "wrong price: given -2, expected 2"),
    ({"parameters": '{"size": "4K", "count": 3}', "tokensUsed": 10}, "P0001", "wrong price: given 10, expected 30"),
    ({"userId": "poor"}, "P0001", "too few tokens: needed 2, available 1"),
    ({"userId": "nobody"}, "23503", None),
    ({"productImageFiles": ["f1"] * 3, "modelImageFiles": ["f2"] * 2}, "22023", "5 input files, at most 4"),
    ({"productImageFiles": ["f9"]}, "P0002", "file f9: not found"),
    ({"productImageFiles": [None]}, "P0002", "file NULL: not found"),
    ({"productImageFiles": ["f4"]}, "42501", "file f4: not yours"),
    (
        {"productImageFiles": ["f3"]},
        "22023",
        "file f3: category profile_image doesn't fit productImageFiles",
    ),
    (
        {"productImageFiles": ["f1"], "modelImageFiles": ["f1"]},
        "22023",
        "file f1: category product_image doesn't fit modelImageFiles",
    ),
    ({"resultImageFiles": ["f1"]}, "22023", "resultImageFiles: 1 files are named already, must be empty"),
    ({"prompt": ""}, "22023", "prompt: must not be empty"),
    ({"prompt": " \n"}, "22023", "prompt: must not be empty"),
    ({"prompt": "x" * (MOST_PROMPT_CHARS + 1)}, "22023", "prompt: 8001 characters, at most 8000"),
    ({"_id": "x" * 201}, "22001", None),
]


async def test_what_breaks_a_rule_is_refused_and_leaves_no_row(foreign):
    for columns, sqlstate, words in REFUSED:
        with pytest.raises(asyncpg.PostgresError) as refused:
            await insert(foreign, **columns)
        assert (refused.value.sqlstate, columns) == (sqlstate, columns)
        assert words is None or refused.value.message == words, columns
        for label in ("uploading",):  # a row that waits for its producer is charged and checked all the same
            with pytest.raises(asyncpg.PostgresError) as refused:
                await insert(foreign, status=label, **columns)
            assert (refused.value.sqlstate, columns) == (sqlstate, columns)

    assert await foreign.fetchval("SELECT count(*) FROM generations") == 0
    assert await balance(foreign) == 20
    assert await usage(foreign) == []


async def test_rows_of_a_statement_enter_all_or_none(foreign):
    with pytest.raises(asyncpg.RaiseError):
        await foreign.execute(
            """INSERT INTO generations ("userId", prompt, "tokensUsed")
               SELECT 'u1', 'a shirt', 2 FROM generate_series(1, 11)"""
        )
    assert await balance(foreign) == 20

    await foreign.execute(
        """INSERT INTO generations ("userId", prompt, "tokensUsed")
           SELECT 'u1', 'a shirt', 2 FROM generate_series(1, 10)"""
    )

    assert await balance(foreign) == 0
    assert [entry[3] for entry in await entries(foreign)] == list(range(20, -1, -2))
    assert await foreign.fetchval("SELECT count(*) FROM darkroom.job_queue WHERE job_type = 'studio.generate'") == 10


async def test_twelve_inserts_at_once_against_a_balance_for_five(connect):
    producers = [await connect() for _ in range(12)]
    await producers[0].execute("""UPDATE users SET "tokenBalance" = 10 WHERE _id = 'u1'""")

    ended = await asyncio.gather(*(insert(one) for one in producers), return_exceptions=True)

    refused = [one for one in ended if isinstance(one, BaseException)]
    assert len(refused) == 7
    assert {(one.sqlstate, one.message) for one in refused} == {("P0001", "too few tokens: needed 2, available 0")}
    assert await balance(producers[0]) == 0
    assert await producers[0].fetchval("SELECT count(*) FROM darkroom.job_queue") == 5


async def test_wrong_change_by_another_program_is_recorded_as_other(foreign):
    await foreign.execute("""UPDATE users SET "tokenBalance" = "tokenBalance" + 30 WHERE _id = 'u1'""")
    await foreign.execute("""INSERT INTO users (_id, email, "tokenBalance") VALUES ('u3', 'u3@example.org', 7)""")

    assert await entries(foreign) == [("opening", 20, None, 20), ("other", 30, None, 50)]
    assert await entries(foreign, "u3") == [("opening", 7, None, 7)]


@pytest.mark.parametrize("status", ["pending", "uploading"])
async def test_time_of_a_transaction_holds_for_its_generations(foreign, status):
    async with foreign.transaction():
        await foreign.execute("SELECT set_config('darkroom.run_at', (now() + interval '1 hour')::text, true)")
        job = await insert(foreign, status=status)

    await foreign.execute("UPDATE generations SET status = 'pending' WHERE _id = $1", job)

    row = await foreign.fetchrow(
        """SELECT status, ready, run_at = scheduled_at, run_at > now() + interval '50 minutes'
           FROM darkroom.job_queue WHERE job_id = $1""",
        job,
    )
    assert tuple(row) == ("retrying", False, True, True)
