"""A migration of studio renames a column of the balances: its own statements go on, and all is told in words."""

import asyncpg
import pytest

from models.queue.refusal import settle_refused_end
from models.schema.migrate import check
from tests.integration.studio.test_entering import INSERT, balance, insert


@pytest.mark.parametrize("column", ["_id", "tokenBalance"])
async def test_application_goes_on_and_what_is_due_is_owed(database, database_url, foreign, column):
    await foreign.execute(INSERT)
    other = await insert(foreign)
    await foreign.execute(f'ALTER TABLE users RENAME "{column}" TO other')

    await foreign.execute("""UPDATE users SET name = 'Ann' WHERE email = 'u1@example.org'""")
    await foreign.execute(f"""INSERT INTO users ({"other" if column == "_id" else "_id"}, email) VALUES ('u9', 'u9')""")
    await foreign.execute("UPDATE generations SET status = 'cancelled' WHERE _id = 'g1'")
    await foreign.execute("DELETE FROM generations WHERE _id = $1", other)
    with pytest.raises(
        asyncpg.UndefinedColumnError, match=r"^balances of studio can't be read: column .* does not exist"
    ):
        await insert(foreign)

    assert await foreign.fetchval("SELECT status FROM generations") == "cancelled"
    assert await foreign.fetchval("SELECT count(*) FROM darkroom.job_queue") == 0
    owed = await foreign.fetch("SELECT job_id, owed, words FROM darkroom.refunds_owed ORDER BY owed DESC")
    assert [(one["job_id"], one["owed"]) for one in owed] == [("g1", 4), (other, 2)]
    assert owed[0]["words"].startswith("balances of studio can't be read: column ")
    found = await foreign.fetch("SELECT user_id, violation, finding FROM darkroom.money_violations")
    assert [(one["user_id"], one["violation"]) for one in found] == [(None, "account_unreadable")]
    assert found[0]["finding"].startswith("studio: no balance can be read: column ")
    problems = " ".join(one.message for one in await check(database_url))
    assert f'studio: public.users has no column "{column}"' in problems

    await foreign.execute(f'ALTER TABLE users RENAME other TO "{column}"')
    for one in owed:
        kind = "studio.modify" if one["job_id"] == "g1" else "studio.generate"
        await database.commit(
            "settle", lambda connection, kind=kind, one=one: settle_refused_end(connection, kind, one["job_id"])
        )
    assert await balance(foreign) == 20
    left = await foreign.fetch("SELECT user_id, violation FROM darkroom.money_violations")
    assert [tuple(one) for one in left] == [("u9", "account_unopened")]
