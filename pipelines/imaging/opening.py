"""Opening of a user's file: repair of damage that viewers repair too, and the search for the profile of its colours."""

import io

import cv2
import numpy as np
from PIL import ExifTags, Image

from pipelines.errors import TransparentImageError
from pipelines.imaging import png
from pipelines.imaging.header import ImageHeader
from pipelines.imaging.jpeg import with_its_end
from pipelines.imaging.orientation import BROKEN_METADATA
from pipelines.imaging.profiles import (
    ADOBE_GAMMA,
    ADOBE_RGB,
    linear_to_srgb,
    matrix_profile,
    tone_curve,
    with_srgb_curve,
)
from pipelines.imaging.webp import LARGE_PIXELS, open_large_webp

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "MPO")
"""Without an explicit list Pillow tries forty decoders and starts Ghostscript for PostScript."""

MOST_FRAMES = 16
"""So many frames of an animation are searched for the first that shows something."""

LEAST_ALPHA = 13
"""A pixel whose opacity of 255 is lower than this, a twentieth, counts as invisible."""

_DEEP_PIXELS = 24_000_000
"""A picture of 16 bits a sample takes 8 bytes a pixel; larger ones are cut to 8 bits by Pillow, profile or not."""

_NEARLY_LINEAR = 0.3
"""The light that the middle level means from which a curve counts as nearly linear. It is 0.21 in sRGB and 0.5 in
linear light, whose shadows 8 bits can't hold."""

_ADOBE_INTEROP = "R03"
"""EXIF's interoperability index of Adobe RGB (DCF 2.0, section 4.8)."""


def open_picture(data: bytes, header: ImageHeader) -> Image.Image:
    """Open a picture with the reader for its format and size; `info["icc_profile"]` holds the profile of its colours.

    Pixels are decoded later, except those of a large WebP and those of a picture with 16 bits in linear light.

    Raises:
        BadImageError: the picture is HDR.
        OSError: pixels are missing, or no reader can open it.
    """
    if header.format == "WEBP" and header.width_px * header.height_px > LARGE_PIXELS:
        return open_large_webp(data, header.width_px, header.height_px)
    if header.format == "JPEG":
        image: Image.Image = Image.open(io.BytesIO(with_its_end(data)), formats=FORMATS)
        if "icc_profile" not in image.info and image.mode == "RGB" and _is_adobe_rgb(image):
            image.info["icc_profile"] = matrix_profile(ADOBE_RGB, ADOBE_GAMMA)
        return image
    if header.format != "PNG":
        return Image.open(io.BytesIO(data), formats=FORMATS)
    data = png.without_the_unneeded(data)
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    profile = png.profile_of(data)
    if profile is not None and png.bit_depth(data) == 16 and header.width_px * header.height_px <= _DEEP_PIXELS:  # noqa: PLR2004 - PNG, 11.2.1
        image = _with_shadows(image, data, profile) or image
    elif profile is not None:
        image.info["icc_profile"] = profile
    return image


def load_first_visible(image: Image.Image) -> None:
    """Load the first frame that shows something, which without transparency is the first one.

    Raises:
        TransparentImageError: nothing can be seen in the first MOST_FRAMES frames.
    """
    for number in range(MOST_FRAMES):
        if number:
            try:
                image.seek(number)
            except EOFError:
                break
        image.load()
        if _greatest_alpha(image) >= LEAST_ALPHA:
            return
    raise TransparentImageError("picture is transparent all over: there is nothing to see in it")


def _greatest_alpha(image: Image.Image) -> int:
    if "transparency" in image.info or image.mode in {"PA", "La", "RGBa"}:
        image = image.convert("RGBA")
    if image.mode not in {"LA", "RGBA"}:
        return 255
    extrema = image.getchannel("A").getextrema()
    return int(extrema[1])  # type: ignore[arg-type]  # one band has one pair of numbers


def _is_adobe_rgb(image: Image.Image) -> bool:
    """Return whether EXIF declares Adobe RGB, as cameras do that embed no profile."""
    try:
        index = image.getexif().get_ifd(ExifTags.IFD.Interop).get(1)
    except BROKEN_METADATA:
        return False
    text = index.decode("ascii", "replace") if isinstance(index, bytes) else str(index)
    return text.rstrip("\0 ") == _ADOBE_INTEROP


def _with_shadows(image: Image.Image, data: bytes, profile: bytes) -> Image.Image | None:
    """Decode 16 bits in nearly linear light, and encode them with sRGB's curve before they are cut to 8 bits.

    Returns:
        The picture; None where its curve isn't nearly linear.
    """
    image.info["icc_profile"] = profile
    curve = tone_curve(profile)
    if curve is None or curve[len(curve) // 2] < _NEARLY_LINEAR:
        return None
    is_grey = image.mode.startswith(("I", "L"))
    try:
        shown = None if is_grey else with_srgb_curve(profile)
    except ValueError:
        return None
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if decoded is None or decoded.dtype != np.uint16:
        return None
    samples = np.asarray(decoded, np.uint16)
    levels = np.round(255 * linear_to_srgb(curve)).astype(np.uint8)
    bands = [levels[samples]] if samples.ndim == 2 else [levels[samples[..., at]] for at in (2, 1, 0)]  # noqa: PLR2004 - rows and columns
    if samples.ndim == 3 and samples.shape[2] == 4:  # noqa: PLR2004 - BGR and alpha
        bands.append((samples[..., 3] >> 8).astype(np.uint8))
    made = Image.fromarray(bands[0] if len(bands) == 1 else np.dstack(bands))
    made.format = image.format
    made.info = {key: image.info[key] for key in ("exif",) if key in image.info}
    if shown is not None:
        made.info["icc_profile"] = shown
    return made
