"""The run of one claim: its remaining stages, each with its checkpoint, to an outcome that `record` writes.

Whatever a run does whose claim is lost, its writes change nothing.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import structlog

from models.connections import ContentionError, DatabaseLostError
from models.database import Database
from models.queue.claims import ClaimLostError
from models.queue.inputs import USERS_OF, JobInputs, load_inputs, record_pipeline
from models.queue.resuming import begin_at
from models.queue.transitions import Checkpoint, Completed, Released
from pipelines.errors import TransientError
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
from workers.running.error_log import ErrorLog
from workers.running.job import RunningJob
from workers.running.outcomes import Outcome, outcome_of
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
from workers.running.writing import write

log = structlog.get_logger(__name__)


class ProviderFor(Protocol):
    """Makes the provider that one running job may call: with its intents, counted against its claim."""

    def __call__(self, job: RunningJob, *, most_paid_calls: int) -> StageProvider:
        """Return it."""


class StageRunner:
    """Runs the stages of one process's claims. It never writes an end."""

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
        errors: ErrorLog,
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
        self._errors = errors
        self._fetcher = fetcher or PictureFetcher()
        self._maker = maker
        self._inputs = ByteBudget(INPUT_BYTES)
        self._pictures = StoredPictures(database, storage, with_database)
        self._reuses_results = reuses_results
        self._check_job = check_job
        self._models = models

    async def run(self, job: RunningJob) -> Outcome:
        """Run the remaining stages of a claim; return how that ended, of which nothing is written yet."""
        return await outcome_of(job, self._stages(job), self._errors)

    async def _stages(self, job: RunningJob) -> Outcome:
        """Run stage after stage, from where an earlier claim left off.

        Raises:
            ClaimLostError: another holds the job, or it is over.
            StageError: a stage failed, or what the job is to work on can't be used.
        """
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
            job.begin(stage.name)
            output = await self._run_stage(stage, context)
            if isinstance(output, Generated):
                await self._pictures.record(claim, output)
            columns = columns_of(claim.job_type, output)
            duration_ms = job.stage_ms
            summary = summary_of(output)
            log.info("stage_completed", stage=stage.name, duration_s=duration_ms / 1000)
            if following is None:
                pipeline_id = inputs.pipeline.id if inputs.pipeline else None
                return Completed(stage.name, duration_ms, columns, summary, pipeline_id)
            deadline_s = self._deadlines_s[following.name]
            checkpoint = Checkpoint(stage.name, following.name, deadline_s, duration_ms, columns, summary)
            await write(self._database, job, checkpoint)
            if job.ends_after_stage:
                job.begin(following.name)
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
