"""`darkroom jobs retry`: what is bought again, which user pays, and which jobs a filter selects."""

import asyncio
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from models.database import Database
from models.queue.transitions import Checkpoint, Failed, Retried, record
from pipelines.settings import Settings
from tests.support.builders import (
    balance_of,
    claim_jobs,
    job_row,
    load_inputs,
    make_generation,
    make_image,
    make_job,
    make_user,
    queue_row,
    set_status,
)
from tests.support.calling import Arrange, Darkroom
from workers.operations.retrying import Retry, RetryTerms, retry_jobs
from workers.process.compose import open_runtime
from workers.running.translation import build_job
from workers.services.instance import EmbeddedInstance
from workers.services.services import Services

ANALYSIS = {"mainSubject": "a cat"}
CROP = {"wasCropped": True, "cropDimensions": {"x": 1, "y": 2, "w": 3, "h": 4}}
FINISHED = (
    Checkpoint("ANALYZING", "CROPPING", 60, 1, {"analysisResult": ANALYSIS, "analysisSource": "local"}),
    Checkpoint("CROPPING", "PROMPTING", 60, 1, CROP),
    Checkpoint("PROMPTING", "GENERATING", 60, 1, {"geminiPrompt": "make it better"}),
)


async def make_failed(database: Database, *, stages: int = 3, error: str = "no", **columns: Any) -> str:
    """Insert a job that finished so many stages and then failed for good."""
    job_id = await make_job(database, **columns)
    (claim,) = await claim_jobs(database)
    for checkpoint in FINISHED[:stages]:
        await database.run(lambda connection, one=checkpoint: record(connection, claim, one))
    await database.run(lambda connection: record(connection, claim, Failed("GENERATING", error)))
    return job_id


async def full_row(database: Database, job_id: str) -> Any:
    return await database.fetchrow("SELECT * FROM public.image_enhancement_jobs WHERE id = $1", job_id)


async def model_of_next(database: Database) -> str | None:
    """Claim the next job; return the model that its stages would ask for."""
    (claim,) = await claim_jobs(database)
    inputs = await load_inputs(database, claim)
    assert inputs is not None
    return build_job(claim, inputs).options.generation.model


@pytest.mark.parametrize(
    ("stage", "analysis", "crop", "prompt"),
    [
        ("analyzing", None, None, None),
        ("cropping", ANALYSIS, None, None),
        ("prompting", ANALYSIS, CROP["cropDimensions"], None),
        ("generating", ANALYSIS, CROP["cropDimensions"], "make it better"),
    ],
)
def test_retry_from_a_stage_carries_what_was_finished_before_it_and_is_charged(
    darkroom: Darkroom, arrange: Arrange, stage: str, analysis: Any, crop: Any, prompt: str | None
) -> None:
    user_id = arrange(make_user)
    old = arrange(lambda db: make_failed(db, user_id=user_id))

    (new,) = darkroom("jobs", "retry", old, "--from-stage", stage, "--json").json

    row = arrange(lambda db: full_row(db, new["id"]))
    assert (row["analysisResult"], row["cropDimensions"], row["geminiPrompt"]) == (analysis, crop, prompt)
    assert row["wasCropped"] == (crop is not None)
    assert arrange(lambda db: queue_row(db, new["id"]))["stage"] == stage.upper()
    assert arrange(lambda db: balance_of(db, user_id)) == 98
    (claim,) = arrange(claim_jobs)
    assert (claim.job_id, claim.stage) == (new["id"], stage.upper())


def test_retry_from_a_stage_that_was_not_reached_is_refused(darkroom: Darkroom, arrange: Arrange) -> None:
    user_id = arrange(make_user)
    old = arrange(lambda db: make_failed(db, user_id=user_id, stages=1))
    words = arrange(lambda db: make_generation(db, user_id=user_id))
    arrange(lambda db: set_status(db, words, "FAILED"))

    ran = darkroom("jobs", "retry", old, words, "--from-stage", "prompting")

    assert ran.code == 1
    assert f"job {old} has not finished CROPPING" in ran.err
    assert "of type generate, whose stages are GENERATING" in ran.err
    assert arrange(lambda db: balance_of(db, user_id)) == 100


@pytest.mark.parametrize("stage", ["upscaling", "", "GENERATING "])
def test_retry_from_a_stage_that_no_job_type_has_names_those_there_are(
    darkroom: Darkroom, arrange: Arrange, stage: str
) -> None:
    ran = darkroom("jobs", "retry", arrange(make_failed), "--from-stage", stage)

    assert ran.code == 2
    assert f"{stage!r} is no stage; known are analyzing, cropping, prompting, generating" in ran.err


def test_retry_from_a_stage_of_a_retry_goes_back_to_the_first_jobs_work(darkroom: Darkroom, arrange: Arrange) -> None:
    old = arrange(make_failed)
    (second,) = darkroom("jobs", "retry", old, "--from-stage", "generating", "--json").json
    arrange(lambda db: set_status(db, second["id"], "FAILED"))

    (third,) = darkroom("jobs", "retry", second["id"], "--from-stage", "generating", "--json").json

    assert arrange(lambda db: full_row(db, third["id"]))["geminiPrompt"] == "make it better"


@pytest.mark.parametrize("make", [make_job, make_generation], ids=["enhance", "generate"])
def test_model_of_a_retry_reaches_its_stages_and_no_other_job(darkroom: Darkroom, arrange: Arrange, make: Any) -> None:
    old = arrange(make)
    arrange(lambda db: set_status(db, old, "FAILED"))

    (new,) = darkroom("jobs", "retry", old, "--model", "gemini-99-image", "--json").json
    asked = arrange(model_of_next)
    arrange(lambda db: set_status(db, new["id"], "FAILED"))
    darkroom("jobs", "retry", new["id"])

    assert asked == "gemini-99-image"
    assert arrange(model_of_next) is None


def test_retry_of_words_keeps_the_aspect(darkroom: Darkroom, arrange: Arrange) -> None:
    async def make(database: Database) -> str:
        job_id = await make_generation(database)
        await database.fetch("UPDATE darkroom.job_queue SET payload = jsonb_build_object('aspect', '16:9')")
        (claim,) = await claim_jobs(database)
        await database.run(lambda connection: record(connection, claim, Retried("GENERATING", "no", timedelta())))
        await set_status(database, job_id, "FAILED")
        return job_id

    (new,) = darkroom("jobs", "retry", arrange(make), "--json").json

    assert arrange(lambda db: queue_row(db, new["id"]))["payload"] == {"aspect": "16:9"}


def test_completed_job_is_done_again_only_with_redo(darkroom: Darkroom, arrange: Arrange) -> None:
    done = arrange(lambda db: make_job(db, status="COMPLETED"))

    refused, redone = darkroom("jobs", "retry", done), darkroom("jobs", "retry", done, "--redo", "--json")

    assert (refused.code, "--redo" in refused.err) == (1, True)
    assert (redone.code, redone.json[0]["status"]) == (0, "PENDING")
    assert arrange(lambda db: job_row(db, done))["status"] == "COMPLETED"


def test_rehearsal_changes_nothing_and_counts_tokens_over_all_jobs(darkroom: Darkroom, arrange: Arrange) -> None:
    user_id = arrange(lambda db: make_user(db, balance=3))
    jobs = [arrange(lambda db: make_job(db, user_id=user_id, status="FAILED")) for _ in range(2)]

    ran = darkroom("jobs", "retry", *jobs, "nosuch", "--dry-run", "--json")

    assert ran.code == 1
    assert [(row["id"], row["refusal"] is None) for row in ran.json] == [
        (jobs[0], True),
        (jobs[1], False),
        ("nosuch", False),
    ]
    assert "needed 2, available 1" in ran.json[1]["refusal"]
    assert len(darkroom("jobs", "list", "--json").json) == 2
    assert arrange(lambda db: balance_of(db, user_id)) == 3
    assert arrange(lambda db: db.fetch("SELECT * FROM darkroom.operator_actions")) == []
    assert "1 of 1 would be tried again, for 2 tokens" in darkroom("jobs", "retry", jobs[0], "--dry-run").out


def test_rehearsal_of_a_filter_names_what_the_filter_retries(darkroom: Darkroom, arrange: Arrange) -> None:
    user_id = arrange(lambda db: make_user(db, balance=100))
    failed, refunded, _ = [
        arrange(partial(make_job, user_id=user_id, status=one)) for one in ("FAILED", "REFUNDED", "CANCELLED")
    ]
    wanted = {failed, refunded}
    which = ("jobs", "retry", "--user", user_id, "--since", "1h")

    rehearsed = darkroom(*which, "--dry-run", "--json")
    before = len(darkroom("jobs", "list", "--json").json)
    retried = darkroom(*which)

    assert (rehearsed.code, before) == (0, 3)
    assert {row["id"] for row in rehearsed.json} == wanted
    assert {line.split()[1] for line in retried.out.splitlines()} == wanted


def test_filter_means_failures_of_its_kind_and_each_only_once(darkroom: Darkroom, arrange: Arrange) -> None:
    user_id = arrange(make_user)
    meant = arrange(lambda db: make_failed(db, user_id=user_id, error="gemini: 503 UNAVAILABLE"))
    arrange(lambda db: make_failed(db, user_id=user_id, error="not an image"))
    arrange(lambda db: make_failed(db, error="gemini: 503 unavailable"))
    arrange(lambda db: make_job(db, user_id=user_id, status="CANCELLED", errorMessage="503 unavailable"))
    options = ("--user", user_id, "--error", "503 unavailable", "--since", "1h", "--type", "enhance")

    first, second = darkroom("jobs", "retry", *options), darkroom("jobs", "retry", *options)

    assert first.out.startswith(f"job {meant} is tried again as ")
    assert len(first.out.splitlines()) == 1
    assert (second.code, second.out, second.err) == (0, "", "there are no such jobs\n")


def test_retry_asks_for_ids_or_a_filter(darkroom: Darkroom, arrange: Arrange) -> None:
    neither, both = darkroom("jobs", "retry"), darkroom("jobs", "retry", "x", "--status", "failed")
    never = darkroom("jobs", "retry", "--since", "yesterday")

    assert (neither.code, both.code, never.code) == (2, 2, 2)
    assert "is no time" in never.err


def test_two_operators_with_the_same_filter_have_each_job_charged_once(
    command: Darkroom, arrange: Arrange, services: EmbeddedInstance, database_url: str, tmp_path: Path
) -> None:
    user_id = arrange(make_user)
    jobs = [arrange(lambda db: make_failed(db, user_id=user_id)) for _ in range(2)]
    told = Services(
        database_url=database_url,
        database_direct_url=database_url,
        redis_url=services.redis_url,
        broker_url=services.redis_url,
        storage_url=tmp_path.as_uri(),
        is_embedded=False,
    )

    async def retry_both(database: Database) -> list[Retry]:
        async with open_runtime(Settings(home=tmp_path), told) as runtime:

            async def operate() -> list[Retry]:
                return [one async for one in retry_jobs(runtime, jobs, RetryTerms(only_once=True), actor="somebody")]

            first, second = await asyncio.gather(operate(), operate())
            return first + second

    outcomes = arrange(retry_both)

    assert sum(one.new_id is not None for one in outcomes) == 2
    assert {str(one.refusal) for one in outcomes if one.refusal} == {
        f"job {job} has been retried already; name its id to retry it once more" for job in jobs
    }
    assert arrange(lambda db: balance_of(db, user_id)) == 100 - 2 * 2


def test_retry_keeps_whose_budget_a_job_counts_against_and_how_often_it_is_tried(
    darkroom: Darkroom, arrange: Arrange
) -> None:
    old = arrange(lambda db: make_failed(db, isAnonymous=True, maxRetries=0))

    (new,) = darkroom("jobs", "retry", old, "--json").json

    assert (new["isAnonymous"], new["maxRetries"]) == (True, 0)
    assert arrange(lambda db: queue_row(db, new["id"]))["max_attempts"] == 1


def test_job_that_is_named_twice_is_retried_once(darkroom: Darkroom, arrange: Arrange) -> None:
    old = arrange(make_failed)

    assert len(darkroom("jobs", "retry", old, old, "--json").json) == 1


@pytest.mark.parametrize("since", ["999999d", "9999-12-31T23:59:59-14:00"])
def test_since_a_time_that_no_calendar_has_is_no_time(darkroom: Darkroom, since: str) -> None:
    ran = darkroom("jobs", "list", "--since", since)

    assert (ran.code, "is no time" in ran.err) == (2, True)


@pytest.mark.parametrize("was_shown", [True, False])
def test_retry_of_a_job_with_a_shared_pipeline_may_use_it_where_the_old_one_might(
    darkroom: Darkroom, arrange: Arrange, *, was_shown: bool
) -> None:
    user_id, owner = arrange(make_user), arrange(make_user)
    image = arrange(lambda db: make_image(db, user_id))
    shared = darkroom("pipelines", "create", "mine", "--user", owner, "--visibility", "link", "--json").json
    if was_shown:
        submit = "SELECT darkroom.submit_enhancement($1, $2, 'TIER_1K', $3, pipeline_token => $4)"
        old = arrange(lambda db: db.fetchval(submit, user_id, image, shared["id"], shared["shareToken"]))
    else:
        old = arrange(lambda db: make_job(db, user_id=user_id, image_id=image, pipelineId=shared["id"]))
    arrange(lambda db: set_status(db, old, "CANCELLED"))

    ran = darkroom("jobs", "retry", old, "--json")

    assert ran.code == (0 if was_shown else 1)
    if was_shown:
        assert arrange(lambda db: full_row(db, ran.json[0]["id"]))["pipelineId"] == shared["id"]
        arrange(lambda db: set_status(db, ran.json[0]["id"], "CANCELLED"))
        assert darkroom("jobs", "retry", ran.json[0]["id"]).code == 0
