"""Retry and cancellation of many jobs at once: what it would do, and doing it to exactly those jobs."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, TypeAlias

from models.job_state import TERMINAL
from models.queue.job_rows import Job, costs_of
from workers.operations.errors import InvalidInputError, JobNotCancellableError, OperationError
from workers.operations.job_lists import MOST_AT_ONCE
from workers.operations.jobs import cancel_job, get_named, job_not_found, tokens_moved
from workers.operations.retrying import RetryTerms, rehearse_retries, retry_jobs
from workers.process.runtime import Runtime

Verb: TypeAlias = Literal["retry", "cancel"]

TERMS: Final = RetryTerms(only_once=True)
"""A job that an operator has retried before is refused: the same jobs may be sent twice."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A job to which something can't be done, and why."""

    name: str
    detail: str


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What would be done.

    Attributes:
        names: of the jobs to which it would be done.
        tokens: that they would be charged, or that would be refunded.
        refused: the others.
    """

    names: Sequence[str]
    tokens: int
    refused: Sequence[Refused]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done to a job: the id of the new job of a retry, or the error that refused it."""

    name: str
    new_id: str | None = None
    refusal: OperationError | None = None


async def rehearse(runtime: Runtime, verb: Verb, names: Sequence[str]) -> Rehearsal:
    """Return what a retry or a cancellation of some jobs would do, and do nothing.

    A retry is done and rolled back, so nothing but a change meanwhile can make the real one differ.

    Args:
        runtime: of the process.
        verb: what would be done.
        names: of the jobs, each an id or TABLE/ID.

    Raises:
        InvalidInputError: these are more than MOST_AT_ONCE.
    """
    names = _checked(names)
    if verb == "retry":
        retries = await rehearse_retries(runtime, names, TERMS)
        possible = [one.old for one in retries if one.refusal is None and one.old is not None]
        refused = [Refused(one.name, str(one.refusal)) for one in retries if one.refusal is not None]
        costs = await runtime.database.run(partial(costs_of, keys=[job.key for job in possible]))
        return Rehearsal([job.name for job in possible], sum(costs.values()), refused)
    found = await get_named(runtime, names)
    possible, refused = [], []
    for name in names:
        refusal = _not_cancellable(name, found.get(name))
        if refusal is None:
            possible.append(found[name])
        else:
            refused.append(Refused(name, str(refusal)))
    charged, refunded = await tokens_moved(runtime, [job.id for job in possible])
    return Rehearsal([job.name for job in possible], charged - refunded, refused)


async def do_to_all(
    runtime: Runtime, verb: Verb, names: Sequence[str], *, actor: str, reason: str | None = None
) -> AsyncIterator[Outcome]:
    """Retry or cancel jobs, each in a transaction of its own; yield what was done to each, in the order of the names.

    Raises:
        InvalidInputError: these are more than MOST_AT_ONCE.
    """
    names = _checked(names)
    if verb == "retry":
        async for one in retry_jobs(runtime, names, TERMS, actor=actor, reason=reason):
            yield Outcome(one.name, one.new_id, one.refusal)
        return
    for name in names:
        try:
            await cancel_job(runtime, name, actor=actor, reason=reason)
        except OperationError as error:
            yield Outcome(name, refusal=error)
        else:
            yield Outcome(name)


def _checked(names: Sequence[str]) -> Sequence[str]:
    if len(names) > MOST_AT_ONCE:
        raise InvalidInputError(f"{len(names):,} jobs; at most {MOST_AT_ONCE:,} at once")
    return list(dict.fromkeys(names))


def _not_cancellable(name: str, job: Job | None) -> OperationError | None:
    if job is None:
        return job_not_found(name)
    return JobNotCancellableError(job.name, job.status) if job.status in TERMINAL else None
