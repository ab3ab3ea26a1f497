"""Decoding of untrusted bytes to pixels in sRGB. It runs in a pixel child, never in a worker's own process."""

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from pipelines.errors import BadImageError
from pipelines.imaging.encode import resize
from pipelines.imaging.geometry import STRIP_ROWS, PixelBox, fit_within
from pipelines.imaging.header import DecodeLimits, ImageHeader, check_size, read_header
from pipelines.imaging.jpeg import is_out_of_memory, rgb_of
from pipelines.imaging.opening import load_first_visible, open_picture
from pipelines.imaging.orientation import LYING, orientation_of

DRAFT_MARGIN = 2.0
"""A JPEG is decoded at least this many times as large as wanted; Lanczos shrinks it the rest of the way."""

WHITE, BLACK = (255, 255, 255), (0, 0, 0)
GROUND_PX = 256
LEAST_CONTRAST = 16
LOST_FRACTION = 0.95
"""A drawing on transparency is laid on black where this fraction of it differs from white by less than
`LEAST_CONTRAST` levels. It is judged on a copy with a long side of about `GROUND_PX`."""

_SAME_LEVELS = 1
"""A transform that moves no channel by more levels than this is sRGB to sRGB."""

_BROKEN_PICTURE = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, struct.error)
"""Pillow's parsers raise these on broken input: its documentation names OSError, its issues name the others."""


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """A decoded picture.

    Attributes:
        pixels: height x width x 3, uint8, sRGB, oriented, alpha on white, writable.
        format: the format of the bytes: JPEG, PNG, WEBP, GIF or MPO.
        width_px: width of the oriented original, before any crop or shrinking.
        height_px: height of the same.
        is_as_stored: whether the pixels are those in the file: all of them, neither turned nor converted.
    """

    pixels: NDArray[np.uint8]
    format: str
    width_px: int
    height_px: int
    is_as_stored: bool = False


def decode(
    data: bytes, limits: DecodeLimits, *, box: PixelBox | None = None, max_long_side_px: int | None = None
) -> DecodedImage:
    """Decode the first frame of a picture into oriented sRGB pixels.

    Args:
        data: the encoded picture; its format is found by content.
        limits: how large the picture may be; the header is checked against them before any pixel is decoded.
        box: the part to keep, in pixels of the oriented original; what lies
            outside of the picture is clipped.
        max_long_side_px: shrink what is kept to a long side of at most this;
            never enlarges. This is much faster, and takes
            less memory, than to resize afterwards.

    Raises:
        BadImageError: the picture is refused or broken; if it exceeds a limit, the message has the limit and the value.
    """
    header = read_header(data, limits)
    with _guarded(limits):
        try:
            return _decode(data, header, limits, box, max_long_side_px)
        except UnidentifiedImageError as error:
            raise BadImageError(f"picture is broken: no valid {header.format}", evidence=str(error)) from error
        except Image.DecompressionBombError as error:
            raise BadImageError(f"picture unpacks past the limit of {limits.max_pixels:,} pixels") from error
        except _BROKEN_PICTURE as error:
            if header.format == "JPEG" and is_out_of_memory(data):
                raise MemoryError from error
            raise BadImageError(
                f"picture is truncated or broken: a {header.format} of {header.width_px} x {header.height_px} pixels "
                f"in {len(data):,} bytes can't be decoded",
                evidence=f"{type(error).__name__}: {error}",
            ) from error


def shrinks_alike(decoded: DecodedImage, long_side_px: int) -> bool:
    """Return whether `decode` with this `max_long_side_px` gives exactly what `resize` makes of the decoded pixels.

    It doesn't for a picture that it shrinks before turning or converting it, or decodes at a fraction of its size.
    """
    longest_px = max(decoded.width_px, decoded.height_px)
    return decoded.is_as_stored and longest_px < 2 * DRAFT_MARGIN * long_side_px


@contextmanager
def _guarded(limits: DecodeLimits) -> Iterator[None]:
    """Make Pillow strict: a bomb or a truncated file is an error, and other warnings are ignored."""
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    Image.MAX_IMAGE_PIXELS = limits.max_pixels
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            yield
        except Image.DecompressionBombWarning as error:
            raise BadImageError(f"picture unpacks past the limit of {limits.max_pixels:,} pixels") from error


def _decode(
    data: bytes, header: ImageHeader, limits: DecodeLimits, box: PixelBox | None, max_long_side_px: int | None
) -> DecodedImage:
    """Open, orient, crop, shrink and convert a picture; errors of Pillow go to the caller."""
    with open_picture(data, header) as image:
        original_px = image.size
        check_size(*original_px, limits)
        kind = image.format or ""
        if max_long_side_px is not None:
            _draft(image, box, max_long_side_px)
        rgb = _rgb(image) if image.size == original_px else None
        if rgb is None:
            load_first_visible(image)
        orientation = orientation_of(image)
        is_turned = orientation in LYING
        width_px, height_px = original_px[::-1] if is_turned else original_px
        kept = _clipped(box, width_px, height_px)
        raw_box = _unoriented(kept, orientation, width_px, height_px)
        target_px = (kept.width, kept.height)
        if max_long_side_px is not None:
            target_px = fit_within(*target_px, max_long_side_px)
        raw_target_px = target_px[::-1] if is_turned else target_px
        if rgb is not None:
            cut = rgb[raw_box.y : raw_box.bottom, raw_box.x : raw_box.right]
            profile = image.info.get("icc_profile") if _profile_transform(image) else None
            shown = _shown(resize(cut, *raw_target_px), profile)
            pixels = _oriented(shown, orientation)
            is_as_stored = cut.shape == shown.shape == rgb.shape and profile is None and pixels is shown
            return DecodedImage(pixels, kind, width_px, height_px, is_as_stored=is_as_stored)
        scale = (image.size[0] / original_px[0], image.size[1] / original_px[1])
        plain = _plain(image)
    del image  # where it was converted, its own pixels would be held beside the others
    plain = _cut(plain, raw_box, scale, raw_target_px)
    pixels = _oriented(_srgb(plain), orientation)
    return DecodedImage(pixels, kind, width_px, height_px)


def _rgb(image: Image.Image) -> NDArray[np.uint8] | None:
    """Decode all of a picture that Pillow has opened, without Pillow; None if it isn't a JPEG of three channels."""
    if isinstance(image, JpegImageFile) and image.mode == "RGB" and isinstance(image.fp, io.BytesIO):
        return rgb_of(image.fp.getvalue())
    return None


def _shown(pixels: NDArray[np.uint8], profile: bytes | None) -> NDArray[np.uint8]:
    """Convert to sRGB from a profile, if there is one."""
    if profile is None:
        return np.ascontiguousarray(pixels)
    plain = Image.fromarray(np.ascontiguousarray(pixels))
    plain.info["icc_profile"] = profile
    return _srgb(plain)


def _draft(image: Image.Image, box: PixelBox | None, max_long_side_px: int) -> None:
    """Tell libjpeg to decode at 1/2, 1/4 or 1/8 of the size, if that is still large enough."""
    longest = max(box.width, box.height) if box else max(image.size)
    factor = DRAFT_MARGIN * max_long_side_px / longest
    if factor < 1:
        image.draft(None, (max(1, round(image.size[0] * factor)), max(1, round(image.size[1] * factor))))


def _clipped(box: PixelBox | None, width_px: int, height_px: int) -> PixelBox:
    """Return the part of a box that lies inside of the picture; without a box, the whole picture.

    Raises:
        BadImageError: the box lies wholly outside.
    """
    if box is None:
        return PixelBox(0, 0, width_px, height_px)
    if box.x >= width_px or box.y >= height_px:
        raise BadImageError(f"crop at {box.x}, {box.y} lies outside of the picture of {width_px} x {height_px} pixels")
    return PixelBox(box.x, box.y, min(box.width, width_px - box.x), min(box.height, height_px - box.y))


def _unoriented(box: PixelBox, orientation: int, width_px: int, height_px: int) -> PixelBox:
    """Return where a box of the oriented picture lies in the pixels as stored."""
    from_right = width_px - box.right
    from_bottom = height_px - box.bottom
    upright = {
        1: (box.x, box.y),
        2: (from_right, box.y),
        3: (from_right, from_bottom),
        4: (box.x, from_bottom),
    }
    if orientation in upright:
        return PixelBox(*upright[orientation], box.width, box.height)
    turned = {
        5: (box.y, box.x),
        6: (box.y, from_right),
        7: (from_bottom, from_right),
        8: (from_bottom, box.x),
    }
    return PixelBox(*turned[orientation], box.height, box.width)


def _plain(image: Image.Image) -> Image.Image:
    """Convert a loaded picture to L, LA, RGB, RGBA or CMYK, which can be resized and converted without loss."""
    mode = image.mode
    if mode.startswith("I"):
        return _scaled_to_8_bits(image)
    if mode in {"LA", "RGBA", "CMYK"}:
        return image
    if "transparency" in image.info or mode in {"PA", "La", "RGBa"}:
        converted = image.convert("RGBA")
    elif mode in {"L", "RGB"}:
        return image
    else:
        converted = image.convert("L" if mode == "1" else "RGB")
    converted.info = {"icc_profile": image.info.get("icc_profile")}
    return converted


def _scaled_to_8_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits, strip by strip: Pillow's own conversion clips it to white."""
    width_px, height_px = image.size
    grey = np.empty((height_px, width_px), np.uint8)
    for top in range(0, height_px, STRIP_ROWS):
        bottom = min(top + STRIP_ROWS, height_px)
        samples = np.asarray(image.crop((0, top, width_px, bottom))).astype(np.uint32)
        grey[top:bottom] = (samples + 128) // 257
    scaled = Image.fromarray(grey)
    scaled.info = {"icc_profile": image.info.get("icc_profile")}
    return scaled


def _cut(image: Image.Image, box: PixelBox, scale: tuple[float, float], target_px: tuple[int, int]) -> Image.Image:
    """Crop an image to a box of its pixels as stored, and shrink it, in one resampling.

    Return `image` if nothing changes.
    """
    profile = image.info.get("icc_profile")
    if scale == (1.0, 1.0) and target_px == (box.width, box.height):
        if target_px == image.size:
            return image
        cut = image.crop((box.x, box.y, box.right, box.bottom))
    else:
        edges = (
            box.x * scale[0],
            box.y * scale[1],
            min(box.right * scale[0], image.size[0]),
            min(box.bottom * scale[1], image.size[1]),
        )
        cut = image.resize(target_px, Image.Resampling.LANCZOS, box=edges, reducing_gap=3.0)
    cut.info = {"icc_profile": profile}
    return cut


def _srgb(image: Image.Image) -> NDArray[np.uint8]:
    """Convert to sRGB on a ground of one colour, strip by strip: each pixel is converted by itself."""
    transform = _profile_transform(image)
    ground = _ground(image)
    width_px, height_px = image.size
    pixels = np.empty((height_px, width_px, 3), np.uint8)
    for top in range(0, height_px, STRIP_ROWS):
        bottom = min(top + STRIP_ROWS, height_px)
        strip = image.crop((0, top, width_px, bottom))
        alpha = strip.getchannel("A") if strip.mode in {"LA", "RGBA"} else None
        if alpha is not None:
            strip = strip.convert(strip.mode[:-1])
        if transform:
            rgb = ImageCms.applyTransform(strip, transform)
        else:
            rgb = strip if strip.mode == "RGB" else strip.convert("RGB")  # a conversion to its own mode would copy it
        if rgb is not None and alpha is not None:
            under = Image.new("RGB", rgb.size, ground)
            under.paste(rgb, mask=alpha)
            rgb = under
        pixels[top:bottom] = np.asarray(rgb)
    return pixels


def _ground(image: Image.Image) -> tuple[int, int, int]:
    """Return the colour that goes underneath transparency: white, or black where nothing could be seen on white."""
    if image.mode not in {"LA", "RGBA"}:
        return WHITE
    small = image.reduce(max(1, max(image.size) // GROUND_PX))  # a thumbnail would hold the picture three times
    levels = np.asarray(small.convert("LA"), np.float64)
    light, opacity = levels[..., 0], levels[..., 1]
    is_lost = 255 - light < LEAST_CONTRAST
    return BLACK if opacity[is_lost].sum() >= LOST_FRACTION * max(1.0, opacity.sum()) else WHITE


def _profile_transform(image: Image.Image) -> ImageCms.ImageCmsTransform | None:
    """Return the transform from the embedded profile to sRGB; None if the picture is sRGB or its profile is broken."""
    profile = image.info.get("icc_profile")
    if not profile:
        return None
    mode = {"LA": "L", "RGBA": "RGB"}.get(image.mode, image.mode)
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(
            source, ImageCms.createProfile("sRGB"), mode, "RGB", ImageCms.Intent.PERCEPTUAL
        )
        return None if mode == "RGB" and _changes_nothing(transform) else transform
    except (ImageCms.PyCMSError, *_BROKEN_PICTURE):
        return None  # other viewers also take a picture with a broken profile for sRGB


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Return whether a transform changes no colour, as is so for most photographs, which have an sRGB profile.

    To apply such a transform would take time, and lose precision by rounding.
    """
    levels = np.linspace(0, 255, 9).astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(27, 27, 3)
    converted = np.asarray(ImageCms.applyTransform(Image.fromarray(grid), transform))
    return int(np.abs(converted.astype(np.int16) - grid).max()) <= _SAME_LEVELS


def _oriented(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Apply EXIF orientation (EXIF 2.32, tag 274) to pixels as stored."""
    match orientation:
        case 2:
            turned = pixels[:, ::-1]
        case 3:
            turned = pixels[::-1, ::-1]
        case 4:
            turned = pixels[::-1]
        case 5:
            turned = pixels.transpose(1, 0, 2)
        case 6:
            turned = pixels[::-1].transpose(1, 0, 2)
        case 7:
            turned = pixels[::-1, ::-1].transpose(1, 0, 2)
        case 8:
            turned = pixels[:, ::-1].transpose(1, 0, 2)
        case _:
            return pixels
    return np.ascontiguousarray(turned)
