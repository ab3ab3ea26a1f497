"""How a job enters the queue, whoever inserts it."""

from tests.builders import balance_of, job_row, make_job, make_user, money_violations


async def test_pending_insert_queues_and_charges(database):
    user = await make_user(database, balance=10)

    job = await make_job(database, user_id=user, tier="TIER_2K")

    row = await database.fetchrow("SELECT * FROM darkroom.job_queue WHERE job_id = $1", job)
    assert (row["job_type"], row["status"], row["stage"], row["max_attempts"]) == ("enhance", "pending", "ANALYZING", 4)
    assert await balance_of(database, user) == 5
    assert (await job_row(database, job))["status"] == "PENDING"
    assert await money_violations(database) == []
