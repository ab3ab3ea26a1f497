"""The look at a picture that a provider has sent, before it is taken for what was asked for."""

from dataclasses import replace

from pipelines.imaging.header import DecodeLimits
from pipelines.imaging.pool import PixelPool
from pipelines.providers.asked import Asked
from pipelines.providers.calls import Answer
from pipelines.providers.provider import EncodedImage


async def seen(
    answer: Answer[EncodedImage], long_side_px: int, pixels: PixelPool, limits: DecodeLimits
) -> Answer[EncodedImage]:
    """Compare the picture of an answer with what was asked for, unless it was; return the answer with notes about it.

    Args:
        answer: as it came.
        long_side_px: the tier's long side.
        pixels: decodes the picture.
        limits: those of providers' answers.

    Raises:
        MissedRequestError: it isn't what was asked for, or exceeds the limits.
        BrokenAnswerError: it isn't a picture that can be decoded.
    """
    if answer.unseen is None:
        return answer
    asked = Asked(**answer.unseen)
    came = await asked.require_picture(answer.value.data, pixels, limits)
    return replace(answer, notes=asked.notes(came, long_side_px), unseen=None)
