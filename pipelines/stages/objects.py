"""Reading of the objects that a job names, when stages need them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from pipelines import keys
from pipelines.errors import MissingObjectError, StorageUnavailableError
from pipelines.imaging.budget import Held
from pipelines.imaging.header import unturned_size
from pipelines.pixel_functions import orientation
from pipelines.stage_context import StageContext

READ_WAIT = wait_random_exponential(multiplier=0.5, max=5)
READ_STOP = stop_after_delay(30)
"""How long reading is repeated: a storage that is unreachable for some seconds costs no job an attempt."""


@asynccontextmanager
async def room_for(context: StageContext, pictures: int) -> AsyncIterator[Held]:
    """Wait until the process has room in memory for so many pictures, each counted with the largest allowed size.

    A stage asks for the room of all its pictures at once; otherwise two jobs could wait for each other's second
    picture.
    """
    async with context.inputs.hold(pictures * context.limits.max_bytes) as held:
        yield held


async def read_input(context: StageContext) -> bytes:
    """Return the bytes of the job's own picture: of its object, or of its URL if it has no key.

    Raises:
        FetchRefusedError: the URL leads to a private address, or its answer is final.
        FetchFailedError: the URL can't be reached now.
        MissingObjectError: the job names no picture, or its object doesn't exist; the message has the key.
        InvalidOptionsError: the row's key isn't valid.
        BadImageError: the picture has more bytes than the limit.
        StorageUnavailableError: the storage failed.
    """
    job = context.job
    if job.input_key is None and job.input_url is not None:
        return await context.fetcher.fetch(job.input_url, max_bytes=context.limits.max_bytes)
    return await _read(context, job.input_key, "its input key" if job.image_id is None else "originalR2Key")


async def size_of(context: StageContext, data: bytes) -> tuple[int, int]:
    """Return width and height in pixels of a picture as it is looked at, without decoding pixels.

    Raises:
        BadImageError: the picture is refused.
    """
    if (size := unturned_size(data, context.limits)) is not None:
        return size
    return await context.pixels.run(orientation.oriented_size, data, context.limits)


async def read_source(context: StageContext) -> bytes | None:
    """Return the bytes of a blend's second picture; None if the job has none. Raises as `read_input` does."""
    if context.job.source_key is None:
        return None
    return await _read(context, context.job.source_key, "the source picture's originalR2Key")


async def read_more(context: StageContext) -> list[bytes]:
    """Return the bytes of the pictures that a job works on beside its first one. Raises as `read_input` does."""
    return [
        await _read(context, key, f"the key of input picture {number}")
        for number, key in enumerate(context.job.more_keys, 2)
    ]


async def read_references(context: StageContext) -> list[bytes]:
    """Return the bytes of the pipeline's reference pictures; raises what `read_input` raises.

    A picture that has a key is read from the storage; one that has only a URL is fetched.
    """
    pictures = []
    for number, reference in enumerate(context.job.options.prompt.reference_images):
        column = f"promptConfig.referenceImages[{number}]"
        if reference.r2_key:
            pictures.append(await _read(context, reference.r2_key, f"{column}.r2Key"))
        elif reference.url:
            max_bytes = context.limits.max_bytes
            pictures.append(await context.fetcher.fetch(reference.url, max_bytes=max_bytes, column=f"{column}.url"))
    return pictures


async def _read(context: StageContext, key: str | None, column: str) -> bytes:
    if key is None:
        raise MissingObjectError(f"the job has no picture: {column} is empty")
    key = keys.check_readable(key, column)
    retrying = AsyncRetrying(
        retry=retry_if_exception_type(StorageUnavailableError), wait=READ_WAIT, stop=READ_STOP, reraise=True
    )
    data: bytes = await retrying(context.storage.get, key, max_bytes=context.limits.max_bytes)
    return data
