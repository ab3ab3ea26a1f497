"""Providers' answers that a run can't finish: each is stored as it came, and the job's next run finishes it.

So a picture isn't bought again because its process stopped while all pixel children were busy. Such an object is
removed once the job's picture is recorded. If the job ends otherwise, or its process is killed, it becomes an orphan.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from typing import Final

from config.logger import EventLogger
from models.applications.registry import table_of
from models.connections import DATABASE_ERRORS
from models.database import Database
from models.database_retries import commit_with_retries, read_with_retries
from models.gate.provider_calls import record_unusable
from models.history.objects import own_object
from models.queue.claims import ClaimLostError
from models.queue.user_keys import user_key
from pipelines.errors import (
    BadImageError,
    BrokenAnswerError,
    MissingObjectError,
    PixelChildLostError,
    StageError,
    StorageUnavailableError,
)
from pipelines.imaging.budget import ByteBudget
from pipelines.keys import answer_key
from pipelines.providers.asked import Asked
from pipelines.providers.calls import Answer
from pipelines.providers.provider import EncodedImage
from pipelines.stages.results import put_patiently
from pipelines.storage.storage import Storage
from workers.objects import take_back
from workers.running.claim_loop import ANSWER_S
from workers.running.job import RunningJob

log = EventLogger(__name__)

KEPT_BYTES: Final = 256_000_000
"""The most bytes of answers that a process stores at a time, since each is copied in memory for that.

So 64 answers of 4 MB are stored at once. Nearly all of the wait is for the storage, which takes many at a time.
"""

REMOVE_S: Final = 5.0
"""Seconds for which a job waits for the removal of an answer that it no longer needs."""

NOT_STORED: Final = (OSError, MemoryError, StorageUnavailableError, ClaimLostError, *DATABASE_ERRORS)
"""What keeps an answer from being stored or removed. The job goes on as without this module."""


class KeptAnswer:
    """The answer of one run: found if an earlier run has stored it, and stored if this run can't finish it."""

    def __init__(
        self, job: RunningJob, database: Database, storage: Storage, copies: ByteBudget, *, has_bought: bool
    ) -> None:
        """Store what is needed.

        Args:
            job: the running job, which holds the answer that has come.
            database: where objects are recorded.
            storage: stores objects, and records each before.
            copies: shared by the runs of a process, of KEPT_BYTES.
            has_bought: whether an earlier run may have bought a picture. Otherwise nothing is looked for.
        """
        self._job = job
        self._database = database
        self._storage = storage
        self._copies = copies
        self._has_bought = has_bought
        self._key: str | None = None
        self._is_stored = False

    @asynccontextmanager
    async def bought(self, asked_hash: str) -> AsyncIterator[Answer[EncodedImage] | None]:
        """Run a block that buys a picture and finishes it; give it the answer that was bought for the same before.

        An error of a stage says that the answer can't be used, unless the pixel child was lost: it isn't tried again.
        After any other end of the block, such as a lack of memory, `keep_after` stores it.
        """
        claim = self._job.claim
        # an earlier job may have had the id, and asked for the same
        name = f"{claim.job_id}/{claim.id}" if table_of(claim.job_type).ids_come_again else claim.job_id
        key = answer_key(user_key(claim.job_type, claim.user_id), name, asked_hash)
        if key != self._key:  # otherwise the database was lost in this block, and the stage is run again
            await self._find(key)
            self._key = key
        try:
            yield self._job.answer
        except PixelChildLostError:
            raise
        except StageError as error:
            await self._record_unusable(error)
            await self.remove()
            raise
        self._job.hold_picture()

    async def _record_unusable(self, error: StageError) -> None:
        """Record what is wrong with a picture whose call was closed as answered, so that it counts as a miss.

        Raises:
            DatabaseLostError, ContentionError, asyncpg.PostgresError: it isn't recorded; the stage must be run again.
        """
        job, call = self._job, self._job.answer_call
        if call is None or not isinstance(error, BrokenAnswerError):
            return  # its call was closed with the error
        record = partial(
            record_unusable, claim=job.claim, intent=call, outcome=type(error).__name__, problem=str(error)
        )
        await commit_with_retries(self._database, "record_unusable", record, waiting=job)

    async def remove(self) -> None:
        """Remove the stored answer that this run has found, since its picture is recorded or can't be finished."""
        self._job.drop_answer()
        if not self._is_stored or self._key is None:
            return
        self._is_stored = False
        try:
            async with asyncio.timeout(REMOVE_S):
                await take_back(self._storage, self._database, self._key)
        except NOT_STORED as error:
            log.warning("answer_left", key=self._key, error=str(error), error_type=type(error).__name__)

    async def forget(self) -> None:
        """Forget a picture that is recorded, so that another one may be bought: nothing is left to be stored."""
        await self.remove()
        self._job.hold_picture(holds=False)

    async def _find(self, key: str) -> None:
        """Let the job hold the answer that an earlier run has stored, unless it was removed or changed since.

        Raises:
            StorageUnavailableError: the storage can't read it now.
        """
        self._job.drop_answer()
        self._is_stored = False
        if not self._has_bought:
            return
        await self._job.saved()
        one = await read_with_retries(self._database, partial(own_object, key=key))
        if one is None:
            return
        try:
            data = await self._storage.get(key, max_bytes=one.size_bytes or 0)
            self._job.hold_answer(*await asyncio.to_thread(_decoded, data, one.sha256))
        except (MissingObjectError, BadImageError, ValueError, TypeError, LookupError) as error:
            log.warning("answer_lost", key=key, error=str(error), error_type=type(error).__name__)
        else:
            self._is_stored = True
            log.info("answer_resumed", key=key)

    async def keep_after(self, error: BaseException) -> None:
        """Store the answer that a stage has left unfinished, which was cut off or has failed by an error.

        Nothing is stored if the job is another worker's or over, or if the process stops and the time for storing the
        finished picture has passed.
        """
        job, answer = self._job, self._job.answer
        if self._key is None or answer is None or answer.value.is_finished or self._is_stored:
            return
        is_late = isinstance(error, asyncio.CancelledError) and job.holds_picture
        if is_late or job.has_lost_claim or isinstance(error, ClaimLostError):
            return
        job.hold_picture()  # a process that stops now ends no run that only has to store its picture
        try:
            async with asyncio.timeout(ANSWER_S), self._copies.hold(len(answer.value.data)):
                data, sha256 = await asyncio.to_thread(_encoded, answer, job.answer_call)
                await put_patiently(self._storage, self._key, data, "application/octet-stream", sha256)
        except NOT_STORED as lost:
            log.warning("answer_lost", key=self._key, error=str(lost), error_type=type(lost).__name__)
        else:
            log.info("answer_kept", key=self._key)


def _encoded(answer: Answer[EncodedImage], call: int | None) -> tuple[bytes, str]:
    """Return one line of JSON with what is known about a picture, and behind it the picture; and their hash."""
    facts = {
        "model": answer.model,
        "temperature": answer.temperature,
        "notes": answer.notes,
        "unseen": answer.unseen,
        "call": call,
    }
    data = b"\n".join((json.dumps(facts).encode(), answer.value.data))
    return data, hashlib.sha256(data).hexdigest()


def _decoded(data: bytes, sha256: str | None) -> tuple[Answer[EncodedImage], int | None]:
    """Return the answer that `_encoded` has written, with the hash that was recorded then, and the answer's call.

    Raises:
        ValueError, TypeError, LookupError: its bytes were changed, or another release has written it.
    """
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError("its content was changed")
    line, _, picture = data.partition(b"\n")
    facts = json.loads(line)
    unseen = None if facts["unseen"] is None else asdict(Asked(**facts["unseen"]))
    notes = tuple(facts["notes"])
    image, temperature = EncodedImage(picture), facts["temperature"]
    return Answer(image, facts["model"], temperature=temperature, notes=notes, unseen=unseen), facts.get("call")
