"""What producers and other programs may change of an unfinished generation, and how it may end."""

from datetime import UTC, datetime

import asyncpg
import pytest

from tests.integration.studio.test_entering import balance, entries, insert, usage


async def queued(connection, job):
    """Return the type and status, and whether it is held, of a generation in the queue; None once it is over."""
    row = await connection.fetchrow(
        "SELECT job_type, status, scheduled_at = 'infinity' FROM darkroom.job_queue WHERE job_id = $1",
        job,
    )
    return None if row is None else tuple(row)


async def change(connection, job, **columns):
    names = ", ".join(f'"{name}" = ${number}' for number, name in enumerate(columns, 2))
    await connection.execute(f"UPDATE generations SET {names} WHERE _id = $1", job, *columns.values())


async def test_uploading_holds_a_charged_generation_until_its_producer_lets_it_go(foreign):
    job = await insert(foreign, status="uploading", prompt="soon")
    assert await balance(foreign) == 18
    assert await queued(foreign, job) == ("studio.generate", "retrying", True)

    await change(foreign, job, productImageFiles=["f1"], prompt="the shirt")
    assert await queued(foreign, job) == ("studio.modify", "retrying", True)
    await change(foreign, job, status="pending", modelImageFiles=["f2"])
    assert await queued(foreign, job) == ("studio.modify", "pending", False)

    await change(foreign, job, status="uploading")
    assert await queued(foreign, job) == ("studio.modify", "retrying", True)
    await change(foreign, job, status="cancelled")
    assert await queued(foreign, job) is None
    assert await balance(foreign) == 20
    assert [action for action, _ in await usage(foreign)] == ["generation_started", "generation_cancelled"]


async def test_lists_of_a_held_generation_are_checked_at_each_change(foreign):
    job = await insert(foreign, status="uploading")

    for columns, sqlstate, words in (
        ({"productImageFiles": ["f9"]}, "P0002", "file f9: not found"),
        ({"productImageFiles": ["f4"]}, "42501", "file f4: not yours"),
        ({"modelImageFiles": ["f3"]}, "22023", "file f3: category profile_image doesn't fit modelImageFiles"),
        ({"modelImageFiles": ["f2"] * 5}, "22023", "5 input files, at most 4"),
        ({"prompt": ""}, "22023", "prompt: must not be empty"),
        ({"productImageFiles": ["f9"], "status": "pending"}, "P0002", "file f9: not found"),
    ):
        with pytest.raises(asyncpg.PostgresError) as refused:
            await change(foreign, job, **columns)
        assert (refused.value.sqlstate, refused.value.message) == (sqlstate, words)


FROZEN = {
    "_id": "other",
    "userId": "u2",
    "parameters": '{"count": 2}',
    "tokensUsed": 3,
    "prompt": "another",
    "productImageFiles": ["f1"],
    "modelImageFiles": ["f2"],
    "resultImageFiles": ["f1"],
    "createdAt": datetime(2026, 1, 1, tzinfo=UTC),
}


@pytest.mark.parametrize(
    ("label", "may_change"), [("uploading", {"prompt", "productImageFiles", "modelImageFiles"}), ("pending", set())]
)
async def test_frozen_column_of_an_unfinished_generation_names_itself(foreign, label, may_change):
    job = await insert(foreign, status=label)

    for name, value in FROZEN.items():
        if name in may_change:
            continue
        with pytest.raises(asyncpg.PostgresError) as refused:
            await change(foreign, job, **{name: value})
        assert (name, refused.value.sqlstate, name in str(refused.value)) == (name, "23514", True)


ILLEGAL = [
    ("uploading", "processing"),
    ("uploading", "completed"),
    ("pending", "completed"),
]


@pytest.mark.parametrize(("before", "after"), ILLEGAL)
async def test_illegal_change_is_refused_in_the_applications_words(foreign, before, after):
    job = await insert(foreign, status=before)

    with pytest.raises(asyncpg.CheckViolationError) as refused:
        await change(foreign, job, status=after)

    assert str(refused.value) == f"job {job} can't change from {before} to {after}"


@pytest.mark.parametrize("label", ["failed", "cancelled"])
async def test_any_program_ends_an_unfinished_generation_blindly_and_once(foreign, label):
    job = await insert(foreign)

    await change(foreign, job, status=label, error="the customer left")
    for again in ("failed", "cancelled", "pending", "completed", "processing", "uploading"):
        await change(foreign, job, status=again)

    row = await foreign.fetchrow("""SELECT status, "completedAt" IS NOT NULL FROM generations WHERE _id = $1""", job)
    assert tuple(row) == (label, label == "failed")
    assert await balance(foreign) == 20
    assert [entry[:2] for entry in await entries(foreign)] == [("opening", 20), ("charge", -2), ("refund", 2)]
    assert (await usage(foreign))[1] == (
        f"generation_{label}",
        {"generationId": job, "tokens": 2, "reason": "the customer left"},
    )
    assert len(await usage(foreign)) == 2


async def test_deleted_generation_is_refunded_and_booked_as_cancelled(foreign):
    job = await insert(foreign)

    await foreign.execute("DELETE FROM generations WHERE _id = $1", job)

    assert await balance(foreign) == 20
    assert (await usage(foreign))[1] == (
        "generation_cancelled",
        {"generationId": job, "tokens": 2, "reason": "deleted"},
    )
    assert await queued(foreign, job) is None


async def test_user_is_deleted_with_all_that_is_theirs(foreign):
    await insert(foreign, productImageFiles=["f1"], modelImageFiles=["f2"])

    await foreign.execute("DELETE FROM users WHERE _id = 'u1'")

    assert await foreign.fetchval("SELECT count(*) FROM darkroom.job_queue") == 0
    assert await usage(foreign) == []
    assert await foreign.fetchval("SELECT count(*) FROM darkroom.job_money WHERE kind = 'refund'") == 0


async def test_held_generation_that_is_ended_while_its_lists_change_is_refunded(foreign):
    job = await insert(foreign, status="uploading")

    await change(foreign, job, status="cancelled", productImageFiles=["f1"])

    assert await balance(foreign) == 20
    assert await queued(foreign, job) is None
    assert [action for action, _ in await usage(foreign)] == ["generation_started", "generation_cancelled"]
    assert await foreign.fetch("SELECT * FROM darkroom.money_violations") == []


async def test_money_of_a_finished_generation_is_found_whatever_its_row_becomes(foreign):
    job = await insert(foreign, status="uploading")
    await change(foreign, job, status="cancelled")

    await change(foreign, job, productImageFiles=["f1"])  # by a producer that hasn't heard of the end

    assert await foreign.fetchval("SELECT type FROM darkroom.jobs WHERE id = $1", job) == "studio.modify"
    status = await foreign.fetchrow("SELECT * FROM darkroom.job_status($1)", job)
    assert [value for name, value in status.items() if name in {"charged", "refunded"}] == [2, 2], dict(status)
    assert await foreign.fetch("SELECT * FROM darkroom.money_violations") == []


async def test_generation_that_was_claimed_is_not_held_any_more(foreign):
    job = await insert(foreign)
    await foreign.execute("UPDATE darkroom.job_queue SET claimed_at = now() WHERE job_id = $1", job)

    with pytest.raises(asyncpg.CheckViolationError) as refused:
        await change(foreign, job, status="uploading")

    assert refused.value.message == f"job {job} can't change from pending to uploading"


async def test_generation_that_was_never_accepted_is_in_no_book(foreign):
    await foreign.execute("ALTER TABLE generations DISABLE TRIGGER USER")
    jobs = [await insert(foreign) for _ in range(3)]
    await foreign.execute("ALTER TABLE generations ENABLE TRIGGER USER")

    await change(foreign, jobs[0], status="processing")
    await change(foreign, jobs[0], status="completed")
    await change(foreign, jobs[1], status="failed")
    await foreign.execute("DELETE FROM generations WHERE _id = $1", jobs[2])

    assert await usage(foreign) == []
    assert await balance(foreign) == 20


async def test_status_that_is_emptied_is_refused(foreign):
    await foreign.execute("ALTER TABLE generations ALTER status DROP NOT NULL")
    job = await insert(foreign)

    with pytest.raises(asyncpg.CheckViolationError) as refused:
        await change(foreign, job, status=None)

    assert refused.value.message == f"job {job} can't change from pending to NULL"
