"""Preparation of a run: reads and checks the rows that its job needs, and builds what stages use from them."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from config.logger import EventLogger
from config.values import value
from models.collector import Collector
from models.database import Database
from models.database_retries import commit_with_retries, with_database_retries
from models.gate.provider_calls import Generation
from models.history.artifacts import Artifact
from models.queue.checkpoints import has_columns, outputs_left, place_of
from models.queue.inputs import record_pipeline, users_of
from models.queue.reading import JobReader
from models.queue.recorded_pictures import recorded_pictures
from models.queue.resuming import begin_at
from pipelines.analysis import Analysis
from pipelines.job import Generated, Job
from pipelines.job_types import GENERATE
from pipelines.output import Output
from pipelines.providers.catalogue import ModelCatalogue
from pipelines.requests import ids_that_share, reference_keys, require_unshared
from pipelines.resumption import resume, split
from pipelines.stage import Stage
from workers.running.job import RunningJob
from workers.running.translation import build_job

log = EventLogger(__name__)

MOST_TOGETHER: Final = 256
"""The most jobs whose keys one statement looks for other users of."""


@value
class Prepared:
    """A run that can begin.

    Attributes:
        job: the job as its stages see it.
        stages: the stages still to run, at least one.
        outputs: outputs of the finished stages.
        earlier: a picture that an earlier attempt stored, if there is one; of several, the last.
        recorded: the others, as JSON by number.
        pipeline_id: the pipeline whose settings the job uses.
        generations: the generate calls of earlier runs, oldest first, as they were when the run began.
        has_bought: whether an earlier run may have bought a picture that this one could use.
        is_redone: whether a completed job is done once more, so that no earlier picture may be its result.
    """

    job: Job
    stages: tuple[Stage, ...]
    outputs: tuple[Output, ...]
    earlier: Artifact | None
    recorded: Mapping[int, Mapping[str, Any]]
    generations: Sequence[Generation]
    has_bought: bool
    pipeline_id: str | None
    is_redone: bool


class Preparation:
    """Prepares the runs of one process."""

    def __init__(
        self,
        database: Database,
        deadlines_s: Mapping[str, float],
        *,
        check_job: Callable[[Job], None] | None,
        models: ModelCatalogue | None,
    ) -> None:
        """Store what every run needs.

        Args:
            database: where the rows are; the caller owns it.
            deadlines_s: stage deadlines by DARKROOM_STAGE_DEADLINES.
            check_job: function that refuses a job whose picture no configured provider can make.
            models: the models that calls may name.
        """
        self._database = database
        self._reader = JobReader(database)
        self._users: Collector[Sequence[str], list[str]] = Collector(
            self._users_of_all, self._users_of, most=MOST_TOGETHER, turns=database.turns_to_wait
        )
        self._deadlines_s = deadlines_s
        self._check_job = check_job
        self._models = models

    async def prepare(self, running: RunningJob) -> Prepared:
        """Return the inputs of a claimed job, and the stages that it still has to run.

        Raises:
            ClaimLostError: another worker holds the job, or it is over.
            StageError: an input of the job can't be used, or no configured provider can make its picture.
        """
        claim = running.claim
        before, stages = split(claim.job_type, claim.stage)
        needs_kept = not all(has_columns(claim.job_type, one.name) for one in before)
        # An earlier attempt may have stored its picture already, and the job may have been moved back to an earlier
        # stage since
        needs_artifact = stages[0].output is Generated or stages[0].name != claim.stage or claim.attempt > 1
        # A job of `pictures` makes only one, so it needs no further rows for it
        needs_kept = needs_kept or (needs_artifact and "." in claim.job_type)
        rows = await self._reader.read(claim, needs_kept=needs_kept, needs_artifact=needs_artifact)
        inputs, pipeline = rows.inputs, rows.inputs.pipeline
        named = [(inputs.input_key, claim.user_id)] if inputs.changes_input else []
        if pipeline is not None and pipeline.owner_id is not None:
            named += [(key, pipeline.owner_id) for _, key in reference_keys(pipeline.config)]
        if ids := ids_that_share(named):
            require_unshared(await with_database_retries(partial(self._users.ask, ids)))
        left = outputs_left(claim.job_type, inputs.checkpoints, rows.kept) if before else {}
        resumed = resume(before, stages, left)
        job = build_job(claim, inputs)
        first = resumed.stages[0]
        if first.name != claim.stage:  # the stored outputs can't be read, or the stage is unknown to this release
            places = [] if resumed.discarded is None else [place_of(claim.job_type, resumed.discarded)]
            log.warning("checkpoint_discarded", stage=first.name, columns=places)
            deadline_s = first.deadline_of(self._deadlines_s)
            begin = partial(begin_at, claim=claim, stage=first.name, deadline_s=deadline_s)
            await commit_with_retries(self._database, "begin_at", begin, waiting=running)
        if pipeline is not None and pipeline.is_albums:
            record = partial(record_pipeline, claim=claim, pipeline_id=pipeline.id)
            await commit_with_retries(self._database, "record_pipeline", record, waiting=running)
        if self._models is not None and rows.artifact is None:
            analyzes = any(stage.output is Analysis for stage in resumed.stages)
            self._models.require_known(job.options, analyzes=analyzes, path=job.choices_path)
        makes_picture = any(stage.output is Generated for stage in resumed.stages)
        if self._check_job is not None and makes_picture and first.output is not Generated:
            self._check_job(job)
        pipeline_id = None if pipeline is None else pipeline.id
        return Prepared(
            job=job,
            stages=resumed.stages,
            outputs=resumed.outputs,
            earlier=rows.artifact,
            recorded=recorded_pictures(GENERATE.name, rows.kept) if job.count > 1 else {},
            generations=rows.generations,
            has_bought=needs_artifact and any(one.may_be_paid for one in rows.generations),
            pipeline_id=pipeline_id,
            is_redone=inputs.is_redone,
        )

    async def _users_of_all(self, asked: Sequence[Sequence[str]]) -> list[list[str]]:
        """Return, for the jobs that ask at a moment, those of each one's ids that are ids of users."""
        ids = sorted({one for named in asked for one in named})
        found = set(await self._database.run(partial(users_of, ids=ids)))
        return [[one for one in named if one in found] for named in asked]

    async def _users_of(self, ids: Sequence[str]) -> list[str]:
        return (await self._users_of_all([ids]))[0]
