"""Stage ANALYZING: finds what is in the original and what is wrong with it."""

from pipelines.analysis import Analysis
from pipelines.imaging.header import read_header
from pipelines.job import Job
from pipelines.prompts import Purpose, corrections
from pipelines.providers.provider import EncodedImage
from pipelines.stage_context import StageContext
from pipelines.stages.objects import read_input, room_for


async def analyze(context: StageContext) -> Analysis | None:
    """Return the original's analysis; None if the pipeline switched analyses off.

    The original is read in both cases, so that bytes that aren't a picture are refused here.

    Raises:
        StageError: the object is missing, the picture is refused, or the provider failed.
    """
    async with room_for(context, 1) as room:
        data = await read_input(context)
        room.shrink(len(data))
        read_header(data, context.limits)
        if not context.job.options.analysis.is_enabled:
            return None
        image = EncodedImage(data, result_side_px=_plain_side_px(context.job))
        answer = await context.provider.analyze(image, context.job.options.analysis)
        return answer.value


def _plain_side_px(job: Job) -> int | None:
    """Return the long side of a job's result if that of a sound picture is only resized; None if it is changed."""
    is_changed = job.purpose is not Purpose.ENHANCE or corrections(None, job.options.prompt).forced
    return None if is_changed else job.tier.long_side_px
