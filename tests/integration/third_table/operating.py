"""What operators see and change of the third table's jobs; run by tests/integration/third_table/test_third_table.py."""

import pytest

from models.queue.job_filter import JobFilter
from models.queue.job_rows import read_jobs
from models.queue.transitions import Completed, Failed
from pipelines.settings import Settings
from tests.integration.migrations.test_comments import WITHOUT
from tests.integration.third_table.accounts import around_triggers, entries_of
from tests.integration.third_table.scenarios import claimed, credits_of, make_order, order_row, write
from tests.support.builders import claim_jobs, make_image, make_job, make_user
from workers.cli.jobs import _print_jobs
from workers.operations.audit import audit_tokens, repair_tokens
from workers.operations.errors import InvalidInputError
from workers.operations.explaining import explain_job
from workers.operations.job_lists import list_jobs
from workers.operations.jobs import cancel_job, get_job, get_jobs
from workers.operations.retrying import RetryTerms, rehearse_retries, retry_jobs
from workers.process.compose import open_runtime
from workers.services.services import Services


@pytest.fixture
async def runtime(database, database_url, redis_url, tmp_path):
    services = Services(
        database_url=database_url,
        database_direct_url=database_url,
        redis_url=redis_url,
        broker_url=redis_url,
        storage_url=tmp_path.as_uri(),
        is_embedded=False,
    )
    async with open_runtime(Settings(home=tmp_path), services) as opened:
        yield opened


async def test_jobs_of_every_table_are_listed_newest_first_with_their_own_columns(database, runtime):
    picture = await make_job(database)
    order = await make_order(database)

    listed = await list_jobs(runtime, JobFilter())

    jobs = {job.id: job for job in listed}
    assert jobs.keys() == {picture, order}
    assert (jobs[order].job_type, jobs[order].status, jobs[order].user_id) == ("frame", "PENDING", "7")
    assert (jobs[order].columns["state"], jobs[order].columns["photo_key"]) == ("new", "p")
    assert jobs[order].columns["id"] == int(order)
    assert list(jobs[order].columns)[-1] == "jobType"
    assert [job.id for job in await list_jobs(runtime, JobFilter(job_type="frame"))] == [order]
    assert [job.id for job in await list_jobs(runtime, JobFilter(statuses=["COMPLETED"]))] == []


async def test_jobs_of_every_table_are_printed_by_what_is_known_of_each(database, capsys):
    picture, order = await make_job(database), await make_order(database)
    jobs = await database.run(lambda connection: read_jobs(connection, [picture, order]))

    _print_jobs(jobs, "tokensCost")

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:4] for line in lines[1:]] == [
        [picture, "enhance", "TIER_1K", "PENDING"],
        [order, "frame", "TIER_1K", "PENDING"],
    ]


async def test_id_that_no_table_writes_so_is_unknown_and_no_error(database, runtime):
    await make_order(database)

    assert await get_jobs(runtime, ["nosuch", "1e3", "-0", "99999999999999999999999"]) == []


async def test_job_is_polled_by_its_id_in_our_words_and_one_that_no_table_writes_so_is_unknown(database):
    order = await make_order(database)

    (row,) = await database.fetch("SELECT * FROM darkroom.job_status($1)", order)

    assert (row["id"], row["type"], row["status"], row["refunded"]) == (order, "frame", "PENDING", 0)
    assert row["created_at"].tzinfo is not None
    for unknown in ("nosuch", "1e3", "-0", f"0{order}"):
        assert await database.fetch("SELECT * FROM darkroom.job_status($1)", unknown) == []


async def test_functions_that_are_rendered_for_the_table_have_comments(database):
    assert [row[0] for row in await database.fetch(WITHOUT)] == []


async def test_finished_job_shows_its_state_by_our_name_and_its_times_in_utc(database, runtime):
    claim = await claimed(database)
    await write(database, claim, Completed("GENERATING", 1, {"print_key": "k", "print_url": "u"}))

    details = await get_job(runtime, claim.job_id)

    assert details.job.status == "COMPLETED"
    assert details.job.columns["state"] == "done"
    assert details.job.started_at is not None
    assert details.job.started_at.tzinfo is None
    assert details.queue is None
    assert [move.kind for move in details.money] == ["charge"]


async def test_waiting_and_ended_jobs_are_explained(database, runtime):
    order = await make_order(database)

    waiting = await explain_job(runtime, order)
    (claim,) = await claim_jobs(database)
    await write(database, claim, Failed("GENERATING", "no such picture"))
    ended = await explain_job(runtime, order)

    assert "turn" in {one.kind for one in waiting.waits}
    assert ended.waits == []
    assert ended.job.error == "no such picture"
    # an order's row doesn't say when it was made, so that it counts as submitted when it was begun
    happened = [event.event for event in ended.timeline]
    assert happened.index("charge") < happened.index("claimed") < happened.index("failed")
    assert {"submitted", "refund", "ended"} <= set(happened)


async def test_job_whose_row_another_program_holds_says_so(database, runtime):
    order = await make_order(database)
    holder = await database.connect_direct()
    try:
        await holder.execute("BEGIN; SELECT FROM public.frame_orders FOR UPDATE")
        held = {one.kind for one in (await explain_job(runtime, order)).waits}
    finally:
        holder.terminate()

    assert "held" in held


async def test_job_without_a_queue_row_says_what_becomes_of_it(database, runtime):
    order = await make_order(database)
    await database.fetch("DELETE FROM darkroom.job_queue")

    (wait,) = (await explain_job(runtime, order)).waits

    assert wait.kind == "unqueued"


async def test_operator_cancels_a_job_which_is_refunded(database, runtime):
    order = await make_order(database)

    assert await cancel_job(runtime, order, actor="ada") == "CANCELLED"

    (job,) = await get_jobs(runtime, [order])
    assert (job.status, job.columns["state"]) == ("CANCELLED", "stopped")
    assert await credits_of(database) == 10


async def test_job_whose_table_says_no_way_to_submit_it_again_is_refused_in_words(database, runtime):
    claim = await claimed(database)
    await write(database, claim, Failed("GENERATING", "no such picture"))

    (rehearsed,) = await rehearse_retries(runtime, [claim.job_id], RetryTerms())
    (retried,) = [one async for one in retry_jobs(runtime, [claim.job_id], RetryTerms(only_once=True), actor="ada")]

    assert isinstance(rehearsed.refusal, InvalidInputError)
    assert "can't be tried again" in str(retried.refusal)
    assert retried.new_id is None
    assert await credits_of(database) == 10


async def test_gifts_that_show_nothing_but_a_label_are_read_too(database, runtime):
    gift = str(await database.fetchval("INSERT INTO public.gifts (owner) VALUES ('o') RETURNING gift"))

    (job,) = await get_jobs(runtime, [gift])

    assert (job.id, job.job_type, job.status, job.user_id, job.error) == (gift, "gift", "PENDING", "o", None)
    assert (job.started_at, job.completed_at) == (None, None)


async def test_refund_that_is_missing_is_found_and_paid_to_its_own_balance(database, runtime, connect):
    claim = await claimed(database)
    await write(database, claim, Failed("GENERATING", "no such picture"))
    await database.fetch("DELETE FROM darkroom.job_money WHERE kind = 'refund'")
    await database.fetch("DELETE FROM darkroom.token_entries WHERE kind = 'refund'")
    await around_triggers(connect, "UPDATE public.customers SET credits = 8 WHERE id = 7")

    (found,) = await audit_tokens(runtime)
    repaired = await repair_tokens(runtime, actor="ada")

    assert (found.violation, found.job_id, found.user_id) == ("refund_missing", claim.job_id, "7")
    assert repaired == [found]
    assert await credits_of(database) == 10
    assert await audit_tokens(runtime) == []
    assert await database.fetchval("SELECT count(*) FROM public.audit_logs") == 0  # customer 7 is no user


async def test_refund_of_a_payer_who_is_gone_is_no_violation(database, runtime):
    claim = await claimed(database)
    await database.fetch("DELETE FROM public.customers WHERE id = 7")
    await write(database, claim, Failed("GENERATING", "no such picture"))

    assert await audit_tokens(runtime) == []
    assert (await order_row(database, claim.job_id))["state"] == "error"


async def test_balance_changed_around_the_triggers_is_found_and_no_user_loses_a_token_by_its_repair(
    database, connect, runtime
):
    await around_triggers(
        connect,
        "UPDATE public.customers SET credits = CASE id WHEN 7 THEN 6 ELSE 3 END",
        "INSERT INTO public.customers VALUES (9, 4)",
    )

    found = await audit_tokens(runtime)
    repaired = await repair_tokens(runtime, actor="ada")

    assert [(one.violation, one.user_id, one.finding) for one in found] == [
        ("account_high", "8", "pictures: balance of user 8 is 3, sum of entries 1"),
        ("account_low", "7", "pictures: balance of user 7 is 6, sum of entries 10"),
        ("account_unopened", "9", "pictures: balance of user 9 is 4, sum of entries not recorded"),
    ]
    assert sorted(one.user_id for one in repaired) == ["7", "8", "9"]
    assert [await credits_of(database, customer) for customer in (7, 8, 9)] == [10, 3, 4]
    assert await entries_of(database, "7") == [("opening", 10, None, 10)]
    assert await entries_of(database, "8") == [("opening", 1, None, 1), ("other", 2, None, 3)]
    assert await entries_of(database, "9") == [("opening", 4, None, 4)]


async def test_entry_without_its_move_and_move_without_its_entry_are_found(database, runtime):
    lost, doubled = await make_order(database), await make_order(database)
    await database.fetch("DELETE FROM darkroom.token_entries WHERE job_id = $1", lost)
    await database.fetch(
        """INSERT INTO darkroom.token_entries (application, user_id, amount, kind, job_id, balance_after)
           VALUES ('pictures', '7', -2, 'charge', $1, 6)""",
        doubled,
    )

    found = await audit_tokens(runtime)

    assert {(one.promise, one.violation, one.job_id) for one in found} == {
        *[("I3", "entry_missing", lost), ("I3", "entry_unmatched", doubled)]
    }


async def test_charge_that_the_ledger_has_twice_is_found_beside_an_order_of_the_same_id(database, runtime):
    user = await make_user(database, balance=100)
    order = await make_order(database)
    await database.fetch(
        """INSERT INTO public.image_enhancement_jobs (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt")
           VALUES ($1, $2, $3, 'TIER_1K', 2, 'PENDING', now())""",
        order,
        await make_image(database, user),
        user,
    )
    await database.fetch(
        """INSERT INTO public.token_transactions (id, "userId", amount, type, "sourceId", "balanceAfter")
           VALUES ('planted', $1, 0, 'SPEND_ENHANCEMENT', $2, 0)""",
        user,
        order,
    )

    assert [(one.violation, one.job_type) for one in await audit_tokens(runtime)] == [("ledger_doubled", "enhance")]
