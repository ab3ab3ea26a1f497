"""The run of one claim: its remaining stages, each with its checkpoint, up to an outcome, which `Recorder` writes.

If the claim is lost meanwhile, the run's writes change nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import zip_longest
from typing import Protocol

from config.logger import EventLogger
from config.masking import SecretMask
from models.connections import ContentionError, DatabaseLostError
from models.database import Database
from models.database_retries import DATABASE_GONE_S
from models.gate.provider_calls import Generation
from models.history.objects import NewObject
from models.queue.checkpoints import checkpoint, completed
from models.queue.groups import GroupWriter
from models.queue.transitions import HandedOver, Released
from pipelines.deadline import Deadline
from pipelines.errors import BadImageError, TransientError
from pipelines.fetching import PictureFetcher
from pipelines.imaging.budget import ByteBudget
from pipelines.imaging.header import DecodeLimits
from pipelines.imaging.pool import PixelPool
from pipelines.job import Generated, Job
from pipelines.output import Output
from pipelines.providers.catalogue import ModelCatalogue
from pipelines.providers.provider import StageProvider
from pipelines.stage import Stage
from pipelines.stage_context import INPUT_BYTES, StageContext
from pipelines.storage.storage import Storage
from workers.metrics.recording import Recording
from workers.objects import ObjectRecords, RecordedStorage
from workers.running.job import RunningJob
from workers.running.kept_answers import KEPT_BYTES, KeptAnswer
from workers.running.naming import name_pictures
from workers.running.outcomes import End, Outcome, outcome_of
from workers.running.picture_records import PictureRecords, pictures_of
from workers.running.preparation import Preparation, Prepared
from workers.running.row_deadlines import RowDeadlines
from workers.running.stage_queues import StageQueues
from workers.running.stored_pictures import StoredPictures, artifact_of, generated_of

log = EventLogger(__name__)


class ProviderFor(Protocol):
    """A function that returns the provider for one running job; that provider records calls for the job's claim."""

    def __call__(
        self, job: RunningJob, *, most_paid_calls: int, earlier: Sequence[Generation], pictures: int
    ) -> StageProvider:
        """Return the provider.

        Args:
            job: the job.
            most_paid_calls: how many calls may be paid for each of its pictures.
            earlier: the generate calls of the job's earlier runs.
            pictures: how many pictures it makes.
        """


class StageRunner:
    """Runs the stages of one process's claims, and writes their checkpoints. It never writes an end.

    A stage that does nothing outside this process doesn't wait for its checkpoint, which is written with later ones.
    """

    def __init__(
        self,
        *,
        database: Database,
        writer: GroupWriter,
        storage: Storage,
        pixels: PixelPool,
        provider_for: ProviderFor,
        deadlines_s: Mapping[str, float],
        limits: DecodeLimits,
        answer_limits: DecodeLimits | None = None,
        mask: SecretMask,
        fetcher: PictureFetcher | None = None,
        provider_identity: str = "",
        reuses_results: bool = False,
        check_job: Callable[[Job], None] | None = None,
        models: ModelCatalogue | None = None,
        stage_queues: StageQueues | None = None,
        recording: Recording | None = None,
    ) -> None:
        """Store what every run needs; the caller owns and closes it."""
        self._database = database
        self.writer = writer
        self._picture_writer = GroupWriter(database)
        self._storage = storage
        self._pixels = pixels
        self._provider_for = provider_for
        self._deadlines_s = deadlines_s
        self._limits = limits
        self._answer_limits = answer_limits or limits
        self._mask = mask
        self._stage_queues = stage_queues or StageQueues()
        self._recording = recording or Recording()
        self._fetcher = fetcher or PictureFetcher()
        self._provider_identity = provider_identity
        self._inputs = ByteBudget(INPUT_BYTES)
        self._row_deadlines = RowDeadlines(database)
        self._objects = ObjectRecords(database)
        self._pictures = StoredPictures(database, storage)
        self._preparation = Preparation(database, deadlines_s, check_job=check_job, models=models)
        self._reuses_results = reuses_results
        self._copies = ByteBudget(KEPT_BYTES)

    async def run(self, job: RunningJob) -> Outcome:
        """Run the remaining stages of a claim; return its outcome, which isn't written yet."""
        try:
            return await outcome_of(job, self._stages(job), self._mask)
        finally:
            self._row_deadlines.forget(job.claim)
            job.drop_answer()

    async def _stages(self, job: RunningJob) -> End:
        """Run stage after stage, from where an earlier claim ended.

        Raises:
            ClaimLostError: another worker holds the job, or it is over.
            StageError: a stage failed, or what the job is to work on can't be used.
        """
        claim = job.claim
        prepared = await self._preparation.prepare(job)
        if (queue := self._stage_queues.of(prepared.stages[0].name)) != claim.queue:
            job.begin(prepared.stages[0].name)
            return HandedOver(job.stage, queue)
        storage = RecordedStorage(self._storage, partial(self._record, job))
        kept = KeptAnswer(job, self._database, storage, self._copies, has_bought=prepared.has_bought)
        deadline = Deadline()
        context = self._context(job, prepared, storage, kept, PictureRecords(job, self._database, kept, deadline))
        self._row_deadlines.follow(claim, deadline)
        stages = prepared.stages
        deadline_s = stages[0].deadline_of(self._deadlines_s)
        for stage, following in zip_longest(stages, stages[1:]):
            job.begin(stage.name)
            try:
                output = await self._run_stage(job, stage, context, deadline, deadline_s)
            except BaseException as error:
                await kept.keep_after(error)
                raise
            if isinstance(output, Generated):
                await self._record_picture(job, output)
                await kept.remove()
            context.add(output)
            duration_ms = job.finish_stage()
            self._recording.stage_ended(claim.job_type, stage.name, "finished", duration_ms)
            log.debug("stage_completed", stage=stage.name, duration_s=duration_ms / 1000)
            left = None if output is None else output.to_json()
            if following is None:
                break
            deadline_s = following.deadline_of(self._deadlines_s)
            reached = checkpoint(
                claim.job_type,
                stage.name,
                left,
                following=following.name,
                deadline_s=deadline_s,
                duration_ms=duration_ms,
            )
            job.send(self.writer, reached)
            queue = self._stage_queues.of(following.name)
            if job.acts or job.ends_after_stage or queue != claim.queue:
                with job.recording():
                    await job.saved()
            if queue != claim.queue:
                job.begin(following.name)
                return HandedOver(job.stage, queue)
            if job.ends_after_stage:
                job.begin(following.name)
                return Released(job.stage)
        picture, pipeline_id = context.output(Generated), prepared.pipeline_id
        result = left if picture is output or picture is None else {**picture.to_json(), **(left or {})}
        return completed(
            *(claim.job_type, job.stage, left, result),
            before=[one.to_json() for one in context.pictures[:-1]],
            duration_ms=duration_ms,
            pipeline_id=pipeline_id,
        )

    async def _record_picture(self, job: RunningJob, picture: Generated) -> None:
        """Record a picture, so that it isn't bought again.

        One that this stage has stored is recorded at once, by a writer of its own: it must not wait for a group in
        which a trigger of the application takes long over another job's row.
        """
        if not job.acts:
            job.send(self.writer, artifact_of(picture))
            return
        with job.recording():
            await job.saved()
            job.send(self._picture_writer, artifact_of(picture))
            await job.saved()

    async def _record(self, job: RunningJob, key: str, sha256: str, size_bytes: int) -> None:
        await job.saved()
        await self._objects.add(NewObject(key, job.claim.job_type, job.claim.job_id, sha256, size_bytes))

    def _context(
        self, job: RunningJob, prepared: Prepared, storage: Storage, kept: KeptAnswer, records: PictureRecords
    ) -> StageContext:
        claim, earlier = job.claim, prepared.earlier
        provider = self._provider_for(
            job,
            most_paid_calls=prepared.job.options.generation.retry_attempts,
            earlier=prepared.generations,
            pictures=prepared.job.count,
        )
        is_reusing = self._reuses_results and not prepared.is_redone

        async def find_same(input_hash: str) -> Generated | None:
            await job.saved()
            return await self._pictures.same(claim, input_hash)

        return StageContext(
            job=prepared.job,
            outputs=list(prepared.outputs),
            earlier=None if earlier is None else generated_of(earlier, self._storage.url(earlier.key)),
            recorded=pictures_of(prepared.recorded, self._storage),
            record=records.record,
            provider=provider,
            storage=storage,
            pixels=self._pixels,
            limits=self._limits,
            answer_limits=self._answer_limits,
            fetcher=self._fetcher,
            provider_identity=self._provider_identity,
            inputs=self._inputs,
            find_same=find_same if is_reusing else None,
            bought=kept.bought,
            calling=partial(_calling, job),
        )

    async def _run_stage(
        self, job: RunningJob, stage: Stage, context: StageContext, deadline: Deadline, deadline_s: float
    ) -> Output | None:
        """Run one stage. If PostgreSQL becomes unreachable during it, run the stage again under the same claim.

        Paid calls of the earlier run of the stage count towards the job's limit.

        Raises:
            StageError: the stage failed, or exceeded its deadline.
            DatabaseLostError: PostgreSQL was unreachable for a part of the time, and the deadline is exceeded.
            ContentionError: the checkpoint of an earlier stage wasn't written.
        """
        lost: Exception | None = None
        try:
            with deadline.within(deadline_s):
                while True:
                    try:
                        return await stage.run(context)
                    except BadImageError as error:
                        name_pictures(error, context.job)
                        raise
                    except (DatabaseLostError, ContentionError) as error:
                        if job.has_unwritten:  # an earlier stage's checkpoint: without it this stage must not act
                            raise
                        log.warning("database_awaited", error=str(error), error_type=type(error).__name__)
                        lost = error
                        job.hold_picture(holds=False)
                        await asyncio.sleep(DATABASE_GONE_S)
        except TimeoutError:
            if not deadline.expired():
                raise
            if lost is not None:
                raise lost from None
            raise TransientError(f"{stage.name} wasn't done within its deadline of {deadline_s:g} s") from None
        finally:
            del lost  # it holds this frame: in a cycle, both would last until a garbage collection


@asynccontextmanager
async def _calling(job: RunningJob) -> AsyncIterator[None]:
    """Count a call in flight until the block ends, which begins once everything is committed that the run has written.

    The call may not be repeatable.
    """
    await job.saved()
    with job.calling():
        yield
