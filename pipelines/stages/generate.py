"""Stage GENERATING: lets a provider make the pictures, and stores each under a key that contains its hash."""

import hashlib
from dataclasses import replace

from config.values import value
from pipelines.analysis import Analysis
from pipelines.corrections import ALL_CORRECTIONS
from pipelines.errors import BadImageError, BrokenAnswerError
from pipelines.imaging.answers import FinishedImage, finished
from pipelines.imaging.budget import Held
from pipelines.imaging.geometry import fit_long_side
from pipelines.imaging.header import BYTES_PER_PIXEL, read_header
from pipelines.job import Crop, Generated, Prompt, PromptText
from pipelines.pixel_functions import finishing
from pipelines.prompts import Purpose, corrections, prompt_text
from pipelines.providers.calls import Answer
from pipelines.providers.provider import EncodedImage
from pipelines.providers.seen import seen
from pipelines.stage_context import StageContext
from pipelines.stages.objects import read_input, read_more, read_references, read_source, room_for, size_of
from pipelines.stages.results import hash_of, is_stored, reuse, store


@value
class _Order:
    """What is asked for: the prompt, the pictures to work on, and the size of each result."""

    prompt: Prompt
    images: list[EncodedImage]
    width_px: int
    height_px: int


async def generate(context: StageContext) -> Generated:
    """Return the finished and stored picture: with exactly the tier's long side, and the aspect of what the crop kept.

    Of several pictures it is the last: they are made one after the other, and each of the others is recorded before the
    next one is bought. One that is recorded, and still stored, isn't made again.

    Raises:
        StageError: an object is missing, a picture is refused, the provider or the storage failed.
    """
    job = context.job
    numbers = range(1, job.count + 1)
    kept = {**context.recorded, **({} if context.earlier is None else {job.count: context.earlier})}
    made = {
        number: kept[number] for number in numbers if number in kept and await is_stored(context.storage, kept[number])
    }
    if len(made) == job.count:
        return made[job.count]
    sources = (job.input_key or job.input_url, job.source_key, *job.more_keys)
    pictures = sum(map(bool, sources)) + len(job.options.prompt.reference_images)
    async with room_for(context, pictures) as room:
        order = await _ordered(context, room)
        for number in numbers:
            if number not in made:
                made[number] = await _make(context, order, number)
                if number < job.count:
                    await context.record(number, made[number])
                    context.recorded[number] = made[number]
    return made[job.count]


async def _ordered(context: StageContext, room: Held) -> _Order:
    """Read the job's pictures into the room that is held for them."""
    prompt = _prompt(context)
    images, width_px, height_px = await _pictures(context)
    room.shrink(sum(len(image.data) for image in images))
    return _Order(prompt, images, width_px, height_px)


async def _make(context: StageContext, order: _Order, number: int) -> Generated:
    """Return one of the job's pictures: an earlier one with the same input hash, or else a new one.

    The returned picture is stored.
    """
    job, images, width_px, height_px = context.job, order.images, order.width_px, order.height_px
    prompt = order.prompt if number == 1 else replace(order.prompt, number=number)
    input_hash = hash_of(context, prompt, images, width_px, height_px, number=number)
    if (again := await reuse(context, input_hash, number)) is not None:
        return again
    aspect = width_px / height_px
    async with context.bought(input_hash) as earlier:
        answer = earlier or await context.provider.generate(prompt, images, job.tier.long_side_px, aspect)
        # Its provider has looked at it, unless an earlier run was cut off before that
        answer = await seen(answer, job.tier.long_side_px, context.pixels, context.answer_limits)
        picture = await _finish(context, answer, width_px, height_px)
    sha256 = hashlib.sha256(picture.data).hexdigest()
    key = await store(context, picture.data, sha256, number)
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
        input_hash=input_hash,
    )


def _prompt(context: StageContext) -> Prompt:
    """Return the prompt for the provider. Its text and its corrections come from the same analysis.

    A job without a prompt stage uses the user's own words, and allows every correction.
    """
    job, written = context.job, context.output(PromptText)
    if written is None:
        text = prompt_text(job.purpose, None, job.options, job.prompt, 1 + len(job.more_keys))
        return Prompt.of_job(text, ALL_CORRECTIONS, job)
    return Prompt.of_job(written.text, corrections(context.output(Analysis), job.options.prompt), job)


async def _pictures(context: StageContext) -> tuple[list[EncodedImage], int, int]:
    """Return the pictures to work on, and the width and height in pixels that the result must have."""
    long_side_px = context.job.tier.long_side_px
    if context.job.purpose is Purpose.GENERATE:
        return [], *_size_of_aspect(context.job.aspect or 1.0, long_side_px)
    data = await read_input(context)
    box = crop.box if (crop := context.output(Crop)) else None
    size = whole = await size_of(context, data)
    if box is not None:
        if box.right > whole[0] or box.bottom > whole[1]:
            place = f"{box.x}, {box.y}, {box.width} x {box.height}"
            raise BadImageError(f"cropDimensions {place} lies outside of the picture of {whole[0]} x {whole[1]} pixels")
        size = (box.width, box.height)
    images = [EncodedImage(data, box), *(EncodedImage(more) for more in await read_more(context))]
    if (source := await read_source(context)) is not None:
        images.append(EncodedImage(source))
    if context.provider.is_paid:  # the local engine doesn't use them
        images += [EncodedImage(reference) for reference in await read_references(context)]
    if (aspect := context.job.aspect) is not None:
        return images, *_size_of_aspect(aspect, long_side_px)
    return images, *fit_long_side(*size, long_side_px)


def _size_of_aspect(aspect: float, long_side_px: int) -> tuple[int, int]:
    """Return width and height in pixels with this long side and this width / height, each at least 1."""
    width, height = (1.0, 1 / aspect) if aspect >= 1 else (aspect, 1.0)
    return max(1, round(width * long_side_px)), max(1, round(height * long_side_px))


async def _finish(context: StageContext, answer: Answer[EncodedImage], width_px: int, height_px: int) -> FinishedImage:
    """Decode and finish an answer.

    If the provider's picture is broken, the error says that the provider failed, and not that the user's picture did.
    """
    image = answer.value
    if image.is_finished:
        made = finished(image.data)
        if not context.job.is_reshaped or (made.width_px, made.height_px) == (width_px, height_px):
            return made
    try:
        decoded_bytes = read_header(image.data, context.answer_limits).decoded_bytes
        task_bytes = decoded_bytes + 2 * BYTES_PER_PIXEL * width_px * height_px
        return await context.pixels.run(
            finishing.finish, image.data, context.answer_limits, width_px, height_px, task_bytes=task_bytes
        )
    except BadImageError as error:
        raise BrokenAnswerError(f"{answer.model} answered with no usable picture: {error}") from error
