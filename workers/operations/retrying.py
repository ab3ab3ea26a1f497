"""Doing finished jobs once more: as new jobs, each with its own charge."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import asyncpg

from models.connections import Connection
from models.job_state import JobStatus
from models.job_tables.pictures import ENHANCEMENTS
from models.job_tables.registry import table_of
from pipelines.job_types import JOB_TYPES
from workers.operations.actions import record_action
from workers.operations.errors import (
    RETRYABLE,
    InvalidInputError,
    JobNotRetryableError,
    JobRetriedError,
    OperationError,
    translated,
)
from workers.operations.jobs import get_jobs, job_not_found
from workers.operations.models import require_known_model
from workers.process.compose import Runtime

MOST_MODEL_CHARS: Final = 200

_FINISHED: Final = """
SELECT DISTINCT r.stage FROM darkroom.stage_runs r WHERE r.job_id = $1 AND r.job_type = $2 AND r.event = 'finished'
"""
_PAYLOAD: Final = """
SELECT r.output FROM darkroom.stage_runs r
WHERE r.job_id = $1 AND r.job_type = $2 AND r.event = 'claimed' AND r.output IS NOT NULL ORDER BY r.at DESC LIMIT 1
"""
# what finished stages left, as far as the stages before the one to start from go: $4 of them
_CARRY: Final = """
UPDATE public.image_enhancement_jobs n
SET "currentStage" = $3::text::public."PipelineStage",
    "analysisResult" = CASE WHEN $4 >= 1 THEN o."analysisResult" END,
    "analysisSource" = CASE WHEN $4 >= 1 THEN o."analysisSource" END,
    "wasCropped" = CASE WHEN $4 >= 2 THEN o."wasCropped" ELSE n."wasCropped" END,
    "cropDimensions" = CASE WHEN $4 >= 2 THEN o."cropDimensions" END,
    "geminiPrompt" = CASE WHEN $4 >= 3 THEN o."geminiPrompt" END,
    "updatedAt" = darkroom.utc_now()
FROM public.image_enhancement_jobs o WHERE n.id = $1 AND o.id = $2
"""
# what a producer said of the job beside what submitting takes: whose budget it is, and how often it is tried
_KEEP: Final = """
WITH kept AS (
    UPDATE public.image_enhancement_jobs n SET "isAnonymous" = o."isAnonymous", "maxRetries" = o."maxRetries"
    FROM public.image_enhancement_jobs o WHERE n.id = $1 AND o.id = $2 RETURNING n.id, n."maxRetries")
UPDATE darkroom.job_queue q SET max_attempts = darkroom.max_attempts(kept."maxRetries")
FROM kept WHERE q.job_id = kept.id
"""
# the token of a pipeline shared by link, where the old job was allowed to use it
_SHARED_BY: Final = """
SELECT to_jsonb(p) ->> 'shareToken' FROM public.enhancement_pipelines p
WHERE p.id = $2 AND p.visibility = 'LINK' AND (darkroom.link_pipelines() = 'trust' OR EXISTS (
    SELECT FROM darkroom.pipeline_links l WHERE l.job_id = $1 AND l.pipeline_id = p.id))
"""
_IS_RETRIED: Final = """
SELECT EXISTS (SELECT FROM darkroom.operator_actions a WHERE a.action = 'job_retry' AND a.target = $1)
"""
_QUEUE: Final = """
UPDATE darkroom.job_queue q SET stage = coalesce($2, q.stage), payload = q.payload || $3::jsonb WHERE q.job_id = $1
"""


@dataclass(frozen=True, slots=True)
class RetryTerms:
    """How jobs are done once more.

    Attributes:
        from_stage: start here, with the checkpoints of the old job; None starts anew.
        model: of the generation, for the new jobs only; None leaves it to their pipeline.
        redoes_completed: COMPLETED jobs, too.
        only_once: refuse what an operator has retried before, even at this moment.
    """

    from_stage: str | None = None
    model: str | None = None
    redoes_completed: bool = False
    only_once: bool = False


@dataclass(frozen=True, slots=True)
class Retry:
    """What became of one job: `new_id`, or the error that refused it; a rehearsal that went well has neither."""

    old: dict[str, Any]
    new_id: str | None = None
    refusal: OperationError | None = None


async def retry_jobs(
    runtime: Runtime, job_ids: Iterable[str], terms: RetryTerms, *, actor: str, reason: str | None = None
) -> AsyncIterator[Retry]:
    """Submit finished jobs once more; yield what became of each, in the order of the ids.

    Each is a transaction of its own, and one that is refused keeps none of the others.

    Raises:
        InvalidInputError: the model has no name or too long a one, or can't be asked.
    """
    await _check(runtime, terms)
    is_any = False
    for job_id in job_ids:
        jobs = await get_jobs(runtime, [job_id])
        old = jobs[0] if jobs else {"id": job_id}
        try:
            if not jobs:
                raise job_not_found(job_id)
            new_id = await _retry(runtime, old, terms, actor, reason)
        except OperationError as error:
            yield Retry(old, refusal=error)
            continue
        is_any = True
        yield Retry(old, new_id)
    if is_any:
        await runtime.wake()


async def rehearse_retries(runtime: Runtime, job_ids: Iterable[str], terms: RetryTerms) -> list[Retry]:
    """Do what `retry_jobs` does and take it back: each user's jobs in one transaction, so that tokens are counted.

    Raises:
        InvalidInputError: the model has no name or too long a one, or can't be asked.
    """
    await _check(runtime, terms)
    ids = list(job_ids)
    found = {job["id"]: job for job in await get_jobs(runtime, ids)}
    outcomes = {job_id: Retry({"id": job_id}, refusal=job_not_found(job_id)) for job_id in ids if job_id not in found}

    async def rehearse(connection: Connection, jobs: list[dict[str, Any]]) -> None:
        transaction = connection.transaction()
        await transaction.start()
        try:
            for old in jobs:
                try:
                    with translated():
                        async with connection.transaction():
                            await _submit_again(connection, old, terms)
                    outcomes[old["id"]] = Retry(old)
                except OperationError as error:
                    outcomes[old["id"]] = Retry(old, refusal=error)
        finally:
            await transaction.rollback()

    for _, jobs in groupby(sorted(found.values(), key=lambda job: str(job["userId"])), lambda job: job["userId"]):
        one_users = list(jobs)
        await runtime.database.run(lambda connection, one_users=one_users: rehearse(connection, one_users))  # type: ignore[misc]  # mypy can't infer a default
    return [outcomes[job_id] for job_id in ids]


async def _check(runtime: Runtime, terms: RetryTerms) -> None:
    if terms.model is None:
        return
    if not 1 <= len(terms.model.strip()) <= MOST_MODEL_CHARS:
        raise InvalidInputError(f"a model's name has 1 to {MOST_MODEL_CHARS} characters")
    await require_known_model(runtime, terms.model.strip())


async def _retry(runtime: Runtime, old: dict[str, Any], terms: RetryTerms, actor: str, reason: str | None) -> str:
    async def retry(connection: Connection) -> str:
        async with connection.transaction():
            new_id = await _submit_again(connection, old, terms)
            await record_action(
                connection,
                actor=actor,
                action="job_retry",
                target=old["id"],
                before={"status": old["status"]},
                after={"jobId": new_id, "fromStage": terms.from_stage, "model": terms.model},
                reason=reason,
            )
            return new_id

    with translated():
        return await runtime.database.commit("retry_job", retry)


async def _submit_again(connection: Connection, old: dict[str, Any], terms: RetryTerms) -> str:
    """Submit a job like an old one, in the caller's transaction; return the new job's id.

    Raises:
        InvalidInputError: its second picture is gone, or a stage before the one to start from isn't finished.
        JobNotRetryableError: it is unfinished, or COMPLETED and not to be redone.
        JobRetriedError: it was retried before, and is to be only once.
        asyncpg.PostgresError: as `operation_error` translates it.
    """
    job_id, job_type, status = old["id"], old["jobType"], old["status"]
    if status not in RETRYABLE and not (terms.redoes_completed and status == JobStatus.COMPLETED):
        raise JobNotRetryableError(job_id, status)
    if terms.only_once:  # locked first: of two operators with the same filter, one would charge for it again
        await connection.execute(f"SELECT FROM {table_of(job_type).name} j WHERE j.id = $1 FOR NO KEY UPDATE", job_id)
        if await connection.fetchval(_IS_RETRIED, job_id):
            raise JobRetriedError(job_id)
    if job_type == "blend" and old["sourceImageId"] is None:
        raise InvalidInputError(f"job {job_id} was a blend whose second picture is deleted; submit a new one")
    finished = await _stages_before(connection, old, terms.from_stage)
    payload = dict(await connection.fetchval(_PAYLOAD, job_id, job_type) or {})
    if terms.model is not None:
        payload["model"] = terms.model.strip()
    else:
        payload.pop("model", None)  # of an earlier retry
    if status == JobStatus.COMPLETED:
        payload["is_redone"] = True  # another picture is wanted: DARKROOM_REUSE_RESULTS must not give the old one
    else:
        payload.pop("is_redone", None)
    # so that a pipeline whose own model can't be asked any more is no reason to refuse this one
    await connection.execute("SELECT set_config('darkroom.model', $1, true)", payload.get("model", ""))
    new_id = await _submit(connection, old)
    if table_of(job_type) is ENHANCEMENTS:
        await connection.execute(_KEEP, new_id, job_id)
    if finished:
        await connection.execute(_CARRY, new_id, job_id, terms.from_stage, finished)
    if finished or payload:
        await connection.execute(_QUEUE, new_id, terms.from_stage if finished else None, payload)
    return new_id


async def _submit(connection: Connection, old: dict[str, Any]) -> str:
    columns: tuple[str, ...]
    further: tuple[str | None, ...] = ()
    if table_of(old["jobType"]) is ENHANCEMENTS:
        columns = ("userId", "imageId", "tier", "pipelineId", "sourceImageId")
        sql = "SELECT darkroom.submit_enhancement($1, $2, $3, $4, $5, NULL, $6)"
        further = (await connection.fetchval(_SHARED_BY, old["id"], old["pipelineId"]),)
    else:
        columns = ("userId", "type", "tier", "prompt", "inputImageR2Key", "inputImageUrl", "apiKeyId")
        sql = "SELECT darkroom.submit_generation($1, $2, $3, $4, $5, $6, $7)"
    new_id: str = await connection.fetchval(sql, *(old[column] for column in columns), *further)
    return new_id


async def _stages_before(connection: Connection, old: dict[str, Any], stage: str | None) -> int:
    """Count the stages before the one to start from: the old job has finished all of them.

    Raises:
        InvalidInputError: it hasn't, or there is no such stage.
    """
    if stage is None:
        return 0
    names = [str(one.name) for one in JOB_TYPES[old["jobType"]].stages]
    if stage not in names:
        raise InvalidInputError(f"job {old['id']} is of type {old['jobType']}, whose stages are {', '.join(names)}")
    before = names[: names.index(stage)]
    rows: list[asyncpg.Record] = await connection.fetch(_FINISHED, old["id"], old["jobType"])
    finished = {row["stage"] for row in rows}
    if old.get("analysisResult") is not None:  # of a job that was itself begun later, or whose history is gone
        finished.add("ANALYZING")
    if old.get("geminiPrompt") is not None:
        finished.update(before)
    missing = [name for name in before if name not in finished]
    if missing:
        raise InvalidInputError(f"job {old['id']} has not finished {missing[0]}; start from there at the latest")
    return len(before)
