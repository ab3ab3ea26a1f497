"""Submitting jobs from Python, through the same SQL functions that producers in any language call."""

import contextlib
import hashlib
import uuid
from dataclasses import dataclass

from config.tiers import Tier
from models.connections import Connection
from models.history.objects import INPUT, ORIGINAL
from models.queue import submission
from models.queue.pipelines import default_tier, wished_model
from models.queue.submission import (
    Enhancement,
    Generation,
    PictureRow,
    delete_picture,
    first_aspect,
    insert_picture,
    set_aspect,
)
from pipelines import keys
from pipelines.errors import BadImageError, InvalidOptionsError, StageError
from pipelines.imaging.header import read_header
from pipelines.limits import upload_limits
from pipelines.providers.catalogue import ModelCatalogue
from pipelines.providers.terms import model_terms
from pipelines.requests import aspect_of
from pipelines.settings import Settings
from workers.objects import recorded_storage, take_back
from workers.operations.errors import InvalidInputError, OperationError, translated
from workers.operations.models import require_known_models_of
from workers.process.runtime import Runtime


class StorageRefusedError(OperationError):
    """Raised when the storage couldn't store or return a picture; no job was submitted."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded picture whose header was checked: its format and size are ones that workers accept."""

    name: str
    data: bytes
    format: str
    width_px: int
    height_px: int

    @property
    def content_type(self) -> str:
        """The picture's media type, such as `image/jpeg`."""
        return f"image/{self.format}"


def new_id() -> str:
    """Return a new id in the form of the application's own: `c` and 24 characters."""
    return "c" + uuid.uuid4().hex[:24]


def check_picture(name: str, data: bytes, settings: Settings) -> Picture:
    """Check a picture's header, so that what no worker would accept is refused before anything is stored or charged.

    Raises:
        InvalidInputError: the message names the limit and the value found.
    """
    try:
        header = read_header(data, upload_limits(settings))
    except BadImageError as error:
        raise InvalidInputError(str(error)) from error
    return Picture(name, data, header.format.lower(), header.width_px, header.height_px)


async def store_picture(runtime: Runtime, user_id: str, picture: Picture, *, image_id: str | None = None) -> str:
    """Store a picture and then insert its row, so that every row has its object; return the row's id.

    `image_id` is an id of `new_id`; None makes a new one.

    Raises:
        NotFoundError: the user doesn't exist.
        StorageRefusedError: the object wasn't stored.
    """
    image_id = image_id or new_id()
    key = keys.original_key(user_id, image_id, keys.extension_of(picture.content_type))
    try:
        await _put(runtime, key, picture, job_type=ORIGINAL, job_id=image_id)
    except StageError as error:
        raise StorageRefusedError(f"{error}; check STORAGE_URL, or run `darkroom doctor`") from error
    row = PictureRow(
        *(image_id, user_id, picture.name, runtime.storage.url(key), key),
        width_px=picture.width_px,
        height_px=picture.height_px,
        size_bytes=len(picture.data),
        format=picture.format,
    )
    try:
        with translated():
            await runtime.database.commit("insert_picture", lambda connection: insert_picture(connection, row))
    except OperationError:
        await _delete_object(runtime, key)
        raise
    return image_id


async def submit_picture(runtime: Runtime, picture: Picture, job: Enhancement) -> str:
    """Store a picture and submit its job; return the job's id. If the job is refused, the picture is removed again.

    Args:
        runtime: an open runtime.
        picture: the picture, which is stored for the job's user.
        job: the job, whose `image_id` the picture gets: an id of `new_id`.

    Raises:
        OperationError: as `store_picture` and `submit_enhancement` raise.
    """
    await store_picture(runtime, job.user_id, picture, image_id=job.image_id)
    try:
        return await submit_enhancement(runtime, job)
    except OperationError:
        await remove_picture(runtime, job.image_id)
        raise


async def remove_picture(runtime: Runtime, image_id: str) -> None:
    """Delete a picture's row, with its jobs, and then its object."""
    key = await runtime.database.commit("delete_picture", lambda connection: delete_picture(connection, image_id))
    if key is not None:
        await _delete_object(runtime, key)


async def submit_enhancement(runtime: Runtime, job: Enhancement) -> str:
    """Submit a job for a stored picture, and wake workers; return the job's id, the same for the same idempotency key.

    Raises:
        InvalidInputError: the pipeline breaks a rule or names an unknown model, an id is too long, the key
            was used with other arguments, or by setting no model makes the tier's size.
        NotFoundError: user, picture or pipeline doesn't exist.
        NotYoursError: picture or pipeline is another user's and not public, or the share token is wrong.
        PaymentRefusedError: the user has too few tokens.
    """
    if job.pipeline_id is not None:
        await require_known_models_of(runtime, job.pipeline_id)
    if runtime.settings.over_size == "refuse":
        database, place = runtime.database, (job.pipeline_id, job.user_id, job.image_id)
        wished = await database.run(lambda connection: wished_model(connection, *place))
        tier = job.tier
        if tier is None:
            tier = await database.run(lambda connection: default_tier(connection, *place))
        _require_size(runtime.settings, wished, tier, is_of_words=False)

    with translated():
        job_id = await runtime.database.commit(
            "submit", lambda connection: submission.submit_enhancement(connection, job)
        )
    await runtime.wake()
    return job_id


async def store_input(runtime: Runtime, user_id: str, picture: Picture) -> str:
    """Store the picture that a MODIFY job will change; return its key.

    Raises:
        StorageRefusedError: the object wasn't stored.
    """
    input_id = new_id()
    key = keys.input_key(user_id, input_id, keys.extension_of(picture.content_type))
    try:
        await _put(runtime, key, picture, job_type=INPUT, job_id=input_id)
    except StageError as error:
        raise StorageRefusedError(f"{error}; check STORAGE_URL, or run `darkroom doctor`") from error
    return key


async def submit_generation(runtime: Runtime, job: Generation) -> str:
    """Submit a job that makes or changes a picture by words, and wake workers; return the job's id.

    Raises:
        InvalidInputError: the prompt is empty, too long or contains NUL, which PostgreSQL can't store; the input is
            missing or can't be read; the aspect isn't W:H; the key was used with other arguments; or by setting no
            model makes the tier's size.
        NotFoundError: user or API key doesn't exist.
        NotYoursError: the API key or the input is another user's, or the user's plan has no API access.
        PaymentRefusedError: the user has too few tokens.
    """
    if "\0" in job.prompt:
        raise InvalidInputError("the prompt holds a NUL character; remove it")
    try:
        aspect_of(job.aspect)
    except InvalidOptionsError as error:
        raise InvalidInputError(str(error)) from error
    if runtime.settings.over_size == "refuse":
        _require_size(runtime.settings, None, job.tier, is_of_words=True)

    async def submit(connection: Connection) -> str:
        async with connection.transaction():
            job_id = await submission.submit_generation(connection, job)
            first = await first_aspect(connection, job)
            if first is not None and first != (job.aspect or ""):
                raise InvalidInputError(
                    f"idempotency key {job.idempotency_key} was used for job {job_id} with another aspect"
                )
            if job.aspect is not None:
                await set_aspect(connection, job_id, job.aspect)
        return job_id

    with translated():
        job_id = await runtime.database.commit("submit", submit)
    await runtime.wake()
    return job_id


async def read_result(runtime: Runtime, key: str) -> bytes:
    """Read a finished job's picture.

    Raises:
        StorageRefusedError: it doesn't exist, or the storage doesn't answer.
    """
    try:
        return await runtime.storage.get(key)
    except StageError as error:
        raise StorageRefusedError(f"{error}; check STORAGE_URL, or run `darkroom doctor`") from error


def _require_size(settings: Settings, wished: str | None, tier: str, *, is_of_words: bool) -> None:
    """Refuse a tier whose result would have to be enlarged, if DARKROOM_OVER_SIZE says so.

    Raises:
        InvalidInputError: the message says which model makes which size.
    """
    catalogue = ModelCatalogue(model_terms(settings))
    if reason := catalogue.size_refusal(wished, Tier(tier).long_side_px, is_of_words=is_of_words):
        raise InvalidInputError(reason)


async def _put(runtime: Runtime, key: str, picture: Picture, *, job_type: str, job_id: str) -> None:
    storage = recorded_storage(runtime.storage, runtime.database, job_type=job_type, job_id=job_id)
    await storage.put(key, picture.data, picture.content_type, hashlib.sha256(picture.data).hexdigest())


async def _delete_object(runtime: Runtime, key: str) -> None:
    with contextlib.suppress(StageError):  # the orphan is found later; the caller must get the refusal
        await take_back(runtime.storage, runtime.database, key)
