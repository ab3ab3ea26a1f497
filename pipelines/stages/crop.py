"""CROPPING: decide which part of the original to keep, to the pixel."""

from pipelines.imaging.geometry import CropSuggestion, CropTooSmallError, PixelBox, crop_box
from pipelines.imaging.orientation import oriented_size
from pipelines.job import Crop
from pipelines.stage import StageContext
from pipelines.stages.objects import read_input, room_for


async def crop(context: StageContext) -> Crop:
    """Return the part to keep.

    Nothing is cropped if nobody suggests it, if the pipeline doesn't want it,
    or if it would take away less than the pipeline's minimum.

    Raises:
        StageError: the object is missing or the picture is refused.
    """
    analysis, options = context.outputs.analysis, context.job.options.auto_crop
    if analysis is None or not options.is_enabled or not analysis.cropping.is_cropping_needed:
        return Crop(was_cropped=False)
    suggested = analysis.cropping.suggested_crop
    if not _is_wanted(analysis.cropping.crop_reason, context) or 1 - suggested.area_fraction < options.min_crop_ratio:
        return Crop(was_cropped=False)
    async with room_for(context, 1) as room:
        data = await read_input(context)
        room.shrink(len(data))
        width_px, height_px = await context.pixels.run(oriented_size, data, context.limits)
    suggestion = CropSuggestion(suggested.x, suggested.y, suggested.width, suggested.height)
    try:
        box = crop_box(suggestion, width_px, height_px)
    except CropTooSmallError:
        return Crop(was_cropped=False)  # a wild suggestion is no reason to fail a job
    if box == PixelBox(0, 0, width_px, height_px):
        return Crop(was_cropped=False)
    return Crop(was_cropped=True, box=box)


def _is_wanted(reason: str | None, context: StageContext) -> bool:
    """Say whether the pipeline allows a crop for this reason; bars are told from parts of a user interface."""
    options, words = context.job.options.auto_crop, (reason or "").lower()
    if "bar" in words:
        return options.allow_black_bar_removal
    if "interface" in words or "ui " in words:
        return options.allow_ui_element_crop
    return True
