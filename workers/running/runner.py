"""The life of one claim: run -> outcome -> record.

Every way in which a run can end becomes one transition, and only the last
step writes it. Whatever a lost claim does in between, its writes change nothing.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, Protocol

import asyncpg
import structlog

from config.masking import SecretMask
from models.connections import ContentionError, DatabaseLostError, is_cancelled
from models.database import Database
from models.history.error_logs import log_failed_attempts
from models.queue.claims import ClaimLostError, FencedError, prolong
from models.queue.inputs import USERS_OF, JobInputs, load_inputs, record_pipeline
from models.queue.refusal import Refusal, words_of
from models.queue.refusals import settle_refused
from models.queue.resuming import begin_at
from models.queue.transitions import (
    Checkpoint,
    Completed,
    Released,
    Snoozed,
    Transition,
    count_pipeline_use,
    log_fenced,
    record,
)
from pipelines.errors import StageError, ThrottledError, TransientError
from pipelines.fetching import PictureFetcher
from pipelines.imaging.budget import ByteBudget
from pipelines.imaging.header import DecodeLimits
from pipelines.imaging.pool import PixelPool
from pipelines.job import Generated, Job, Outputs
from pipelines.providers.catalogue import ModelCatalogue
from pipelines.providers.provider import StageProvider
from pipelines.stage import INPUT_BYTES, Stage, StageContext, StageName
from pipelines.storage.storage import Storage
from workers.objects import recorded_storage
from workers.running.causes import what_lacks
from workers.running.claim_loop import RunningJob
from workers.running.endings import elapsed_ms, ending_of, failed_attempt, report, take_back_cancellation, told_to_end
from workers.running.patience import DATABASE_GONE_S, LANE_PATIENCE_S, with_database
from workers.running.stored_pictures import StoredPictures
from workers.running.translation import (
    build_job,
    columns_of,
    ids_that_share_keys,
    require_unshared,
    resume,
    summary_of,
    with_output,
)

log = structlog.get_logger(__name__)

DATABASE_LOST_DELAY = timedelta(seconds=2)
"""How long a job waits whose stage found PostgreSQL gone: it has used no attempt."""

HELD_DELAY = timedelta(seconds=15)
"""How long a job waits whose result had to be left because of a row that is held; its picture isn't bought again."""

PROLONGED_S = 30.0
"""How long a claim lives at least whose result waits for a row; more than the time from one try to the next."""

COUNT_PATIENCE_S = 5.0
"""How long a lane is kept for a figure on a row that another program may hold."""


class ProviderFor(Protocol):
    """Makes the provider that one running job may call: with its intents, counted against its claim."""

    def __call__(self, job: RunningJob, *, most_paid_calls: int) -> StageProvider:
        """Return it."""


class Runner:
    """Runs claims of one process."""

    def __init__(
        self,
        *,
        database: Database,
        storage: Storage,
        pixels: PixelPool,
        provider_for: ProviderFor,
        deadlines_s: Mapping[str, float],
        limits: DecodeLimits,
        answer_limits: DecodeLimits | None = None,
        mask: SecretMask,
        fetcher: PictureFetcher | None = None,
        maker: str = "",
        reuses_results: bool = False,
        check_job: Callable[[Job], None] | None = None,
        models: ModelCatalogue | None = None,
    ) -> None:
        """Hold what every run needs; the caller owns and closes it."""
        self._database = database
        self._storage = storage
        self._pixels = pixels
        self._provider_for = provider_for
        self._deadlines_s = deadlines_s
        self._limits = limits
        self._answer_limits = answer_limits or limits
        self._mask = mask
        self._fetcher = fetcher or PictureFetcher()
        self._maker = maker
        self._inputs = ByteBudget(INPUT_BYTES)
        self._pictures = StoredPictures(database, storage, with_database)
        self._reuses_results = reuses_results
        self._check_job = check_job
        self._models = models

    async def run_job(self, job: RunningJob) -> None:
        """Run one claim to its recorded end. Only a bug of ours raises."""
        structlog.contextvars.bind_contextvars(
            job_id=job.claim.job_id, job_type=job.claim.job_type, attempt=job.claim.attempt
        )
        log.info("job_claimed", stage=job.stage)
        try:
            transition = await self._settle(job, await self._attempt(job))
        except ClaimLostError as error:
            log.warning("job_claim_lost", stage=job.stage)
            if isinstance(error, FencedError):
                await self._log_fenced(job)
            return
        report(transition)

    async def _log_fenced(self, job: RunningJob) -> None:
        """Keep in the job's history that this claim came too late; the job itself has gone on without it."""
        passing = (DatabaseLostError, ContentionError, OSError)
        with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, *passing):
            await self._database.commit(
                "log_fenced", lambda connection: log_fenced(connection, job.claim, job.stage), patience_s=1
            )

    async def _attempt(self, job: RunningJob) -> Transition:
        """Run the remaining stages; return how it ended.

        Raises:
            ClaimLostError: another holds the job, or it is over.
        """
        try:
            return await self._stages(job)
        except asyncio.CancelledError:
            return told_to_end(job)
        except ClaimLostError:
            raise
        except StageError as error:
            if not isinstance(error, ThrottledError) or error.evidence:  # a snooze has failed no attempt
                await self._log_error(job, error)
            return ending_of(job, error, self._mask)
        except Exception as error:  # noqa: BLE001 - a bug of ours must not lose a job either
            return await self._ending_of_another(job, error)

    async def _ending_of_another(self, job: RunningJob, error: Exception) -> Transition:
        """Turn an error that is no stage's own into what happens to the job."""
        if isinstance(error, DatabaseLostError | ContentionError):
            log.warning("database_awaited", error=str(error), error_type=type(error).__name__)
            # due at once, it would be claimed over and over where claims get a connection and stages get none
            return Snoozed(job.stage, "PostgreSQL can't be used now", DATABASE_LOST_DELAY, elapsed_ms(job))
        if isinstance(error, asyncpg.PostgresError) and not is_cancelled(error):
            return await self._refused(job, error)
        if isinstance(error, OSError | MemoryError | asyncpg.PostgresError):
            log.warning("stage_lacked_resources", stage=job.stage, error=str(error), error_type=type(error).__name__)
            reason = f"{job.stage} wasn't possible now: {what_lacks(error)}"
        else:
            log.error("stage_crashed", stage=job.stage, exc_info=error)
            reason = f"unexpected {type(error).__name__} in {job.stage}"
        await self._log_error(job, error)
        return ending_of(job, TransientError(reason), self._mask)

    async def _refused(self, job: RunningJob, error: Exception) -> Transition:
        """Fail an attempt whose result the database refuses."""
        words = words_of(error) if isinstance(error, Refusal) else type(error).__name__
        log.error("job_end_refused", stage=job.stage, error=words)  # PostgreSQL's refusal: our stack says nothing
        await self._log_error(job, error)
        return ending_of(job, TransientError(f"the database refused the result of {job.stage}: {words}"), self._mask)

    async def _settle(self, job: RunningJob, transition: Transition) -> Transition:
        """Record how a run ended; return the transition that was written.

        Raises:
            ClaimLostError: another holds the job, or it is over.
        """
        try:
            await self._record(job, transition)
        except asyncio.CancelledError:
            transition = told_to_end(job)  # in the middle of a commit: if it got through, the fence says so
            await self._record(job, transition)
        except ClaimLostError:
            raise
        except Exception as error:  # noqa: BLE001 - a database that refuses a result must not have it made over and over
            transition = await self._record_refused(job, transition, error)
        if isinstance(transition, Completed) and transition.pipeline_id is not None:
            await self._count_use(job, transition.pipeline_id)
        return transition

    async def _record_refused(self, job: RunningJob, transition: Transition, error: Exception) -> Transition:
        """Let a job end, or wait, whose result or end the database refused; return what was written."""
        refused = await self._refused(job, error)
        if isinstance(transition, Completed):
            transition = refused
            if isinstance(error, ContentionError):
                transition = Snoozed(job.stage, "another program holds rows of this job", HELD_DELAY, elapsed_ms(job))
            try:
                await self._record(job, transition, contention_s=LANE_PATIENCE_S)
            except (asyncpg.PostgresError, ContentionError) as again:
                error = again
            else:
                return transition
        job.is_recording = True
        try:
            await with_database(lambda: settle_refused(self._database, job.claim, transition, error), waiting=job)
        finally:
            job.is_recording = False
        return transition

    async def _count_use(self, job: RunningJob, pipeline_id: str) -> None:
        """Count a completed job on its pipeline; after the commit, because another program may hold that row."""
        job.is_recording = True  # its claim is gone by right: the look for lost ones must not cut it off
        try:
            async with asyncio.timeout(COUNT_PATIENCE_S):
                await with_database(
                    lambda: self._database.commit(
                        "count_use", lambda connection: count_pipeline_use(connection, pipeline_id)
                    )
                )
        except Exception as error:  # noqa: BLE001 - a figure for people; the job is done and paid
            log.warning("pipeline_use_uncounted", pipeline_id=pipeline_id, error=str(error) or type(error).__name__)
        finally:
            job.is_recording = False

    async def _stages(self, job: RunningJob) -> Transition:
        claim = job.claim
        inputs = await with_database(lambda: self._database.run(lambda connection: load_inputs(connection, claim)))
        if inputs is None:
            raise ClaimLostError(f"the row of job {claim.job_id} is gone")
        if ids := ids_that_share_keys(claim, inputs):
            rows = await with_database(lambda: self._database.fetch(USERS_OF, ids))
            require_unshared([row["id"] for row in rows])
        built = build_job(claim, inputs)
        resumed = resume(built, inputs, claim.stage)
        stages, context = resumed.stages, self._context(job, inputs, built, resumed.outputs)
        if stages[0].name != claim.stage:
            await self._begin_again(job, stages[0], resumed.discarded)
        if (pipeline := inputs.pipeline) is not None and pipeline.is_albums:
            await with_database(
                lambda: self._database.commit(
                    "record_pipeline",
                    lambda connection: record_pipeline(connection, claim, pipeline.id),
                    patience_s=LANE_PATIENCE_S,
                ),
                waiting=job,
            )
        if stages[0].name is StageName.GENERATING:  # an earlier attempt may have got as far as the storage
            context = replace(
                context, outputs=replace(context.outputs, generated=await self._pictures.of_earlier_attempt(claim))
            )
        self._require_makeable(context, stages[0].name)
        for stage, following in zip(stages, [*stages[1:], None], strict=True):
            job.stage, job.started_s, job.holds_answer = stage.name, time.monotonic(), False
            output = await self._run_stage(stage, context)
            if isinstance(output, Generated):
                await self._pictures.record(claim, output)
            columns = columns_of(claim.job_type, output)
            duration_ms = elapsed_ms(job)
            summary = summary_of(output)
            log.info("stage_completed", stage=stage.name, duration_s=duration_ms / 1000)
            if following is None:
                pipeline_id = inputs.pipeline.id if inputs.pipeline else None
                return Completed(stage.name, duration_ms, columns, summary, pipeline_id)
            deadline_s = self._deadlines_s[following.name]
            checkpoint = Checkpoint(stage.name, following.name, deadline_s, duration_ms, columns, summary)
            await self._record(job, checkpoint)
            if job.ends_after_stage:
                job.stage = following.name
                return Released(job.stage)
            context = replace(context, outputs=with_output(context.outputs, output))
        raise AssertionError(f"job type {claim.job_type} has no stage {claim.stage}")

    def _require_makeable(self, context: StageContext, first: StageName) -> None:
        """Refuse, before anything is bought, what can't be made as it is asked for; GENERATING may be done already.

        Raises:
            UnknownModelError: a model that the pipeline or an operator names can't be asked.
            ProviderNotConfiguredError: no provider here makes the picture.
        """
        if self._models is not None and context.outputs.generated is None:
            self._models.require_known(context.job.options, analyzes=first is StageName.ANALYZING)
        if self._check_job is not None and first is not StageName.GENERATING:
            self._check_job(context.job)

    async def _begin_again(self, job: RunningJob, first: Stage, discarded: Sequence[str]) -> None:
        """Begin at another stage than the row says, because what it holds can't be read or isn't a stage of ours."""
        log.warning("checkpoint_discarded", stage=first.name, columns=list(discarded))
        write = partial(begin_at, claim=job.claim, stage=first.name, deadline_s=self._deadlines_s[first.name])
        await with_database(lambda: self._database.commit("begin_at", write, patience_s=LANE_PATIENCE_S), waiting=job)

    def _context(self, job: RunningJob, inputs: JobInputs, built: Job, outputs: Outputs) -> StageContext:
        claim = job.claim
        is_reusing = self._reuses_results and not inputs.is_redone
        return StageContext(
            job=built,
            outputs=outputs,
            provider=self._provider_for(job, most_paid_calls=built.options.generation.retry_attempts),
            storage=recorded_storage(
                *(self._storage, self._database),
                job_type=claim.job_type,
                job_id=claim.job_id,
                trip=with_database,
            ),
            pixels=self._pixels,
            limits=self._limits,
            answer_limits=self._answer_limits,
            fetcher=self._fetcher,
            maker=self._maker,
            inputs=self._inputs,
            find_same=partial(self._pictures.same, claim) if is_reusing else None,
        )

    async def _run_stage(self, stage: Stage, context: StageContext) -> Any:
        """Run one stage; where PostgreSQL is gone in its middle, run it again under the same claim.

        Calls that were bought before count.

        Raises:
            StageError: it failed, or wasn't done within its deadline.
            DatabaseLostError: PostgreSQL was gone for a part of the time, and the deadline is over.
        """
        deadline_s = self._deadlines_s[stage.name]
        lost: Exception | None = None
        try:
            async with asyncio.timeout(deadline_s) as deadline:
                while True:
                    try:
                        return await stage.run(context)
                    except (DatabaseLostError, ContentionError) as error:
                        log.warning("database_awaited", error=str(error), error_type=type(error).__name__)
                        lost = error
                        await asyncio.sleep(DATABASE_GONE_S)
        except TimeoutError:
            if not deadline.expired():
                raise
            if lost is not None:
                raise lost from None
            raise TransientError(f"{stage.name} wasn't done within its deadline of {deadline_s:g} s") from None

    async def _record(self, job: RunningJob, transition: Transition, *, contention_s: float | None = None) -> None:
        """Write a transition under the claim's fence; a PostgreSQL that is gone is waited for.

        For a row that another program holds it waits `contention_s`, and for LANE_PATIENCE_S of it in its lane.
        """
        job.is_recording = True
        name = f"record_{type(transition).__name__.lower()}"

        async def write() -> None:
            try:
                await self._database.commit(
                    name, lambda connection: record(connection, job.claim, transition), patience_s=LANE_PATIENCE_S
                )
            except ContentionError:  # the result is in hand: the stage's deadline has nothing more to say
                await self._database.commit(
                    "prolong", lambda connection: prolong(connection, job.claim, PROLONGED_S), patience_s=0
                )
                raise

        try:
            await with_database(write, contention_s=contention_s, waiting=job)
        finally:
            job.is_recording = False

    async def _log_error(self, job: RunningJob, error: Exception) -> None:
        """Write one row of error_logs; neither its failure nor a call to end keeps the attempt's own from its record.

        Raises:
            asyncio.CancelledError: nobody told the job to end: it is the loop's own.
        """
        failure = failed_attempt(job, error, self._mask)
        try:
            await log_failed_attempts(self._database, [failure])
        except asyncio.CancelledError:
            if job.ending is None:
                raise
            take_back_cancellation()
