"""Records of the pictures of a job that makes several, each written before the next one is bought."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from config.logger import EventLogger
from models.database import Database
from models.database_retries import commit_with_retries
from models.queue.recorded_pictures import record_picture
from pipelines.deadline import Deadline, deadlines_paused
from pipelines.job import Generated
from pipelines.storage.storage import Storage
from workers.gate.refusals import SentBackError
from workers.running.job import RunningJob
from workers.running.kept_answers import KeptAnswer

log = EventLogger(__name__)


class PictureRecords:
    """Records the pictures of one run, but for the last one, which is recorded as that of every job."""

    def __init__(self, job: RunningJob, database: Database, kept: KeptAnswer, deadline: Deadline) -> None:
        """Store what is needed.

        Args:
            job: the running job.
            database: where pictures are recorded.
            kept: the answer of the run, which is over once its picture is recorded.
            deadline: of the stage that makes the pictures; it begins anew with each.
        """
        self._job = job
        self._database = database
        self._kept = kept
        self._deadline = deadline

    async def record(self, number: int, picture: Generated) -> None:
        """Record a stored picture, so that no later attempt buys it again.

        Raises:
            FencedError: another worker holds the job, or it is over.
            DatabaseLostError, ContentionError, asyncpg.PostgresError: it isn't recorded; the stage must be run again.
            SentBackError: the process stops, so the next picture is another process's.
        """
        job = self._job
        work = partial(
            record_picture,
            claim=job.claim,
            stage=job.stage,
            number=number,
            picture=picture.to_json(),
            deadline_s=self._deadline.whole_s,
        )
        with job.recording(), deadlines_paused():
            await job.saved()
            await commit_with_retries(self._database, "record_picture", work, waiting=job)
        self._deadline.restart()
        await self._kept.forget()
        log.debug("picture_recorded", number=number, key=picture.key)
        if job.ends_after_stage:
            raise SentBackError("the process stops", retry_after=timedelta(0))


def pictures_of(recorded: Mapping[int, Mapping[str, Any]], storage: Storage) -> dict[int, Generated]:
    """Return recorded pictures by their numbers, each with the URL that its key has now.

    One that can't be read, since another release or another program has written it, is left out.
    """
    found = {}
    for number, value in recorded.items():
        try:
            picture = Generated.from_json(value)
            found[number] = replace(picture, url=storage.url(picture.key))
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            log.warning("picture_record_discarded", number=number, error=str(error), error_type=type(error).__name__)
    return found
