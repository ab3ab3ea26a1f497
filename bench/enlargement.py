"""Enlargement and denoising by networks, compared with Lanczos and the DCT domain.

`python -m bench.enlargement [FOLDER...]`; without a folder, scikit-image's bundled photographs are used. Each is shrunk
by area and by Lanczos, stored as PNG (or as JPEG of quality 90 with halved chroma, as phones do), enlarged again by the
local engine, and compared with the original. After that come drawings, screens and text, drawn by this program;
photographs with noise; and the cost of a megapixel in a pixel child.
"""

import argparse
import asyncio
import importlib
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import psutil
from PIL import Image, ImageDraw, ImageFont

from bench import quality_damage as damage
from pipelines.imaging.encode import resize
from pipelines.imaging.pool import PixelPool
from pipelines.providers.local import noise
from pipelines.providers.local.denoise import denoised
from pipelines.providers.local.enlarge import enlarged
from pipelines.providers.local.networks import DENOISING, FAITHFUL, INVENTING, Effort, missing
from pipelines.providers.local.strips import in_strips

Pixels = damage.Pixels
LEAST_GAIN_DB = {2: 1.2, 4: 0.7}
WORST_DB = -0.2
LEAST_NOISE_GAIN_DB = 4.0
TRUTH_SIDE_PX = 1024


def lanczos(pixels: Pixels, width: int, height: int) -> Pixels:
    return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


def by_area(pixels: Pixels, width: int, height: int) -> Pixels:
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


SHRINKERS: dict[str, Callable[[Pixels, int, int], Pixels]] = {"area": by_area, "lanczos": lanczos}


def truth_of(pixels: Pixels) -> Pixels:
    """Return a picture cropped to multiples of four in width and height, so that shrinking doesn't shift it."""
    height, width = (side // 4 * 4 for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[:height, :width])


def gain(truth: Pixels, factor: int, how: str, *, is_jpeg: bool = False) -> tuple[float, float]:
    """Return the PSNR of Lanczos's result, and how much higher that of the local engine's result is."""
    height, width = truth.shape[:2]
    small = SHRINKERS[how](truth, width // factor, height // factor)
    if is_jpeg:
        small = damage.through_jpeg(small, 90, 2)
    plain = damage.psnr(truth, resize(small, width, height))
    ours, _ = enlarged(small, width, height, Effort(), is_compressed=is_jpeg)
    return plain, damage.psnr(truth, ours) - plain


def font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)


def screen(back: tuple[int, int, int], ink: tuple[int, int, int], accent: tuple[int, int, int]) -> Pixels:
    image = Image.new("RGB", (720, 480), back)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 720, 36), fill=accent)
    draw.text((14, 8), "Orders - 14 open, 3 late", fill=back, font=font(17))
    for row in range(13):
        y = 50 + 32 * row
        draw.text(
            (14, y), f"{1200 + 7 * row}  {('Lamp, brass', 'Chair, oak', 'Screws M4 x 16')[row % 3]}", ink, font(14)
        )
        draw.text((420, y), f"{(row * 37) % 9 + 1} pcs   EUR {17.5 * (row + 1):.2f}", ink, font(14))
        draw.line((14, y + 24, 700, y + 24), fill=tuple((3 * b + i) // 4 for b, i in zip(back, ink, strict=True)))
    draw.rounded_rectangle((580, 430, 700, 466), 8, fill=accent)
    return np.asarray(image)


def drawing(*, is_one_bit: bool) -> Pixels:
    image = Image.new("L", (1440, 960), 255)
    draw = ImageDraw.Draw(image)
    for i in range(30):
        draw.ellipse((200 + 14 * i, 120 + 9 * i, 1240 - 14 * i, 840 - 9 * i), outline=0, width=3)
        draw.line((40 * i, 0, 1440 - 40 * i, 960), fill=0, width=2)
    draw.text((560, 430), "Fig. 7b", fill=0, font=font(72))
    small = image.resize((720, 480), Image.Resampling.LANCZOS)
    return np.asarray((small.point(lambda level: 255 * (level > 150)) if is_one_bit else small).convert("RGB"))


def print_page() -> Pixels:
    image = Image.new("L", (720, 480), 244)
    draw = ImageDraw.Draw(image)
    words = "It was measured, and not guessed, that the enlargement of print keeps its edges and its white. "
    for row in range(24):
        draw.text((20, 12 + 19 * row), (words * 3)[row : row + 84], fill=28, font=font(13))
    grain = np.random.default_rng(4).normal(0, 2.5, (480, 720))
    return damage.rounded(np.repeat((np.asarray(image) + grain)[..., None], 3, 2))


def chart() -> Pixels:
    image = Image.new("RGB", (720, 480), (252, 252, 250))
    draw = ImageDraw.Draw(image)
    for i, height in enumerate((120, 310, 220, 400, 90, 350, 180, 270)):
        draw.rectangle((70 + 78 * i, 440 - height, 120 + 78 * i, 440), fill=(40 + 25 * i, 120, 230 - 25 * i))
        draw.text((76 + 78 * i, 446), f"Q{i % 4 + 1}", fill=(70, 70, 70), font=font(15))
    return np.asarray(image)


GRAPHICS: dict[str, Callable[[], Pixels]] = {
    "light screen": lambda: screen((255, 255, 255), (32, 33, 36), (26, 115, 232)),
    "dark screen": lambda: screen((24, 24, 28), (224, 224, 228), (96, 165, 250)),
    "line drawing": lambda: drawing(is_one_bit=False),
    "drawing of one bit": lambda: drawing(is_one_bit=True),
    "print with grain": print_page,
    "chart": chart,
}


def sensor(pixels: Pixels) -> Pixels:
    """Add the noise of few photons and of a sensor's amplifier to a picture, in linear light."""
    light = (pixels / 255.0) ** 2.2
    rng = np.random.default_rng(2)
    caught = rng.poisson(light * 0.3 * 70) / 70 + rng.normal(0, 0.02, light.shape)
    return damage.rounded(255 * np.clip(caught / 0.3, 0, 1) ** (1 / 2.2))


NOISES: dict[str, Callable[[Pixels], Pixels]] = {
    "sigma 10": lambda pixels: damage.noisy(pixels, 10),
    "sigma 15": lambda pixels: damage.noisy(pixels, 15),
    "sigma 25": lambda pixels: damage.noisy(pixels, 25),
    "few photons": sensor,
}


def noise_gain(truth: Pixels, hurt: Callable[[Pixels], Pixels]) -> tuple[float, float, float]:
    """Return the noisy picture's PSNR, and its gain by denoising in the DCT domain alone, and with the network."""
    noisy = damage.through_jpeg(hurt(truth), 92, 0)
    ycc = cv2.cvtColor(noisy, cv2.COLOR_RGB2YCrCb)
    luma, chroma = (np.ascontiguousarray(ycc[..., index]) for index in (0, 1))
    _, sigma = noise.noise_of(noise.noise_figures(luma, chroma))
    before = damage.psnr(truth, noisy)
    classical = in_strips(noisy, lambda strip: noise.denoised(strip, sigma))
    ours, _ = denoised(noisy, sigma, Effort())
    return before, damage.psnr(truth, classical) - before, damage.psnr(truth, ours) - before


def work(network_name: str, side_px: int) -> tuple[float, float]:
    """Return CPU and wall seconds that a network takes for a square picture. Runs in a pixel child."""
    pixels = np.random.default_rng(0).integers(0, 255, (side_px, side_px, 3), np.uint8)
    effort, before = Effort(1e9), (time.process_time(), time.perf_counter())
    if network_name == DENOISING.name + " denoising":
        denoised(pixels, 10, effort)
    else:
        factor = INVENTING.scale if network_name == INVENTING.name else FAITHFUL.scale
        enlarged(pixels, factor * side_px, factor * side_px, effort, is_compressed=True, model=network_name)
    return time.process_time() - before[0], time.perf_counter() - before[1]


async def costs() -> None:
    print("\nin a pixel child                CPU s / megapixel   wall   most memory")
    jobs = {FAITHFUL.name: 800, DENOISING.name + " denoising": 800, INVENTING.name: 96}
    for name, side_px in jobs.items():
        if name == INVENTING.name and (lacking := missing(INVENTING)):
            print(f"{name:32}{lacking}")
            continue
        async with PixelPool(size=1, nice=0) as pixels:
            await pixels.run(work, name, 64, cpu_s=600, wall_s=600)
            idle_mb = psutil.Process(pixels.child_pids[0]).memory_info().rss / 1e6
            rounds = [await pixels.run(work, name, side_px, cpu_s=600, wall_s=600) for _ in range(3)]
            peak_mb = await pixels.run(peak_rss_mb)
        cpu_s, wall_s = (statistics.median(column) / (side_px**2 / 1e6) for column in zip(*rounds, strict=True))
        print(f"{name:32}{cpu_s:8.1f}          {wall_s:8.1f}   {peak_mb:.0f} MB (before: {idle_mb:.0f})")


def peak_rss_mb() -> float:
    import resource  # noqa: PLC0415 - for the child

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def print_gains(truths: dict[str, Pixels], *, is_photographs: bool, is_each: bool) -> list[str]:
    """Print one line for each way of shrinking; return the results that miss their goal."""
    missed = []
    for factor in (2, 4) if is_photographs else (2,):
        for how in SHRINKERS:
            for is_jpeg in (False, True) if is_photographs else (False,):
                rows = {name: gain(truth, factor, how, is_jpeg=is_jpeg) for name, truth in truths.items()}
                base, gains = (statistics.median(column) for column in zip(*rows.values(), strict=True))
                worst = min(rows, key=lambda name: rows[name][1])
                kind = f"{factor}x, by {how}{', JPEG' if is_jpeg else ''}"
                print(f"{kind:24} {base:6.2f} {gains:+6.2f} {rows[worst][1]:+6.2f}  {worst}")
                if is_each:
                    print(
                        "".join(f"    {name:28} {before:6.2f} {more:+6.2f}\n" for name, (before, more) in rows.items())
                    )
                least = LEAST_GAIN_DB[factor] if is_photographs and not is_jpeg else 0.0
                if gains < least or rows[worst][1] < (WORST_DB if is_photographs else 0.0):
                    missed.append(
                        f"{kind}: median {gains:+.2f} (goal {least:+.1f}), worst {worst} {rows[worst][1]:+.2f}"
                    )
    return missed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--each", action="store_true", help="a line for each picture")
    parser.add_argument("--only", choices=["photographs", "graphics", "noise", "cost"])
    arguments = parser.parse_args()
    paths = list(damage.photographs(arguments.folders)) or [damage.bundled_folder() / name for name in damage.BUNDLED]
    photographs = {path.name: truth_of(damage.load(path, TRUTH_SIDE_PX)) for path in paths}
    missed = []
    if arguments.only in {None, "photographs"}:
        print(f"{len(photographs)} photographs\n{'':24} Lanczos  gain  worst")
        missed += print_gains(photographs, is_photographs=True, is_each=arguments.each)
    if arguments.only in {None, "graphics"}:
        graphics = {name: truth_of(draw()) for name, draw in GRAPHICS.items()}
        print(f"\n{len(graphics)} drawings, screens and prints")
        missed += print_gains(graphics, is_photographs=False, is_each=arguments.each)
    if arguments.only in {None, "noise"}:
        print("\nnoise                    before  DCT    with a network")
        for name, hurt in NOISES.items():
            rows = [noise_gain(truth, hurt) for truth in photographs.values()]
            before, classical, ours = (statistics.median(column) for column in zip(*rows, strict=True))
            print(f"{name:24} {before:6.2f} {classical:+6.2f} {ours:+6.2f}, worst {min(row[2] for row in rows):+.2f}")
            if ours < LEAST_NOISE_GAIN_DB:
                missed.append(f"noise, {name}: {ours:+.2f}")
    if arguments.only in {None, "cost"}:
        asyncio.run(costs())
    print("\n" + ("every goal is met" if not missed else "missed:\n" + "\n".join(missed)))


if __name__ == "__main__":
    # a pixel child imports functions by their module's name
    importlib.import_module("bench.enlargement").main()
