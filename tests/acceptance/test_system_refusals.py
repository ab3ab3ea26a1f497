"""A stage to which the operating system refuses something: the attempt fails, and the error doesn't name PostgreSQL."""

from tests.acceptance.test_faults_inside import FaultyWorkers, ended, events
from tests.support.builders import balance_of, job_row, make_generation


async def test_pixel_child_that_cannot_start_uses_the_attempts_and_names_the_cause(fleet):
    fleet.start(1, kind=FaultyWorkers)
    job = await make_generation(fleet.database, prompt="files run out")

    row = await ended(fleet, job)

    reason = "GENERATING wasn't possible now: Too many open files (EMFILE)"
    assert (row["status"], row["errorMessage"]) == ("REFUNDED", f"{reason} (all 4 attempts are used)")
    assert await events(fleet, "claimed") == 4
    assert (await events(fleet, "released"), await events(fleet, "snoozed")) == (0, 0)
    codes = await fleet.database.fetch('SELECT "errorCode" FROM public.error_logs')
    assert [code for (code,) in codes] == ["EMFILE"] * 4
    assert await balance_of(fleet.database, row["userId"]) == 100


async def test_refusals_of_the_system_in_a_stage_cost_an_attempt_and_say_what_was_refused(fleet):
    words = {
        "disk is full": ("No space left on device (ENOSPC)", "ENOSPC"),
        "memory is gone": ("not enough memory", "MEMORY"),
        "file is locked": ("Permission denied (EACCES)", "EACCES"),
    }
    fleet.start(1, kind=FaultyWorkers)
    jobs = {fault: await make_generation(fleet.database, prompt=f"{fault} once") for fault in words}

    for fault, job in jobs.items():
        assert (await ended(fleet, job))["status"] == "COMPLETED"
        retried = "SELECT error, attempt FROM darkroom.stage_runs WHERE event = 'retried' AND job_id = $1"
        said, code = words[fault]
        assert await fleet.database.fetch(retried, job) == [(f"GENERATING wasn't possible now: {said}", 1)]
        logged = "SELECT \"errorCode\" FROM public.error_logs WHERE metadata ->> 'jobId' = $1"
        assert await fleet.database.fetch(logged, job) == [(code,)]
        assert (await job_row(fleet.database, job))["errorMessage"] is None

    assert (await events(fleet, "released"), await events(fleet, "snoozed")) == (0, 0)
