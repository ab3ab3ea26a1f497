"""Finished pictures: storing one, finding it after a crash, and reusing an earlier one of the same input."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from config.logger import EventLogger
from pipelines import keys
from pipelines.errors import BadImageError, MissingObjectError, StorageUnavailableError
from pipelines.job import Generated, Job
from pipelines.prompts import Purpose
from pipelines.providers.provider import EncodedImage
from pipelines.stage_context import StageContext
from pipelines.storage.storage import Storage

log = EventLogger(__name__)

JPEG_CONTENT_TYPE = "image/jpeg"

UPLOAD_WAIT = wait_random_exponential(multiplier=0.5, max=10)
"""Wait between tries to upload a finished picture, with full jitter, so as not to overload a storage that recovers."""


def hash_of(context: StageContext, images: Sequence[EncodedImage]) -> str:
    """Return the hash of all inputs of a picture: job type, tier, pipeline, words, pictures, providers and models.

    The text for the model isn't included: a second analysis may word it otherwise, and the picture would be bought
    twice.
    """
    job = context.job
    asked = {
        "job_type": job.job_type,
        "tier": job.tier,
        "options": job.options.values,
        "prompt": job.prompt,
        "aspect": job.aspect,
        "maker": context.provider_identity,
        "pictures": [image.sha256.hex() for image in images],
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()


async def store(context: StageContext, data: bytes, sha256: str) -> str:
    """Store a picture and return its key."""
    key = _key(context.job, sha256)
    await put_patiently(context.storage, key, data, JPEG_CONTENT_TYPE, sha256)
    return key


async def put_patiently(storage: Storage, key: str, data: bytes, content_type: str, sha256: str) -> None:
    """Store what was paid for: the upload is repeated until the caller's deadline."""

    def report(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        log.warning("upload_failed", tries=state.attempt_number, error=str(error))

    retrying = AsyncRetrying(
        retry=retry_if_exception_type(StorageUnavailableError), wait=UPLOAD_WAIT, before_sleep=report, reraise=True
    )
    await retrying(storage.put, key, data, content_type, sha256)


async def is_stored(storage: Storage, picture: Generated) -> bool:
    """Return whether a picture is in storage as it was recorded.

    Raises:
        StorageUnavailableError: the storage doesn't answer.
    """
    try:
        head = await storage.head(picture.key)
    except MissingObjectError:
        return False
    return (head.size_bytes, head.sha256) == (picture.size_bytes, picture.sha256)


async def reuse(context: StageContext, input_hash: str) -> Generated | None:
    """Return a copy, under this job's key, of the user's earlier picture from the same input; None if there is none.

    It is a copy, so that deleting one job's picture doesn't delete another's.

    Raises:
        StorageUnavailableError: the storage can't read or write it now.
    """
    earlier = await context.find_same(input_hash) if context.find_same else None
    if earlier is None:
        return None
    try:
        data = await context.storage.get(earlier.key, max_bytes=earlier.size_bytes)
    except (MissingObjectError, BadImageError):
        return None
    if hashlib.sha256(data).hexdigest() != earlier.sha256:
        return None
    key = await store(context, data, earlier.sha256)
    log.info("result_reused", earlier_key=earlier.key)
    return replace(earlier, key=key, url=context.storage.url(key), input_hash=input_hash)


def _key(job: Job, sha256: str) -> str:
    if job.image_id is not None:
        return keys.enhanced_key(job.user_id, job.image_id, job.id, sha256)
    if job.purpose is Purpose.GENERATE:
        return keys.generated_key(job.user_id, job.id, sha256)
    return keys.modified_key(job.user_id, job.id, sha256)
