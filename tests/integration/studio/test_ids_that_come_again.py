"""A generation whose id an earlier one had is a new job: nothing of the earlier one is taken for it."""

import asyncpg
import pytest

from models.applications.registry import job_tables
from models.gate.provider_calls import generations, generations_asked
from models.queue.reading import Asked, read_rows
from tests.integration.studio.test_entering import INSERT, balance, entries, usage
from tests.support.builders import claim_jobs

AGAIN = """
INSERT INTO generations (_id, "userId", prompt, "tokensUsed") VALUES ('g1', 'u2', 'A cup on a table', 2)
"""
"""The same id, for another user, of another type and price."""

RECORDS = """
INSERT INTO darkroom.checkpoints (job_type, job_id, stage, output)
VALUES ('studio.modify', 'g1', 'GENERATING/1', '{"key": "of another user"}');
INSERT INTO darkroom.artifacts (job_type, job_id, input_hash, user_id, key, sha256, bytes, width, height, model)
VALUES ('studio.generate', 'g1', 'h', 'u2', 'k', 's', 1, 1, 1, 'm');
INSERT INTO darkroom.provider_calls
    (job_type, job_id, user_id, attempt, provider, purpose, input_hash, may_be_paid, outcome)
VALUES ('studio.generate', 'g1', 'u2', 1, 'p', 'generate', 'h', true, 'answered');
"""


async def around_triggers(connection, sql):
    await connection.execute(f"SET session_replication_role = replica; {sql}; RESET session_replication_role")


async def queue_rows(connection):
    rows = await connection.fetch("SELECT job_type, user_id, job_id FROM darkroom.job_queue ORDER BY id")
    return [tuple(row) for row in rows]


async def violations(connection):
    return [tuple(row) for row in await connection.fetch("SELECT violation, finding FROM darkroom.money_violations")]


async def test_id_of_a_deleted_generation_is_a_new_job_with_a_charge_and_a_refund_of_its_own(database, foreign):
    await foreign.execute(INSERT)
    await foreign.execute("UPDATE generations SET status = 'cancelled'")
    await foreign.execute("BEGIN")
    await foreign.execute("SELECT now()")  # older than what the earlier job records next
    await database.commit("records", lambda connection: connection.execute(RECORDS))

    await foreign.execute("DELETE FROM generations")
    await foreign.execute(AGAIN)
    await foreign.execute("COMMIT")

    assert await queue_rows(foreign) == [("studio.generate", "studio/u2", "g1")]
    assert (await balance(foreign, "u1"), await balance(foreign, "u2")) == (20, 3)
    assert tuple(await foreign.fetchrow("SELECT charged, refunded FROM darkroom.job_status('g1')")) == (2, 0)
    assert await foreign.fetchval("SELECT count(*) FROM darkroom.checkpoints") == 0
    assert await foreign.fetchval("SELECT count(*) FROM darkroom.artifacts") == 0
    [claim] = await claim_jobs(database)
    assert await database.run(lambda connection: generations(connection, [claim])) == [[]]
    assert await database.run(lambda connection: generations_asked(connection, claim, "h")) == []
    asked = [Asked(claim, needs_kept=True, needs_artifact=True)]
    [row] = await database.run(lambda connection: read_rows(connection, job_tables()[0], asked))
    assert (row["_stages"], row["_artifact"], row["_generations"]) == ([], None, None)

    await foreign.execute("UPDATE generations SET status = 'cancelled'")

    assert (await balance(foreign, "u1"), await balance(foreign, "u2")) == (20, 5)
    assert [entry[:3] for entry in await entries(foreign, "u2")] == [
        ("opening", 5, None), ("charge", -2, "g1"), ("refund", 2, "g1"),
    ]  # fmt: skip
    assert await violations(foreign) == []


async def test_id_comes_again_as_often_as_its_producer_wants(foreign):
    for _ in range(3):
        await foreign.execute(INSERT)
        await foreign.execute("DELETE FROM generations")

    assert await balance(foreign) == 20
    assert [entry[1] for entry in await entries(foreign)] == [20, *[-4, 4] * 3]
    assert await violations(foreign) == []


async def test_earlier_job_that_left_past_the_triggers_is_refunded_once_and_queued_no_more(foreign):
    await foreign.execute(INSERT)
    await around_triggers(foreign, "DELETE FROM generations")

    await foreign.execute(AGAIN)

    assert await queue_rows(foreign) == [("studio.generate", "studio/u2", "g1")]
    assert (await balance(foreign, "u1"), await balance(foreign, "u2")) == (20, 3)
    assert [entry[:2] for entry in await entries(foreign)] == [("opening", 20), ("charge", -4), ("refund", 4)]
    assert await violations(foreign) == []


async def test_refund_that_is_owed_for_the_earlier_job_is_paid_before_the_new_one_enters(foreign):
    await foreign.execute("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW."tokenBalance" > OLD."tokenBalance" THEN RAISE EXCEPTION 'no'; END IF; RETURN NEW; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION refuse()""")
    await foreign.execute(INSERT)
    await foreign.execute("DELETE FROM generations")

    with pytest.raises(asyncpg.UniqueViolationError, match="refund of an earlier job with this id is still owed"):
        await foreign.execute(AGAIN)
    await foreign.execute("DROP TRIGGER refuse ON users")
    await foreign.execute(AGAIN)

    assert (await balance(foreign, "u1"), await balance(foreign, "u2")) == (20, 3)
    assert await foreign.fetchval("SELECT count(*) FROM darkroom.refunds_owed") == 0
    assert await violations(foreign) == []


async def test_serializable_producer_is_refused_an_id_that_was_charged_and_charges_nothing(foreign):
    await foreign.execute(INSERT)
    await foreign.execute("DELETE FROM generations")
    await foreign.execute("SET default_transaction_isolation = 'serializable'")

    with pytest.raises(asyncpg.UniqueViolationError):
        await foreign.execute(INSERT)

    await around_triggers(foreign, "DELETE FROM darkroom.job_money")
    await foreign.execute(INSERT)
    await around_triggers(foreign, "DELETE FROM generations; DELETE FROM darkroom.job_money")
    with pytest.raises(asyncpg.UniqueViolationError, match="still in the queue"):
        await foreign.execute(INSERT)


async def test_truncate_ends_unfinished_jobs_as_their_deletion_does(foreign):
    await foreign.execute(INSERT)
    await foreign.execute(AGAIN.replace("'g1'", "'g2'"))
    await foreign.execute(AGAIN.replace("'g1'", "'g3'"))
    await foreign.execute("UPDATE generations SET status = 'cancelled' WHERE _id = 'g3'")

    await foreign.execute("TRUNCATE generations")

    assert await queue_rows(foreign) == []
    assert (await balance(foreign, "u1"), await balance(foreign, "u2")) == (20, 5)
    assert [action for action, _ in await usage(foreign)] == ["generation_started", "generation_cancelled"]
    assert (await usage(foreign))[1][1] == {"generationId": "g1", "tokens": 4, "reason": "deleted"}
    assert [action for action, _ in await usage(foreign, "u2")].count("generation_cancelled") == 2
    assert await violations(foreign) == []
    await foreign.execute(INSERT)
    await foreign.execute("TRUNCATE users CASCADE")
    assert await queue_rows(foreign) == []
