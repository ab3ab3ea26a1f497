"""Known kinds of damage to photographs, and measures of how far a picture is from its original."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.imaging.profiles import linear_to_srgb, srgb_to_linear

Pixels = NDArray[np.uint8]

BUNDLED = {
    "astronaut.png": True,
    "chelsea.png": True,
    "rocket.jpg": True,
    "hubble_deep_field.jpg": True,
    "camera.png": True,
    "motorcycle_left.png": True,
    "coffee.png": False,
    "motorcycle_right.png": False,
    "retina.jpg": False,
    "moon.png": False,
}
"""The photographs in scikit-image's wheel, and whether the models were fitted on each (of the stereo pair, on one)."""


def bundled_folder() -> Path:
    import skimage.data  # noqa: PLC0415 - a development tool, not needed where other photographs are given

    return Path(skimage.data.__file__).parent


def load(path: Path, long_side_px: int | None = None) -> Pixels:
    image: Image.Image = Image.open(path).convert("RGB")
    if long_side_px is not None and max(image.size) > long_side_px:
        factor = long_side_px / max(image.size)
        image = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.LANCZOS)
    return np.array(image)


def photographs(folders: list[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from sorted(path for path in folder.iterdir() if path.suffix.lower() in {".jpg", ".png", ".tif", ".webp"})


def as_jpeg(pixels: Pixels, quality: int = 92, subsampling: int = 0) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG", quality=quality, subsampling=subsampling)
    return encoded.getvalue()


def from_bytes(data: bytes) -> Pixels:
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


def through_jpeg(pixels: Pixels, quality: int = 92, subsampling: int = 0) -> Pixels:
    return from_bytes(as_jpeg(pixels, quality, subsampling))


def rounded(values: NDArray[np.floating]) -> Pixels:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def lit(pixels: Pixels, gains: tuple[float, float, float]) -> Pixels:
    """Multiply each channel's light by a factor, as a wrong exposure or a wrong white balance does."""
    return rounded(255 * linear_to_srgb(srgb_to_linear(pixels / 255) * np.array(gains)))


def sensor_noise(
    pixels: Pixels, *, filled: float, photons: float, read_noise: float, smear_px: float = 0, seed: int = 0
) -> Pixels:
    """Add the noise of few photons and of reading out, in a picture that fills a fraction of the sensor's range."""
    rng, light = np.random.default_rng(seed), srgb_to_linear(pixels / 255) * filled
    noisy_light = rng.poisson(light * photons) / photons + rng.normal(0, read_noise, light.shape)
    if smear_px:
        noisy_light = np.asarray(cv2.GaussianBlur(noisy_light, (0, 0), smear_px))
    return rounded(255 * linear_to_srgb(noisy_light / filled))


def through_lens(pixels: Pixels, kernel: NDArray[np.float64]) -> Pixels:
    """Blur light by a kernel."""
    return rounded(255 * linear_to_srgb(cv2.filter2D(srgb_to_linear(pixels / 255), -1, kernel / kernel.sum())))


def defocused(pixels: Pixels, radius_px: int = 3) -> Pixels:
    kernel = np.zeros((2 * radius_px + 1, 2 * radius_px + 1))
    cv2.circle(kernel, (radius_px, radius_px), radius_px, 1.0, -1)
    return through_lens(pixels, kernel)


def moved(pixels: Pixels, length_px: int = 9) -> Pixels:
    return through_lens(pixels, np.ones((1, length_px)))


def dark(pixels: Pixels, gamma: float = 2.5) -> Pixels:
    return rounded(255 * (pixels / 255) ** gamma)


def cast(pixels: Pixels, gains: tuple[float, float, float] = (1.15, 1, 0.70)) -> Pixels:
    return rounded(pixels * np.array(gains))


def noisy(pixels: Pixels, sigma: float = 15, seed: int = 0) -> Pixels:
    return rounded(pixels + np.random.default_rng(seed).normal(0, sigma, pixels.shape))


def blurred(pixels: Pixels, sigma: float = 1.5) -> Pixels:
    return rounded(cv2.GaussianBlur(pixels.astype(np.float64), (0, 0), sigma))


def overexposed(pixels: Pixels, gain: float = 1.6) -> Pixels:
    return rounded(pixels * gain)


def letterboxed(pixels: Pixels, fraction: float = 0.1) -> Pixels:
    """Add black bars above and below, each `fraction` of the result's height."""
    bar = round(pixels.shape[0] * fraction / (1 - 2 * fraction))
    return np.pad(pixels, ((bar, bar), (0, 0), (0, 0)))


def pillarboxed(pixels: Pixels, fraction: float = 0.1) -> Pixels:
    bar = round(pixels.shape[1] * fraction / (1 - 2 * fraction))
    return np.pad(pixels, ((0, 0), (bar, bar), (0, 0)))


def quartered(pixels: Pixels) -> Pixels:
    """Shrink a picture fourfold by area."""
    return np.asarray(cv2.resize(pixels, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA), np.uint8)


def undamaged(pixels: Pixels) -> Pixels:
    return pixels


DAMAGES: dict[str, Callable[[Pixels], Pixels]] = {
    "dark": dark,
    "cast": cast,
    "noise": noisy,
    "blur": blurred,
    "letterbox": letterboxed,
    "pillarbox": pillarboxed,
    "overexposed": overexposed,
    "low resolution": quartered,
    "undamaged": undamaged,
}

CAMERA: dict[str, Callable[[Pixels], Pixels]] = {
    "two stops under": lambda pixels: lit(pixels, (0.25, 0.25, 0.25)),
    "one stop under": lambda pixels: lit(pixels, (0.5, 0.5, 0.5)),
    "one stop over": lambda pixels: lit(pixels, (2, 2, 2)),
    "tungsten": lambda pixels: lit(pixels, (1.45, 1, 0.42)),
    "strong blue": lambda pixels: lit(pixels, (0.42, 0.88, 1.9)),
    "strong green": lambda pixels: lit(pixels, (0.62, 1.25, 0.6)),
    "weak blue": lambda pixels: lit(pixels, (0.62, 0.95, 1.5)),
    "fluorescent": lambda pixels: lit(pixels, (0.85, 1.12, 0.8)),
    "heavy noise": lambda pixels: sensor_noise(pixels, filled=0.3, photons=70, read_noise=0.02, seed=2),
    "moderate noise": lambda pixels: sensor_noise(
        pixels, filled=0.35, photons=420, read_noise=0.006, smear_px=0.55, seed=9
    ),
    "defocus": defocused,
    "motion": moved,
}
"""Damage as cameras make it, in linear light. JPEG of a low quality is no change of pixels: `as_jpeg` makes it."""


def psnr(original: Pixels, other: Pixels) -> float:
    error = float(np.mean((original.astype(np.float64) - other) ** 2))
    return 60.0 if error == 0 else min(60.0, 10 * float(np.log10(255**2 / error)))


def ssim(original: Pixels, other: Pixels) -> float:
    """Return the structural similarity of two pictures' luma (Wang et al. 2004), with a Gaussian window of 1.5 px."""
    a, b = (cv2.cvtColor(x, cv2.COLOR_RGB2GRAY).astype(np.float64) for x in (original, other))

    def blur(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(cv2.GaussianBlur(x, (11, 11), 1.5), np.float64)

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    shared = blur(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = (2 * mean_a * mean_b + c1) * (2 * shared + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return float(values.mean())
