"""Finished pictures: storing one, finding it after a crash, and reusing an earlier one of the same hash."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from config.logger import EventLogger
from pipelines import keys
from pipelines.errors import BadImageError, MissingObjectError, StorageUnavailableError
from pipelines.job import OWN_APPLICATION, Generated, Job, Prompt
from pipelines.prompts import Purpose
from pipelines.providers.provider import EncodedImage
from pipelines.stage_context import StageContext
from pipelines.storage.storage import Storage

log = EventLogger(__name__)

JPEG_CONTENT_TYPE = "image/jpeg"

UPLOAD_WAIT = wait_random_exponential(multiplier=0.5, max=10)
"""Wait between tries to upload a finished picture, with full jitter, so as not to overload a storage that recovers."""


def hash_of(
    context: StageContext,
    prompt: Prompt,
    images: Sequence[EncodedImage],
    width_px: int,
    height_px: int,
    *,
    number: int = 1,
) -> str:
    """Return the hash of all that a picture depends on: whoever has the same hash asks for the same picture.

    Args:
        context: the job, its tier, pipeline and words, and the providers and models that are configured.
        prompt: what the provider is told to do. Its text has no words of an analysis, so two analyses that find the
            same defects have the same text.
        images: the pictures to work on, each with the part that the crop keeps.
        width_px: width of the result.
        height_px: height of the result.
        number: which of the job's pictures it is. The first has the hash of a job that makes only one.
    """
    job = context.job
    asked: dict[str, Any] = {
        "job_type": job.job_type,
        "tier": job.tier,
        "options": job.options.values,
        "prompt": job.prompt,
        "aspect": job.aspect,
        "maker": context.provider_identity,
        "text": prompt.text,
        "corrections": [sorted(prompt.corrections.allowed), sorted(prompt.corrections.forced)],
        "pictures": [(image.sha256.hex(), repr(image.box)) for image in images],
        "size": (width_px, height_px),
    }
    if number > 1:
        asked["number"] = number
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()


async def store(context: StageContext, data: bytes, sha256: str, number: int = 1) -> str:
    """Store a picture, one of the job's by its number from 1, and return its key."""
    key = _key(context.job, sha256, number)
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


async def reuse(context: StageContext, input_hash: str, number: int = 1) -> Generated | None:
    """Return a copy, under this job's key, of the user's earlier picture with the same hash; None if there is none.

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
    key = await store(context, data, earlier.sha256, number)
    log.info("result_reused", earlier_key=earlier.key)
    return replace(earlier, key=key, url=context.storage.url(key), input_hash=input_hash)


def _key(job: Job, sha256: str, number: int) -> str:
    if job.application != OWN_APPLICATION:
        return keys.result_key(job.application, job.user_id, job.id, number, sha256)
    if job.image_id is not None:
        return keys.enhanced_key(job.user_id, job.image_id, job.id, sha256)
    if job.purpose is Purpose.GENERATE:
        return keys.generated_key(job.user_id, job.id, sha256)
    return keys.modified_key(job.user_id, job.id, sha256)
