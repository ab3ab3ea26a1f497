"""Jobs whose worker died while they ran: each is tried alone, so that only the one that kills workers ends."""

from collections import Counter

from tests.support.builders import balance_of, job_row, make_generation, make_user, money_violations
from tests.support.fleet import SlowWorkers, eventually

JOBS, KILLER = 64, 12
"""How many jobs run in the process that dies, and how many of them are before the one that kills it."""


class KillingWorkers(SlowWorkers):
    ENTRY_POINT = "tests.support.killing_worker:main"


async def test_one_killer_among_64_jobs_is_quarantined_and_the_others_complete(fleet, monkeypatch):
    monkeypatch.setenv("KILLED_BESIDE", str(JOBS))
    user = await make_user(fleet.database, balance=1_000)
    jobs = [
        await make_generation(fleet.database, user_id=user, prompt="killer" if number == KILLER else "a field")
        for number in range(JOBS)
    ]
    price = (1_000 - await balance_of(fleet.database, user)) // JOBS
    fleet.start(1, kind=KillingWorkers, lanes=JOBS)

    async def all_are_over():
        return not await fleet.database.fetchval("SELECT count(*) FROM darkroom.job_queue")

    await eventually(all_are_over, "the end of every job")

    rows = [await job_row(fleet.database, job) for job in jobs]
    assert Counter(row["status"] for row in rows) == {"COMPLETED": JOBS - 1, "REFUNDED": 1}
    assert (rows[KILLER]["status"], rows[KILLER]["errorMessage"]) == (
        "REFUNDED",
        "quarantined: its worker died at GENERATING, 2 times; the input is kept",
    )
    assert price > 0
    assert await balance_of(fleet.database, user) == 1_000 - (JOBS - 1) * price
    assert await money_violations(fleet.database) == []
    deaths = "SELECT count(DISTINCT worker_id) FROM darkroom.stage_runs WHERE event = 'rescued'"
    assert await fleet.database.fetchval(deaths) == 1  # the second death ended the killer
