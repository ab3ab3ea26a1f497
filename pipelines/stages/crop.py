"""Stage CROPPING: decides which part of the original to keep, in whole pixels."""

import re
from typing import Final

from pipelines.analysis import Analysis
from pipelines.cropping import crop_box
from pipelines.errors import CropTooSmallError
from pipelines.imaging.geometry import PixelBox
from pipelines.job import Crop
from pipelines.options import AutoCropOptions
from pipelines.pixel_functions import work
from pipelines.stage_context import StageContext
from pipelines.stages.objects import read_input, room_for, size_of

BAR_TOLERANCE_FRACTION: Final = 0.02
"""How much more than a black bar, as a fraction of the side, a crop may remove and still count as the bar's removal."""

_SAYS_BLACK: Final = re.compile(
    r"\b(black|dark)\b.*\b(bar|bars|border|borders|strip|strips|band|bands)\b|\b(letter|pillar)-?box"
)
_SAYS_INTERFACE: Final = re.compile(
    r"bars?\b|\b(ui|interface|window|browser|screen\w*|desktop|app|apps|application|web|page|menu|button|icon|tab|panel|"
    r"toolbox|dock|cursor|header|footer|keyboard|phone|overlay|notification|dialog|widget|control|caption|player|"
    r"nav\w*|hud|ribbon|title|status|chrome|banner|ticker|watermark|logo|stamp|timestamp|subtitle|text|label|tooltip|popup|"
    r"modal|tray|scroll\w*|element)s?\b"
)
_SAYS_PICTURE: Final = re.compile(
    r"\b(border|margin|frame|edge|corner|background|wall|sky|floor|space|subject|horizon|composition|framing|vignette)s?\b"
)
"""Words in a model's reason, a free text, that are about a picture and not about a program's window."""


async def crop(context: StageContext) -> Crop:
    """Return the part to keep.

    Nothing is cropped if no crop is suggested, if the pipeline forbids the crop,
    or if the crop would remove less than the pipeline's minimum.

    Raises:
        StageError: the object is missing or the picture is refused.
    """
    analysis, options = context.output(Analysis), context.job.options.auto_crop
    if analysis is None or not options.is_enabled or not analysis.cropping.is_cropping_needed:
        return Crop(was_cropped=False)
    suggested = analysis.cropping.suggested_crop
    if 1 - suggested.area_fraction < options.min_crop_ratio:
        return Crop(was_cropped=False)
    takes_all = options.allow_black_bar_removal and options.allow_ui_element_crop
    async with room_for(context, 1) as room:
        data = await read_input(context)
        room.shrink(len(data))
        width_px, height_px = await size_of(context, data)
        between_bars = None if takes_all else await context.pixels.run(work.box_between_bars, data, context.limits)
    try:
        box = crop_box(suggested, width_px, height_px)
    except CropTooSmallError:
        return Crop(was_cropped=False)  # an unusable suggestion is no reason to fail a job
    if box == PixelBox(0, 0, width_px, height_px):
        return Crop(was_cropped=False)
    whole = PixelBox(0, 0, width_px, height_px)
    if not takes_all and not _is_allowed(box, between_bars or whole, whole, analysis.cropping.crop_reason, options):
        return Crop(was_cropped=False)
    return Crop(was_cropped=True, box=box)


def _is_allowed(
    kept: PixelBox, between_bars: PixelBox, whole: PixelBox, reason: str | None, options: AutoCropOptions
) -> bool:
    """Return whether the pipeline allows what a crop removes: bars always, other parts depending on the crop's reason.

    If the pipeline keeps parts of a user interface, a crop that removes more than measured bars needs a reason that is
    about the picture: what a model calls a bar, or can't name, may be a part of the interface.
    """
    if not options.allow_black_bar_removal and _takes_bars(kept, between_bars, whole):
        return False
    if _is_within_bars(kept, between_bars, whole):
        return True
    words = (reason or "").lower()
    if not options.allow_black_bar_removal and _SAYS_BLACK.search(words):
        return False
    is_of_picture = _SAYS_PICTURE.search(words) is not None and _SAYS_INTERFACE.search(words) is None
    return options.allow_ui_element_crop or is_of_picture


def _takes_bars(kept: PixelBox, between_bars: PixelBox, whole: PixelBox) -> bool:
    """Return whether a crop removes at least some of a measured bar."""
    return (
        (kept.x > 0 and between_bars.x > 0)
        or (kept.y > 0 and between_bars.y > 0)
        or (kept.right < whole.right and between_bars.right < whole.right)
        or (kept.bottom < whole.bottom and between_bars.bottom < whole.bottom)
    )


def _is_within_bars(kept: PixelBox, between_bars: PixelBox, whole: PixelBox) -> bool:
    """Return whether a crop removes nothing but measured bars, within the tolerance, on each side that has one."""
    across, down = BAR_TOLERANCE_FRACTION * whole.width, BAR_TOLERANCE_FRACTION * whole.height
    return (
        kept.x <= (between_bars.x and between_bars.x + across)
        and kept.y <= (between_bars.y and between_bars.y + down)
        and whole.right - kept.right <= ((bar := whole.right - between_bars.right) and bar + across)
        and whole.bottom - kept.bottom <= ((bar := whole.bottom - between_bars.bottom) and bar + down)
    )
