"""Retry of finished jobs by an operator: as new jobs, each with its own charge."""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Final

from models.connections import Connection
from models.history.actions import is_retried, record_job_action
from models.history.timeline import last_payload
from models.job_state import JobStatus
from models.queue.checkpoints import carry, resumable_stages
from models.queue.inputs import lost_input
from models.queue.job_rows import Job
from models.queue.retrying import begin_at, lock_job, submit_again
from pipelines.job_types import job_type_of
from workers.operations.errors import (
    RETRYABLE,
    InvalidInputError,
    JobNotRetryableError,
    JobRetriedError,
    OperationError,
    translated,
)
from workers.operations.jobs import get_jobs, get_named, job_not_found
from workers.operations.models import require_known_model
from workers.process.runtime import Runtime

MOST_MODEL_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class RetryTerms:
    """How jobs are retried.

    Attributes:
        from_stage: begin at this stage, with the checkpoints of the old job; None begins at the first.
        model: model of the generation, for the new jobs only; None leaves it to their pipeline.
        redoes_completed: whether COMPLETED jobs are retried too.
        only_once: whether a job is refused that an operator has retried already, or retries at the same time.
    """

    from_stage: str | None = None
    model: str | None = None
    redoes_completed: bool = False
    only_once: bool = False


@dataclass(frozen=True, slots=True)
class Retry:
    """The retry of one job: `new_id`, or the error that refused it; neither if a dry run finds nothing wrong.

    `name` is by which the old job was asked for, and `old` is None if there is no such job.
    """

    name: str
    old: Job | None = None
    new_id: str | None = None
    refusal: OperationError | None = None


async def retry_jobs(
    runtime: Runtime, names: Iterable[str], terms: RetryTerms, *, actor: str, reason: str | None = None
) -> AsyncIterator[Retry]:
    """Submit finished jobs once more; yield the result of each, in the order of the names.

    Each job is retried in a transaction of its own, and a refused retry doesn't affect the others.

    Raises:
        InvalidInputError: the model's name is empty or too long, or the model can't be asked.
    """
    await _check(runtime, terms)
    is_any = False
    for name in names:
        old = None
        try:
            old = next(iter(await get_jobs(runtime, [name])), None)
            if old is None:
                raise job_not_found(name)
            new_id = await _retry(runtime, old, terms, actor, reason)
        except OperationError as error:
            yield Retry(name, old, refusal=error)
            continue
        is_any = True
        yield Retry(name, old, new_id)
    if is_any:
        await runtime.wake()


async def rehearse_retries(runtime: Runtime, names: Iterable[str], terms: RetryTerms) -> list[Retry]:
    """Do what `retry_jobs` does and roll it back, for a dry run.

    Each user's jobs are in one transaction, so that the balance has to suffice for all of them.

    Raises:
        InvalidInputError: the model's name is empty or too long, or the model can't be asked.
    """
    await _check(runtime, terms)
    asked = list(names)
    found = await get_named(runtime, asked)
    outcomes = {name: Retry(name, refusal=job_not_found(name)) for name in asked if name not in found}

    async def rehearse(connection: Connection, jobs: list[tuple[str, Job]]) -> None:
        transaction = connection.transaction()
        await transaction.start()
        try:
            for name, old in jobs:
                try:
                    with translated():
                        async with connection.transaction():
                            await _submit_again(connection, old, terms)
                    outcomes[name] = Retry(name, old)
                except OperationError as error:
                    outcomes[name] = Retry(name, old, refusal=error)
        finally:
            await transaction.rollback()

    def payer(one: tuple[str, Job]) -> tuple[str, str]:
        return one[1].key.table.application, str(one[1].user_id)

    for _, jobs in groupby(sorted(found.items(), key=payer), payer):
        await runtime.database.run(partial(rehearse, jobs=list(jobs)))
    return [outcomes[name] for name in asked]


async def _check(runtime: Runtime, terms: RetryTerms) -> None:
    if terms.model is None:
        return
    if not 1 <= len(terms.model.strip()) <= MOST_MODEL_CHARS:
        raise InvalidInputError(f"a model's name has 1 to {MOST_MODEL_CHARS} characters")
    await require_known_model(runtime, terms.model.strip())


async def _retry(runtime: Runtime, old: Job, terms: RetryTerms, actor: str, reason: str | None) -> str:
    async def retry(connection: Connection) -> str:
        async with connection.transaction():
            new_id = await _submit_again(connection, old, terms)
            await record_job_action(
                connection,
                old.job_type,
                old.id,
                actor=actor,
                action="job_retry",
                before={"status": old.status},
                after={"jobId": new_id, "fromStage": terms.from_stage, "model": terms.model},
                reason=reason,
            )
            return new_id

    with translated():
        return await runtime.database.commit("retry_job", retry)


async def _submit_again(connection: Connection, old: Job, terms: RetryTerms) -> str:
    """Submit a job like an old one, in the caller's transaction; return the new job's id.

    Raises:
        InvalidInputError: an input of the old job is deleted, or it hasn't finished the stages before the first one.
        JobNotRetryableError: the old job is unfinished, or COMPLETED and not to be redone.
        JobRetriedError: the old job was retried before, and is to be retried only once.
        asyncpg.PostgresError: the submission is refused; `operation_error` translates it.
    """
    if old.status not in RETRYABLE and not (terms.redoes_completed and old.status == JobStatus.COMPLETED):
        raise JobNotRetryableError(old.name, old.status)
    # locked first: otherwise two operators with the same filter could both retry it, and its user would be charged
    # twice
    if terms.only_once:
        await lock_job(connection, old)
        if await is_retried(connection, old.job_type, old.id):
            raise JobRetriedError(old.name)
    if (lost := await lost_input(connection, old.job_type, old.id)) is not None:
        raise InvalidInputError(f"job {old.name} can't be done once more: {lost}; submit a new one")
    finished = await _stages_before(connection, old, terms.from_stage)
    payload = await last_payload(connection, old.id, old.job_type)
    if terms.model is not None:
        payload["model"] = terms.model.strip()
    else:
        payload.pop("model", None)  # the model of an earlier retry
    if old.status == JobStatus.COMPLETED:
        # the user wants another picture, so DARKROOM_REUSE_RESULTS must not return the old one
        payload["is_redone"] = True
    else:
        payload.pop("is_redone", None)
    new_id = await submit_again(connection, old, payload.get("model", ""))
    if new_id is None:
        raise InvalidInputError(f"jobs of type {old.job_type} can't be tried again by Darkroom; submit a new one")
    if finished:
        await carry(connection, old.job_type, old.id, new_id, finished, str(terms.from_stage))
    if finished or payload:
        await begin_at(connection, old.job_type, new_id, terms.from_stage if finished else None, payload)
    return new_id


async def _stages_before(connection: Connection, old: Job, stage: str | None) -> Sequence[str]:
    """Return the stages before the one at which the new job begins; the old job has finished all of them.

    Raises:
        InvalidInputError: the old job hasn't finished them, or there is no such stage.
    """
    if stage is None:
        return ()
    names = [one.name for one in job_type_of(old.job_type).stages]
    if stage not in names:
        raise InvalidInputError(f"job {old.name} is of type {old.job_type}, whose stages are {', '.join(names)}")
    before = names[: names.index(stage)]
    finished = await resumable_stages(connection, old.job_type, old.id, old.columns, names)
    missing = [name for name in before if name not in finished]
    if missing:
        raise InvalidInputError(f"job {old.name} has not finished {missing[0]}; start from there at the latest")
    return before
