"""Jobs of the third table from submission to their end; run by test_third_table.py with its plugin."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from models.gate.provider_calls import CallPlan, open_call
from models.history.objects import record_object
from models.job_state import JobStatus
from models.periodic.orphans import object_page
from models.periodic.references import finished_inputs, named
from models.queue.claims import ClaimLostError, FencedError
from models.queue.groups import GroupWriter
from models.queue.rescue import adopt_jobs, rescue_lost_claims
from models.queue.resuming import begin_at
from models.queue.sweep import Sweep
from models.queue.transitions import Checkpoint, Completed, Failed, Kept, Released, Retried, record
from models.schema.migrate import check
from tests.support.builders import (
    balance_of,
    claim_jobs,
    load_inputs,
    make_artifact,
    make_generation,
    make_job,
    make_user,
    money_violations,
    queue_row,
)
from tests.support.grouping import Write, facts_of, write_all, write_one_by_one


async def make_order(database, customer=7, **columns):
    names = "".join(f", {name}" for name in columns)
    values = "".join(f", ${number}" for number in range(2, 2 + len(columns)))
    order = await database.fetchval(
        f"INSERT INTO public.frame_orders (customer, photo_key{names}) VALUES ($1, 'p'{values}) RETURNING id",
        customer,
        *columns.values(),
    )
    return str(order)


async def order_row(database, order):
    return (await database.fetch("SELECT * FROM public.frame_orders WHERE id = $1::text::bigint", order))[0]


async def write_state(database, order, state):
    await database.fetch("UPDATE public.frame_orders SET state = $2 WHERE id = $1::text::bigint", order, state)


async def credits_of(database, customer=7):
    return await database.fetchval("SELECT credits FROM public.customers WHERE id = $1", customer)


async def claimed(database, **columns):
    order = await make_order(database, **columns)
    (claim,) = await claim_jobs(database)
    assert (claim.job_type, claim.job_id) == ("frame", order)
    return claim


async def write(database, claim, transition):
    return await database.run(lambda connection: record(connection, claim, transition))


async def test_upgraded_database_is_as_it_should_be(database, database_url):
    assert [problem.message for problem in await check(database_url)] == []


async def test_group_of_orders_is_written_as_each_of_them_is_alone(database):
    zombie, *claims = [await claimed(database, price=0) for _ in range(9)]
    await database.fetch("UPDATE darkroom.job_queue SET lease_token = gen_random_uuid() WHERE id = $1", zombie.id)
    events = [
        [Checkpoint("MEASURING", "GENERATING", 60, 1, kept=Kept({"a": 1}))],
        [
            Checkpoint("MEASURING", "GENERATING", 60, 1),
            Completed("GENERATING", 1, {"print_key": "k", "print_url": "u"}),
        ],
        [Retried("MEASURING", "down", timedelta(hours=1))],
        [make_artifact(), Completed("MEASURING", 1, {"print_key": "k"})],
    ]
    alone = [Write(claim, event) for claim, those in zip(claims[:4], events, strict=True) for event in those]
    grouped = [Write(claim, event) for claim, those in zip(claims[4:], events, strict=True) for event in those]

    assert set(await write_one_by_one(database, alone)) == {None}
    lost, *errors = await write_all(GroupWriter(database), [Write(zombie, Released("MEASURING")), *grouped])

    assert (type(lost), set(errors)) == (FencedError, {None})
    for one, other in zip(claims[:4], claims[4:], strict=True):
        assert await facts_of(database, other) == await facts_of(database, one)


async def test_job_enters_is_charged_claimed_and_completes(database):
    claim = await claimed(database)
    row = await order_row(database, claim.job_id)
    assert (row["state"], row["begun"] is not None, await credits_of(database)) == ("working", True, 8)
    assert abs(row["begun"] - datetime.now(UTC)) < timedelta(minutes=1)

    status = await write(database, claim, Completed("GENERATING", 1, {"print_key": "k", "print_url": "u"}))

    row = await order_row(database, claim.job_id)
    assert status == JobStatus.COMPLETED
    assert (row["state"], row["print_key"], row["print_url"], row["reason"]) == ("done", "k", "u", None)
    assert row["ended"] >= row["begun"]
    assert await queue_row(database, claim.job_id) is None
    assert await credits_of(database) == 8
    assert await money_violations(database) == []


async def test_failed_job_is_refunded_once_to_its_own_balance(database):
    claim = await claimed(database)

    status = await write(database, claim, Failed("GENERATING", "no such picture"))

    row = await order_row(database, claim.job_id)
    assert status == JobStatus.FAILED
    assert (row["state"], row["reason"], row["tries"]) == ("error", "no such picture", 1)
    assert await credits_of(database) == 10
    assert await database.fetchval("SELECT count(*) FROM public.token_transactions") == 0
    amounts = await database.fetch("SELECT kind, amount FROM darkroom.job_money ORDER BY kind")
    assert [tuple(one) for one in amounts] == [("charge", 2), ("refund", 2)]
    assert await money_violations(database) == []


async def test_failed_attempt_has_the_label_of_its_own_and_is_claimed_again(database):
    claim = await claimed(database)

    assert await write(database, claim, Retried("GENERATING", "busy", timedelta(0))) == JobStatus.PENDING
    assert (await order_row(database, claim.job_id))["state"] == "again"
    (second,) = await claim_jobs(database)

    assert (second.job_id, second.attempt) == (claim.job_id, 2)
    assert await write(database, second, Released("GENERATING")) == JobStatus.PENDING
    assert (await order_row(database, claim.job_id))["state"] == "new"


async def test_checkpoint_of_a_table_without_its_columns_moves_the_queue_row(database):
    claim = await claimed(database)

    await write(database, claim, Checkpoint("GENERATING", "FRAMING", 60, 1))

    assert (await queue_row(database, claim.job_id))["stage"] == "FRAMING"


async def test_too_few_credits_refuse_the_whole_statement(database):
    with pytest.raises(asyncpg.RaiseError, match="too few tokens for user 8: needed 2, available 1"):
        await database.fetch("INSERT INTO public.frame_orders (customer, photo_key) VALUES (7, 'a'), (8, 'b')")

    assert (await credits_of(database), await credits_of(database, 8)) == (10, 1)
    assert await database.fetchval("SELECT count(*) FROM darkroom.job_queue") == 0


async def test_price_below_zero_is_refused(database):
    with pytest.raises(asyncpg.RaiseError, match="given -1, expected 0 or more"):
        await make_order(database, price=-1)


async def test_unknown_customer_has_no_credits(database):
    with pytest.raises(asyncpg.RaiseError, match="available 0"):
        await make_order(database, customer=99)


@pytest.mark.parametrize("state", ["done", "stopped", "error"])
async def test_row_that_is_history_is_neither_queued_nor_charged(database, state):
    order = await make_order(database, state=state)

    assert await queue_row(database, order) is None
    assert await credits_of(database) == 10


@pytest.mark.parametrize(
    ("written", "found"), [("stopped", "stopped"), ("error", "error"), ("done", "23514"), ("working", "working")]
)
async def test_foreign_write_of_a_label_is_what_the_state_machine_says(database, written, found):
    order = await make_order(database)
    try:
        await database.fetch("UPDATE public.frame_orders SET state = $1", written)
        outcome = (await order_row(database, order))["state"]
    except asyncpg.PostgresError as error:
        outcome = error.sqlstate

    assert outcome == found
    assert await credits_of(database) == (10 if found in {"stopped", "error"} else 8)


async def test_finished_job_keeps_its_label(database):
    order = await make_order(database)
    await database.fetch("UPDATE public.frame_orders SET state = 'stopped'")

    await database.fetch("UPDATE public.frame_orders SET state = 'new'")

    assert (await order_row(database, order))["state"] == "stopped"


@pytest.mark.parametrize("change", ["price = 1", "customer = 8", "photo_key = 'other'", "id = 99"])
async def test_frozen_column_of_an_unfinished_job_cannot_change(database, change):
    order = await make_order(database)

    words = f"job {order} is new: its id, customer, photo_key, size and price don't change"
    with pytest.raises(asyncpg.CheckViolationError, match=words):
        await database.fetch(f"UPDATE public.frame_orders SET {change}")


async def test_order_stays_its_customers_when_a_user_of_the_same_id_gets_another(database):
    order, job = await make_order(database), await make_job(database)

    for changed in ("7", "seven"):
        await database.fetch("UPDATE public.users SET id = $1", changed)

    assert ((await queue_row(database, order))["user_id"], (await queue_row(database, job))["user_id"]) == (
        "7",
        "seven",
    )
    await write_state(database, order, "stopped")
    assert await credits_of(database) == 10


async def test_deleted_job_is_cancelled_and_refunded(database):
    order = await make_order(database)

    await database.fetch("DELETE FROM public.frame_orders")

    assert await queue_row(database, order) is None
    assert await credits_of(database) == 10


async def test_cancel_by_text_finds_each_table_and_refuses_what_is_no_id(database):
    order, other = await make_order(database), await make_generation(database)

    assert await database.fetchval("SELECT darkroom.cancel_job($1)", order) == "CANCELLED"
    assert await database.fetchval("SELECT darkroom.cancel_job($1)", other) == "CANCELLED"
    for no_id in ("007", "x", "99999999999999999999", f"0{order}"):
        with pytest.raises(asyncpg.NoDataFoundError):
            await database.fetchval("SELECT darkroom.cancel_job($1)", no_id)

    assert (await order_row(database, order))["state"] == "stopped"


async def test_one_statement_of_each_table_charges_each_its_own_money(database):
    user = await make_user(database, balance=100)
    await make_job(database, user_id=user)
    await make_order(database)

    assert await balance_of(database, user) < 100
    assert await credits_of(database) == 8
    assert await money_violations(database) == []


async def test_jobs_of_all_tables_are_claimed_together_in_their_order(database):
    made = [await make_job(database), await make_order(database), await make_generation(database)]

    claims = await claim_jobs(database, most=5)

    assert [claim.job_id for claim in claims] == made


async def test_view_of_all_jobs_shows_our_states(database):
    claim = await claimed(database)
    await write(database, claim, Retried("GENERATING", "busy", timedelta(hours=1)))

    (row,) = await database.fetch("SELECT * FROM darkroom.jobs WHERE type = 'frame'")
    found = await database.fetch("SELECT id FROM darkroom.job_rows('{PENDING}')")

    assert (row["id"], row["status"], row["userId"], row["tokensCost"]) == (claim.job_id, "PENDING", "7", 2)
    assert [one["id"] for one in found] == [claim.job_id]


async def test_inputs_are_loaded_as_the_description_says(database):
    claim = await claimed(database)

    inputs = await load_inputs(database, claim)

    assert (inputs.tier, inputs.input_key) == ("TIER_1K", "p")


async def test_call_is_opened_under_the_lock_of_its_own_row(database):
    claim = await claimed(database)

    opened = await database.run(lambda c: open_call(c, claim, CallPlan("fake", "generate", may_be_paid=False)))

    assert opened.intent > 0


async def test_object_of_an_order_is_named_by_it_and_while_it_runs(database):
    claim = await claimed(database)
    for key in ("k", "other"):
        await database.run(
            lambda c, key=key: record_object(
                c, key, job_type="frame", job_id=claim.job_id, sha256="0" * 64, size_bytes=1
            )
        )
    later = datetime.now(UTC) + timedelta(minutes=1)
    running = await database.run(lambda c: object_page(c, "", later))
    await write(database, claim, Completed("GENERATING", 1, {"print_key": "k"}))

    over = await database.run(lambda c: object_page(c, "", later))

    assert (list(running.named), list(over.named)) == (["k", "other"], ["k"])


async def test_input_is_over_once_its_order_is(database):
    claim = await claimed(database)

    async def inputs_over(at):
        async with database.connection() as connection, connection.transaction():
            return await finished_inputs(connection, ["p"], at), await named(connection, ["p"])

    soon = datetime.now(UTC).replace(tzinfo=None) + timedelta(minutes=1)
    assert await inputs_over(soon) == (set(), {"p"})
    await write(database, claim, Completed("GENERATING", 1, {}))

    assert await inputs_over(soon) == ({"p"}, {"p"})


async def test_claim_of_a_dead_worker_is_rescued(database):
    claim = await claimed(database)
    await database.fetch("UPDATE darkroom.workers SET lease_expires_at = now() - interval '1 s'")

    not_after = await database.fetchval("SELECT clock_timestamp() + interval '3 seconds'")
    rescued = await rescue_lost_claims(database, not_after)

    assert rescued.requeued == 1
    assert (await order_row(database, claim.job_id))["state"] == "again"


async def test_job_whose_queue_row_is_gone_is_taken_in_without_a_new_charge(database):
    order = await make_order(database)
    await database.fetch("DELETE FROM darkroom.job_queue")

    adopted, _ = await adopt_jobs(database, page=await Sweep().next_page(database))

    assert adopted == 1
    assert (await queue_row(database, order))["job_type"] == "frame"
    assert await credits_of(database) == 8


async def test_order_left_behind_for_too_long_is_ended_and_refunded(database):
    order = await make_order(database)
    await database.fetch("DELETE FROM darkroom.job_queue")
    await database.fetch("UPDATE public.frame_orders SET begun = now() - interval '3 days'")

    found = await database.fetch("SELECT * FROM darkroom.left_behind(86400, 600, '[]', 10)")
    label = await database.fetchval(
        "SELECT darkroom.end_left_behind('frame', $1, $2, 'too old')", order, found[0]["updated_at"]
    )

    assert (found[0]["job_id"], label) == (order, "REFUNDED")
    assert (await order_row(database, order))["state"] == "error"
    assert await credits_of(database) == 10


async def test_column_that_entering_needs_is_missed_by_name(database):
    await database.fetch("ALTER TABLE public.frame_orders RENAME price TO cost")

    with pytest.raises(asyncpg.UndefinedColumnError, match="price"):
        await make_order(database)


async def test_row_that_breaks_a_check_refuses_the_statement_with_its_words(database):
    with pytest.raises(asyncpg.InvalidParameterValueError, match="an order has 100 % of a photo"):
        await database.fetch("INSERT INTO public.frame_orders (customer, photo_key) VALUES (7, 'a'), (7, '')")

    assert await credits_of(database) == 10


async def make_gift(database):
    return str(await database.fetchval("INSERT INTO public.gifts (owner) VALUES ('me') RETURNING gift"))


async def gift_row(database, gift):
    return (await database.fetch("SELECT * FROM public.gifts WHERE gift = $1::text::uuid", gift))[0]


@pytest.mark.parametrize(
    ("transition", "label"),
    [
        (Completed("GENERATING", 1, {"pic": "k"}), "completed"),
        (Failed("GENERATING", "no"), "failed"),
        (Retried("GENERATING", "busy", timedelta(0)), "pending"),
        (Checkpoint("GENERATING", "FRAMING", 60, 1), "processing"),
        (Released("GENERATING"), "pending"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
async def test_job_that_nobody_pays_for_and_whose_row_shows_little_moves_alike(database, transition, label):
    gift = await make_gift(database)
    (claim,) = await claim_jobs(database)
    assert (claim.job_type, claim.job_id) == ("gift", gift)

    await write(database, claim, transition)

    assert (await gift_row(database, gift))["status"] == label
    assert await database.fetchval("SELECT count(*) FROM darkroom.job_money") == 0
    assert await money_violations(database) == []


async def test_statements_about_a_row_without_a_date_keep_their_fence(database):
    gift = await make_gift(database)
    (claim,) = await claim_jobs(database)
    await database.run(lambda connection: begin_at(connection, claim, "GENERATING", 60))
    await database.fetch("UPDATE darkroom.job_queue SET lease_token = gen_random_uuid()")

    with pytest.raises(ClaimLostError):
        await database.run(lambda connection: begin_at(connection, claim, "GENERATING", 60))
    with pytest.raises(ClaimLostError):
        await write(database, claim, Completed("GENERATING", 1, {"pic": "k"}))

    assert (await gift_row(database, gift))["status"] == "processing"


async def test_free_and_paid_jobs_enter_side_by_side(database):
    gift, order = await make_gift(database), await make_order(database)

    assert await database.fetchval("SELECT darkroom.cancel_job($1)", gift) == "CANCELLED"
    assert await database.fetchval("SELECT darkroom.cancel_job($1)", order) == "CANCELLED"

    assert await credits_of(database) == 10
    assert (await gift_row(database, gift))["status"] == "cancelled"


async def test_object_of_a_job_whose_row_names_none_is_left_to_the_whole_search_once_it_is_over(database):
    gift = await make_gift(database)
    (claim,) = await claim_jobs(database)
    one = {"job_type": "gift", "job_id": gift, "sha256": "0" * 64, "size_bytes": 1}
    await database.run(lambda c: record_object(c, "gifts/k", **one))
    later = datetime.now(UTC) + timedelta(minutes=1)
    running = await database.run(lambda c: object_page(c, "", later))
    await write(database, claim, Completed("GENERATING", 1, {"pic": "gifts/k"}))

    over = await database.run(lambda c: object_page(c, "", later))

    assert (list(running.named), [found.key for found in over.unnamed]) == (["gifts/k"], ["gifts/k"])
    async with database.connection() as connection, connection.transaction():
        assert await named(connection, ["gifts/k"]) == {"gifts/k"}


async def test_orders_at_the_same_moment_spend_no_credit_twice(database):
    made = await asyncio.gather(*(make_order(database) for _ in range(12)), return_exceptions=True)

    refused = [one for one in made if isinstance(one, asyncpg.RaiseError)]
    assert (len(made) - len(refused), len(refused)) == (5, 7)
    assert await credits_of(database) == 0

    ended = "UPDATE public.frame_orders SET state = 'stopped' WHERE id = $1::text::bigint"
    orders = [one for one in made if isinstance(one, str)]
    await asyncio.gather(*(database.fetch(ended, order) for order in orders for _ in range(2)))

    assert await credits_of(database) == 10
    assert await database.fetchval("SELECT count(*) FROM darkroom.job_money WHERE kind = 'refund'") == 5


async def test_refund_that_a_rule_refuses_is_owed_and_paid_later(database):
    order = await make_order(database)
    await database.fetch("ALTER TABLE public.customers ADD CONSTRAINT few CHECK (credits < 9) NOT VALID")

    await write_state(database, order, "stopped")
    owed = await database.fetch("SELECT job_id, owed FROM darkroom.refused_ends")
    await database.fetch("ALTER TABLE public.customers DROP CONSTRAINT few")
    settled = await database.fetchval("SELECT darkroom.settle_refused_end('frame', $1)", order)

    assert [tuple(one) for one in owed] == [(order, 2)]
    assert (settled, await credits_of(database)) == (True, 10)


async def test_row_of_another_program_is_never_touched_or_counted(database):
    other = str(
        await database.fetchval("INSERT INTO public.gifts (owner, kind) VALUES ('me', 'letter') RETURNING gift")
    )
    assert await database.fetchval("SELECT count(*) FROM darkroom.job_queue") == 0
    assert await database.fetchval("SELECT adopted FROM darkroom.adopt()") == 0
    assert await database.fetch("SELECT * FROM darkroom.jobs") == []
    assert await database.fetch("SELECT * FROM darkroom.job_rows('{PENDING}')") == []
    with pytest.raises(asyncpg.NoDataFoundError):
        await database.fetchval("SELECT darkroom.cancel_job($1)", other)

    for change in ("status = 'odd'", "status = 'completed'", "owner = 'you'", "status = 'pending'", "kind = 'poem'"):
        await database.fetch(f"UPDATE public.gifts SET {change}")
    await database.fetch("UPDATE public.gifts SET status = 'failed'")
    await database.fetch("DELETE FROM public.gifts")

    assert await database.fetchval("SELECT count(*) FROM darkroom.stage_runs") == 0


async def test_jobs_enter_beside_rows_of_another_program(database):
    await database.fetch("INSERT INTO public.gifts (owner, kind) VALUES ('me', 'letter'), ('me', 'gift'), ('me', 'x')")

    (claim,) = await claim_jobs(database, most=5)
    await database.fetch("UPDATE public.gifts SET status = 'cancelled'")

    assert (await gift_row(database, claim.job_id))["kind"] == "gift"
    assert await queue_row(database, claim.job_id) is None
    assert await database.fetchval("SELECT count(*) FROM darkroom.job_queue") == 0


async def test_row_of_another_program_stays_one_whatever_its_program_makes_of_it(database):
    await database.fetch("INSERT INTO public.gifts (owner, kind) VALUES ('me', 'letter')")

    await database.fetch("UPDATE public.gifts SET kind = 'gift'")
    assert await database.fetchval("SELECT count(*) FROM darkroom.job_queue") == 0
    await database.fetch("UPDATE public.gifts SET status = 'cancelled'")

    assert await database.fetchval("SELECT status FROM public.gifts") == "cancelled"
    assert await database.fetchval("SELECT count(*) FROM darkroom.job_ends") == 0
