"""GENERATING: have the picture made, and store it under a key that contains its hash."""

import hashlib

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from pipelines import keys
from pipelines.errors import BadImageError, BrokenAnswerError, StorageUnavailableError
from pipelines.imaging.encode import JPEG_CONTENT_TYPE
from pipelines.imaging.finishing import FinishedImage, finish, finished
from pipelines.imaging.geometry import fit_long_side
from pipelines.imaging.header import BYTES_PER_PIXEL, read_header
from pipelines.imaging.orientation import oriented_size
from pipelines.job import Generated, Job, Prompt
from pipelines.prompts import ALL_CORRECTIONS, Purpose, prompt_text
from pipelines.providers.provider import Answer, EncodedImage
from pipelines.stage import StageContext
from pipelines.stages.objects import read_input, read_references, read_source

log = structlog.get_logger(__name__)

UPLOAD_WAIT = wait_random_exponential(multiplier=0.5, max=10)
"""Between uploads of a picture that is made already: full jitter, so that a storage that comes back isn't flooded."""


async def generate(context: StageContext) -> Generated:
    """Return the finished picture: exactly the tier's long side, with the aspect of what was kept, stored.

    Raises:
        StageError: an object is missing, a picture is refused, the provider or the storage failed.
    """
    job = context.job
    prompt = context.outputs.prompt or Prompt.of_job(
        prompt_text(job.purpose, None, job.options, job.prompt), ALL_CORRECTIONS, job
    )
    images, width_px, height_px = await _pictures(context)
    aspect = width_px / height_px
    answer = await context.provider.generate(prompt, images, job.tier.long_side_px, aspect)
    picture = await _finish(context, answer, width_px, height_px)
    sha256 = hashlib.sha256(picture.data).hexdigest()
    key = _key(job, sha256)
    await _upload(context, key, picture.data, sha256)
    return Generated(
        key=key,
        url=context.storage.url(key),
        width_px=picture.width_px,
        height_px=picture.height_px,
        size_bytes=len(picture.data),
        sha256=sha256,
        model=answer.model,
        temperature=answer.temperature if answer.temperature is not None else job.options.generation.temperature or 0.0,
        treatments=answer.notes,
    )


async def _upload(context: StageContext, key: str, data: bytes, sha256: str) -> None:
    """Store the picture, however often it takes: it is paid for. The stage's deadline ends the trying."""

    def report(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        log.warning("upload_failed", tries=state.attempt_number, error=str(error))

    retrying = AsyncRetrying(
        retry=retry_if_exception_type(StorageUnavailableError), wait=UPLOAD_WAIT, before_sleep=report, reraise=True
    )
    await retrying(context.storage.put, key, data, JPEG_CONTENT_TYPE, sha256)


async def _pictures(context: StageContext) -> tuple[list[EncodedImage], int, int]:
    """Return the pictures to work on, and the width and height in pixels that the result is to have."""
    long_side_px = context.job.tier.long_side_px
    if context.job.purpose is Purpose.GENERATE:
        return [], *_size_of_aspect(context.job.aspect or 1.0, long_side_px)
    data = await read_input(context)
    box = context.outputs.crop.box if context.outputs.crop else None
    size = (box.width, box.height) if box else await context.pixels.run(oriented_size, data, context.limits)
    images = [EncodedImage(data, box)]
    if (source := await read_source(context)) is not None:
        images.append(EncodedImage(source))
    if context.provider.is_paid:  # the local engine has no use for them
        images += [EncodedImage(reference) for reference in await read_references(context)]
    return images, *fit_long_side(*size, long_side_px)


def _size_of_aspect(aspect: float, long_side_px: int) -> tuple[int, int]:
    """Return width and height in pixels with this long side and this width / height, each at least 1."""
    width, height = (1.0, 1 / aspect) if aspect >= 1 else (aspect, 1.0)
    return max(1, round(width * long_side_px)), max(1, round(height * long_side_px))


async def _finish(context: StageContext, answer: Answer[EncodedImage], width_px: int, height_px: int) -> FinishedImage:
    """Pass an answer through the door; a provider's broken picture isn't the user's fault."""
    image = answer.value
    if image.is_finished:
        return finished(image.data, context.limits)
    try:
        decoded_bytes = read_header(image.data, context.limits).decoded_bytes
        task_bytes = decoded_bytes + 2 * BYTES_PER_PIXEL * width_px * height_px
        return await context.pixels.run(finish, image.data, context.limits, width_px, height_px, task_bytes=task_bytes)
    except BadImageError as error:
        raise BrokenAnswerError(f"{answer.model} answered with no usable picture: {error}") from error


def _key(job: Job, sha256: str) -> str:
    if job.image_id is not None:
        return keys.enhanced_key(job.user_id, job.image_id, job.id, sha256)
    if job.purpose is Purpose.MODIFY:
        return keys.modified_key(job.user_id, job.id, sha256)
    return keys.generated_key(job.user_id, job.id, sha256)
