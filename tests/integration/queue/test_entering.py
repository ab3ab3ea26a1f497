"""How a job enters the queue, whichever program inserts it: in the producer's own statement, all rows or none."""

import asyncio
import io

import asyncpg
import pytest

from tests.support.builders import (
    balance_of,
    job_row,
    ledger_of,
    make_balance,
    make_generation,
    make_image,
    make_job,
    make_user,
    money_violations,
    new_id,
    queue_row,
    set_mode,
    set_status,
)

INSERT = """
INSERT INTO public.image_enhancement_jobs (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt")
VALUES ($1, $2, $3, $4::text::public."EnhancementTier", $5, 'PENDING', now() AT TIME ZONE 'utc')
"""

INSERT_MANY = """
INSERT INTO public.image_enhancement_jobs
    (id, "imageId", "userId", tier, "tokensCost", status, "createdAt", "updatedAt")
SELECT 'many' || lpad(n::text, 6, '0'), ($1::text[])[1 + n % cardinality($1::text[])],
       ($2::text[])[1 + n % cardinality($2::text[])], 'TIER_1K', 2, 'PENDING',
       timestamp '2026-01-01' + n * interval '1 ms', now() AT TIME ZONE 'utc'
FROM generate_series(0, $3 - 1) n
"""


async def insert(connection, user, image, *, tier="TIER_1K", cost=2):
    job = new_id("j")
    await connection.execute(INSERT, job, image, user, tier, cost)
    return job


async def count_jobs(database):
    return (
        await database.fetchval("SELECT count(*) FROM darkroom.jobs"),
        await database.fetchval("SELECT count(*) FROM darkroom.job_queue"),
        await database.fetchval("SELECT count(*) FROM darkroom.job_money"),
        await database.fetchval("SELECT count(*) FROM public.token_transactions"),
    )


async def test_pending_insert_queues_and_charges(database):
    user = await make_user(database, balance=10)

    job = await make_job(database, user_id=user, tier="TIER_2K")

    row = await queue_row(database, job)
    assert (row["job_type"], row["status"], row["stage"], row["max_attempts"]) == ("enhance", "pending", "ANALYZING", 4)
    assert await balance_of(database, user) == 5
    assert (await job_row(database, job))["status"] == "PENDING"


async def test_pending_insert_writes_one_ledger_row(database):
    user = await make_user(database, balance=10)

    job = await make_job(database, user_id=user, tier="TIER_2K")

    (row,) = await ledger_of(database, user)
    assert tuple(row) == (-5, "SPEND_ENHANCEMENT", "enhancement", job, 5, None)


async def test_generation_insert_queues_and_charges(database):
    user = await make_user(database, balance=10)

    job = await make_generation(database, user_id=user, tier="TIER_4K", kind="MODIFY")

    row = await queue_row(database, job)
    assert (row["job_type"], row["stage"], row["max_attempts"]) == ("modify", "GENERATING", 4)
    (entry,) = await ledger_of(database, user)
    assert tuple(entry)[:5] == (-10, "SPEND_MCP_GENERATION", "mcp_generation", job, 0)


async def test_blend_insert_queues_a_blend(database):
    job = await make_job(database, isBlend=True)

    assert (await queue_row(database, job))["job_type"] == "blend"


async def test_free_insert_queues_without_any_money(database):
    user = await make_user(database, balance=None)

    job = await make_job(database, user_id=user, tier="FREE")

    assert await queue_row(database, job)
    assert await ledger_of(database, user) == []
    assert await database.fetchval("SELECT count(*) FROM darkroom.job_money") == 0


@pytest.mark.parametrize(("retries", "attempts"), [(0, 1), (7, 8), (-5, 1), (2**31 - 1, 2**31 - 1)])
async def test_insert_with_max_retries_gets_one_attempt_more(database, retries, attempts):
    job = await make_job(database, maxRetries=retries)

    assert (await queue_row(database, job))["max_attempts"] == attempts


async def test_ten_thousand_rows_in_one_statement_are_all_charged_and_queued(database):
    users = [await make_user(database, balance=20_000) for _ in range(3)]
    images = [await make_image(database, user) for user in users]

    await database.fetch(INSERT_MANY, images, users, 10_000)

    assert await count_jobs(database) == (10_000, 10_000, 10_000, 10_000)
    spent = [20_000 - await balance_of(database, user) for user in users]
    assert sorted(spent) == [6_666, 6_666, 6_668]


async def test_many_rows_in_one_statement_are_queued_in_the_order_of_their_creation(database):
    user = await make_user(database, balance=1_000)
    image = await make_image(database, user)

    await database.fetch(INSERT_MANY, [image], [user], 300)

    jobs = [row[0] for row in await database.fetch("SELECT job_id FROM darkroom.job_queue ORDER BY position")]
    assert jobs == sorted(jobs)


async def test_many_rows_in_one_statement_leave_an_unbroken_chain_of_balances(database):
    users = [await make_user(database, balance=1_000) for _ in range(2)]
    images = [await make_image(database, user) for user in users]

    await database.fetch(INSERT_MANY, images, users, 300)

    for user in users:
        rows = await database.fetch(
            """SELECT t."balanceAfter" FROM public.token_transactions t JOIN darkroom.jobs j ON j.id = t."sourceId"
               WHERE t."userId" = $1 ORDER BY j."createdAt" """,
            user,
        )
        assert [row["balanceAfter"] for row in rows] == [1_000 - 2 * n for n in range(1, 151)]


async def test_many_rows_with_one_unpayable_are_all_refused(database, foreign):
    rich, poor = await make_user(database, balance=1_000), await make_user(database, balance=3)
    images = [await make_image(database, user) for user in (rich, poor)]

    with pytest.raises(asyncpg.RaiseError) as caught:
        await foreign.execute(INSERT_MANY, images, [rich, poor], 20)

    assert (caught.value.sqlstate, caught.value.detail) == ("P0001", "needed 20, available 3")
    assert await count_jobs(database) == (0, 0, 0, 0)
    assert (await balance_of(database, rich), await balance_of(database, poor)) == (1_000, 3)


@pytest.mark.parametrize(("cost", "detail"), [(1, "given 1, expected 2"), (-2, "given -2, expected 2")])
async def test_insert_with_a_wrong_price_is_refused(database, foreign, cost, detail):
    user = await make_user(database)
    image = await make_image(database, user)

    with pytest.raises(asyncpg.RaiseError) as caught:
        await insert(foreign, user, image, cost=cost)

    assert (caught.value.sqlstate, caught.value.detail) == ("P0001", detail)
    assert await count_jobs(database) == (0, 0, 0, 0)


async def test_free_insert_with_a_cost_is_refused(database, foreign):
    user = await make_user(database)
    image = await make_image(database, user)

    with pytest.raises(asyncpg.RaiseError, match="wrong price"):
        await insert(foreign, user, image, tier="FREE", cost=-1)


async def test_insert_without_a_balance_row_counts_as_zero(database, foreign):
    user = await make_user(database, balance=None)
    image = await make_image(database, user)

    with pytest.raises(asyncpg.RaiseError) as caught:
        await insert(foreign, user, image)

    assert caught.value.detail == "needed 2, available 0"


async def test_insert_of_the_last_token_is_taken(database, foreign):
    user = await make_user(database, balance=2)
    image = await make_image(database, user)

    await insert(foreign, user, image)

    assert await balance_of(database, user) == 0


async def test_insert_that_is_rolled_back_leaves_nothing(database, foreign):
    user = await make_user(database)
    image = await make_image(database, user)

    transaction = foreign.transaction()
    await transaction.start()
    await insert(foreign, user, image)
    await transaction.rollback()

    assert await count_jobs(database) == (0, 0, 0, 0)
    assert await balance_of(database, user) == 100


@pytest.mark.parametrize("status", ["PROCESSING", "COMPLETED", "FAILED", "REFUNDED", "CANCELLED"])
async def test_insert_with_another_status_is_history(database, status):
    user = await make_user(database, balance=0)

    await make_job(database, user_id=user, status=status)

    assert await count_jobs(database) == (1, 0, 0, 0)


async def test_insert_of_history_beside_pending_rows_charges_only_those(database, foreign):
    user = await make_user(database, balance=2)
    image = await make_image(database, user)

    await foreign.execute(
        """INSERT INTO public.image_enhancement_jobs (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt")
           VALUES ('h1', $1, $2, 'TIER_4K', 10, 'COMPLETED', now()), ('p1', $1, $2, 'TIER_1K', 2, 'PENDING', now())""",
        image,
        user,
    )

    assert await queue_row(database, "p1")
    assert await queue_row(database, "h1") is None
    assert await balance_of(database, user) == 0


async def test_copy_queues_and_charges(database, foreign):
    user = await make_user(database, balance=4)
    image = await make_image(database, user)
    lines = "".join(f"c{n}\t{image}\t{user}\tTIER_1K\t2\tPENDING\t2026-01-01 00:00:00\n" for n in range(2))

    await foreign.copy_to_table(
        "image_enhancement_jobs",
        source=io.BytesIO(lines.encode()),
        columns=["id", "imageId", "userId", "tier", "tokensCost", "status", "updatedAt"],
        schema_name="public",
    )

    assert await count_jobs(database) == (2, 2, 2, 2)
    assert await balance_of(database, user) == 0


async def test_insert_on_conflict_do_nothing_charges_only_what_was_inserted(database, foreign):
    user = await make_user(database, balance=10)
    image = await make_image(database, user)
    job = await insert(foreign, user, image)

    await foreign.execute(INSERT + "ON CONFLICT DO NOTHING", job, image, user, "TIER_1K", 2)

    assert await count_jobs(database) == (1, 1, 1, 1)
    assert await balance_of(database, user) == 8


async def test_insert_on_conflict_do_update_charges_only_what_was_inserted(database, foreign):
    user = await make_user(database, balance=10)
    image = await make_image(database, user)
    job = await insert(foreign, user, image)

    await foreign.execute(
        INSERT + """ON CONFLICT (id) DO UPDATE SET "geminiPrompt" = 'again'""", job, image, user, "TIER_1K", 2
    )

    assert await count_jobs(database) == (1, 1, 1, 1)
    assert await balance_of(database, user) == 8


async def test_insert_in_a_subquery_of_another_statement_is_charged(database, foreign):
    user = await make_user(database, balance=2)
    image = await make_image(database, user)

    await foreign.execute(f"WITH made AS ({INSERT} RETURNING id) SELECT * FROM made", "w1", image, user, "TIER_1K", 2)

    assert await queue_row(database, "w1")
    assert await balance_of(database, user) == 0


async def test_insert_under_an_id_that_was_charged_before_is_refused(database, foreign):
    user = await make_user(database, balance=10)
    image = await make_image(database, user)
    job = await insert(foreign, user, image)
    await foreign.execute("DELETE FROM public.image_enhancement_jobs WHERE id = $1", job)

    with pytest.raises(asyncpg.UniqueViolationError):
        await foreign.execute(INSERT, job, image, user, "TIER_1K", 2)

    assert await balance_of(database, user) == 10


async def test_job_of_the_same_id_in_both_tables_is_two_jobs(database, foreign):
    user = await make_user(database, balance=10)
    image = await make_image(database, user)
    await foreign.execute(INSERT, "twin", image, user, "TIER_1K", 2)
    await foreign.execute(
        """INSERT INTO public.mcp_generation_jobs (id, "userId", type, tier, "tokensCost", status, prompt, "updatedAt")
           VALUES ('twin', $1, 'GENERATE', 'TIER_2K', 5, 'PENDING', 'x', now())""",
        user,
    )

    await foreign.execute("UPDATE public.mcp_generation_jobs SET status = 'CANCELLED' WHERE id = 'twin'")

    assert await balance_of(database, user) == 8
    rows = await database.fetch("SELECT job_type FROM darkroom.job_queue WHERE job_id = 'twin'")
    assert [row["job_type"] for row in rows] == ["enhance"]


async def test_insert_in_a_session_of_another_zone_and_date_style_is_utc(database, foreign):
    user = await make_user(database, balance=10)
    image = await make_image(database, user)
    await foreign.execute(
        "SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'German, DMY'; SET IntervalStyle = 'sql_standard'"
    )

    job = await insert(foreign, user, image)

    off_s = await database.fetchval(
        """SELECT abs(extract(epoch FROM j."createdAt" - (now() AT TIME ZONE 'utc')))
                  + abs(extract(epoch FROM t."createdAt" - (now() AT TIME ZONE 'utc')))
                  + abs(extract(epoch FROM q.created_at - now()))
           FROM darkroom.jobs j JOIN public.token_transactions t ON t."sourceId" = j.id
           JOIN darkroom.job_queue q ON q.job_id = j.id WHERE j.id = $1""",
        job,
    )
    assert off_s < 60


async def test_forty_producers_of_one_user_at_once_never_overspend(database, connect):
    user = await make_user(database, balance=30)
    image = await make_image(database, user)
    producers = [await connect() for _ in range(40)]

    outcomes = await asyncio.gather(*(insert(producer, user, image) for producer in producers), return_exceptions=True)

    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert len(refused) == 25
    assert {type(error) for error in refused} == {asyncpg.RaiseError}
    assert await balance_of(database, user) == 0


async def test_ledger_of_producers_at_once_is_dated_in_the_order_of_its_balances(database, connect):
    user = await make_user(database, balance=100)
    image = await make_image(database, user)
    slow = await connect()
    quick = await connect()

    async with slow.transaction():
        await slow.execute("SELECT 1")  # begins first
        await insert(quick, user, image)
        await insert(slow, user, image)

    rows = await database.fetch("""SELECT "createdAt" FROM public.token_transactions ORDER BY "balanceAfter" DESC""")
    assert rows[0]["createdAt"] <= rows[1]["createdAt"]


async def test_producers_of_many_users_in_opposite_orders_never_deadlock(database, connect):
    users = [await make_user(database, balance=1_000) for _ in range(6)]
    images = [await make_image(database, user) for user in users]
    producers = [await connect() for _ in range(8)]

    async def produce(number, producer):
        order = users if number % 2 else users[::-1]
        for round_ in range(5):
            await producer.execute(INSERT_MANY.replace("'many'", f"'m{number}x{round_}'"), images, order, 12)

    await asyncio.gather(*(produce(*one) for one in enumerate(producers)))

    assert await count_jobs(database) == (480, 480, 480, 480)


async def test_insert_in_external_mode_moves_nothing(database):
    user = await make_user(database, balance=0)
    await set_mode(database, "external")

    job = await make_job(database, user_id=user)

    assert await queue_row(database, job)
    assert (await ledger_of(database, user), await balance_of(database, user)) == ([], 0)


async def test_cancelled_insert_in_external_mode_moves_nothing(database):
    user = await make_user(database, balance=0)
    await set_mode(database, "external")
    job = await make_job(database, user_id=user)

    await set_status(database, job, "CANCELLED")

    assert await queue_row(database, job) is None
    assert (await ledger_of(database, user), await balance_of(database, user)) == ([], 0)
    assert await money_violations(database) == []


async def test_balance_and_jobs_in_one_transaction_are_charged(database, foreign):
    user = await make_user(database, balance=None)
    image = await make_image(database, user)

    async with foreign.transaction():
        await foreign.execute(
            """INSERT INTO public.user_token_balances (id, "userId", balance, "updatedAt") VALUES ($1, $2, 9, now())""",
            new_id("b"),
            user,
        )
        await insert(foreign, user, image)

    assert await balance_of(database, user) == 7
    assert await database.fetchval("SELECT balance FROM darkroom.opening_balances WHERE user_id = $1", user) == 9


async def test_balance_made_after_a_refused_insert_pays_the_next(database, foreign):
    user = await make_user(database, balance=None)
    image = await make_image(database, user)
    with pytest.raises(asyncpg.RaiseError):
        await insert(foreign, user, image)

    await make_balance(database, user, 2)

    assert await queue_row(database, await insert(foreign, user, image))
