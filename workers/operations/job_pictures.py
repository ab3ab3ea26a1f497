"""The pictures of a job for people: its inputs and its results, decoded like any untrusted picture and made anew."""

import asyncio
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from models.connections import Connection
from models.job_tables.inputs import JobInputs
from models.queue.job_pictures import job_inputs, result_keys
from models.queue.job_rows import read_jobs
from pipelines import keys
from pipelines.errors import BadImageError, InvalidOptionsError, MissingObjectError, StageError
from pipelines.fetching import PictureFetcher
from pipelines.imaging.header import DecodeLimits, read_header
from pipelines.imaging.pool import PixelPool
from pipelines.limits import answer_limits, upload_limits
from pipelines.pixel_functions import preview
from pipelines.public_client import FetchRefusedError
from workers.operations.errors import NotFoundError, OperationError, translated
from workers.operations.jobs import job_not_found
from workers.process.runtime import Runtime

LONG_SIDE_PX: Final = 1600
MOST_AT_ONCE: Final = 4
"""So many pictures are read from the storage and decoded at once."""

MOST_FETCHED: Final = 2
"""So many are fetched at once by URLs, whose servers may be slow."""

Side: TypeAlias = Literal["before", "after"]


class NoPictureError(OperationError):
    """Raised when an object is no picture, or one that is refused; the message says why."""


class PictureUnavailableError(OperationError):
    """Raised when a picture can't be read now; another try may succeed."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a picture is: the key of its object, or else its URL."""

    key: str | None
    url: str | None = None


class PicturePreviews:
    """Makes pictures of jobs for people, in pixel children of its own; one for a process."""

    def __init__(self, runtime: Runtime, pixels: PixelPool) -> None:
        """Prepare it; `pixels` is its own from now on, and starts nothing before the first picture is asked for."""
        self._runtime = runtime
        self._pixels = pixels
        self._turns = asyncio.Semaphore(MOST_AT_ONCE)
        self._fetches = asyncio.Semaphore(MOST_FETCHED)
        self._fetcher = PictureFetcher(allow_loopback=runtime.settings.fetch_allow_loopback)

    async def aclose(self) -> None:
        """End the pixel children. Idempotent."""
        await self._pixels.close()

    async def picture(self, name: str, side: Side, number: int = 1) -> bytes:
        """Return a picture of a job as a JPEG of at most LONG_SIDE_PX, without metadata.

        Args:
            name: the job's id or TABLE/ID.
            side: `before` for what it works on, `after` for what it has made.
            number: which of them, from 1.

        Raises:
            InvalidInputError: the id stands in several tables.
            NotFoundError: there is no such job, it has no such picture, or its object is gone.
            NoPictureError: the object is no picture that the limits allow.
            PictureUnavailableError: the storage doesn't answer, or the pixel child was lost.
        """
        with translated():
            places = await self._runtime.database.run(lambda connection: _places(connection, name, side))
        if not 1 <= number <= len(places):
            raise NotFoundError(f"job {name} has no such picture")
        settings = self._runtime.settings
        limits = upload_limits(settings) if side == "before" else answer_limits(settings)
        place = places[number - 1]
        async with self._turns if place.key is not None else self._fetches:
            try:
                data = await self._read(place, limits)
                header = read_header(data, limits)
                shown: bytes = await self._pixels.run(
                    preview.preview, data, limits, LONG_SIDE_PX, task_bytes=header.decoded_bytes
                )
            except BadImageError as error:
                raise NoPictureError(str(error)) from error
            except (MissingObjectError, InvalidOptionsError, FetchRefusedError) as error:
                raise NotFoundError(str(error)) from error
            except StageError as error:
                raise PictureUnavailableError(str(error)) from error
        return shown

    async def _read(self, place: _Place, limits: DecodeLimits) -> bytes:
        if place.key is not None:
            key = keys.check_readable(place.key, "its key")
            return await self._runtime.storage.get(key, max_bytes=limits.max_bytes)
        if place.url is None:
            raise MissingObjectError("the job's row names no picture")
        return await self._fetcher.fetch(place.url, max_bytes=limits.max_bytes)


def input_number(inputs: JobInputs | None) -> int:
    """Return how many pictures a job works on."""
    return len(_of_inputs(inputs))


async def _places(connection: Connection, name: str, side: Side) -> list[_Place]:
    jobs = await read_jobs(connection, [name])
    if not jobs:
        raise job_not_found(name)
    if side == "after":
        return [_Place(key) for key in await result_keys(connection, jobs[0])]
    return _of_inputs(await job_inputs(connection, jobs[0]))


def _of_inputs(inputs: JobInputs | None) -> list[_Place]:
    if inputs is None:
        return []
    places = [_Place(one.key) for one in (inputs.picture, inputs.source) if one is not None]
    if inputs.input_key is not None or inputs.input_url is not None:
        places.append(_Place(inputs.input_key, inputs.input_url))
    return [*places, *(_Place(key) for key in inputs.pictures if key)]
