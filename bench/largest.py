"""CPU and memory that the largest pictures take in a pixel child: `python -m bench.largest [KIND...]`.

Each kind of file has 63 megapixels, and a pixel child of its own without networks. The child analyzes it, and makes
results of 1024 px and of 4096 px, each with and without corrections, and one of 4096 px with every treatment forced.
Memory is the most that the child held, resident and as address space; the address space is limited to MEMORY_BYTES.
"""

import argparse
import asyncio
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from bench.pixels import FORCED, cpu_s
from config.pipeline_rules import Defect
from config.tiers import MOST_SIDE_PX
from pipelines.corrections import NO_CORRECTIONS, Corrections
from pipelines.imaging.header import DecodeLimits
from pipelines.imaging.pool import MEMORY_BYTES, PixelPool
from pipelines.providers.local.networks import Effort
from pipelines.providers.local.provider import CHILD_IMPORTS
from pipelines.providers.local.work import enhanced, findings_of

WIDTH_PX, HEIGHT_PX = 9200, 6900
LIMITS = DecodeLimits()

ALLOWED = Corrections(forced=frozenset(), allowed=frozenset(Defect))
PARTS: tuple[tuple[str, int, Corrections], ...] = (
    ("1024 px", 1024, ALLOWED),
    ("uncorrected", 1024, NO_CORRECTIONS),
    ("4096 px", 4096, ALLOWED),
    ("uncorrected", 4096, NO_CORRECTIONS),
    ("4096 px, forced", 4096, FORCED),
)


def picture() -> Image.Image:
    """Return a smooth picture with a photograph's grain."""
    luck = np.random.default_rng(3)
    coarse = Image.fromarray(luck.integers(0, 255, (52, 69, 3), np.uint8))
    pixels = np.asarray(coarse.resize((WIDTH_PX, HEIGHT_PX), Image.Resampling.BICUBIC))
    grain = luck.integers(-5, 6, (HEIGHT_PX, WIDTH_PX, 1), np.int8)
    return Image.fromarray(np.clip(pixels.astype(np.int16) + grain, 0, 255).astype(np.uint8))


def without_grain(image: Image.Image) -> Image.Image:
    """Return squares of the picture's colours, because a PNG of a picture with grain exceeds the limit of bytes."""
    return image.resize((image.width // 64, image.height // 64)).resize(image.size, Image.Resampling.NEAREST)


def stored(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def with_bars(image: Image.Image) -> Image.Image:
    barred = image.copy()
    for top in (0, HEIGHT_PX - HEIGHT_PX // 10):
        barred.paste((0, 0, 0), (0, top, WIDTH_PX, top + HEIGHT_PX // 10))
    return barred


def turned(image: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return stored(image, "JPEG", quality=88, exif=exif)


def with_alpha(image: Image.Image) -> Image.Image:
    image = image.copy()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


KINDS: dict[str, Callable[[Image.Image], bytes]] = {
    "JPEG": lambda image: stored(image, "JPEG", quality=88),
    "JPEG with bars": lambda image: stored(with_bars(image), "JPEG", quality=88),
    "JPEG turned by EXIF": turned,
    "progressive JPEG, 4:4:4": lambda image: stored(image, "JPEG", quality=88, progressive=True, subsampling=0),
    "CMYK JPEG": lambda image: stored(image.convert("CMYK"), "JPEG", quality=80),
    "PNG": lambda image: stored(without_grain(image), "PNG"),
    "PNG with transparency": lambda image: stored(with_alpha(without_grain(image)), "PNG"),
}


def most_mb(pid: int, field: str) -> float:
    """Return a field of a process's status, such as VmHWM, in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field)) / 1e6


async def measure(name: str, data: bytes) -> None:
    """Print one row: CPU of each task, and the memory after the analysis and after everything."""
    async with PixelPool(size=1, nice=0, imports=CHILD_IMPORTS) as pixels:
        await pixels.run(findings_of, stored(Image.new("RGB", (64, 64)), "PNG"), LIMITS)
        child = psutil.Process(pixels.child_pids[0])

        async def spent_s(function: Callable[..., object], *arguments: object) -> float:
            before_s = cpu_s(child)
            await pixels.run(function, *arguments, cpu_s=120, wall_s=600)
            return cpu_s(child) - before_s

        cells = [await spent_s(findings_of, data, LIMITS, MOST_SIDE_PX)]
        after_analysis = most_mb(child.pid, "VmHWM"), most_mb(child.pid, "VmPeak")
        for _, side_px, corrections in PARTS:
            cells.append(await spent_s(enhanced, data, None, None, side_px, corrections, LIMITS, Effort(0)))
        after_all = most_mb(child.pid, "VmHWM"), most_mb(child.pid, "VmPeak")
    row = "".join(f"{cell:13.1f}" for cell in cells)
    memory = " ".join(f"{before:.0f} {after:.0f}" for before, after in zip(after_analysis, after_all, strict=True))
    print(f"{name:26}{row}   {memory}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(KINDS))
    chosen = parser.parse_args().kinds or list(KINDS)
    image = picture()
    print(
        f"CPU s; memory, MB: resident after analysis and after all, address space likewise of {MEMORY_BYTES / 1e6:.0f}"
    )
    print(f"{'':26}{'analysis':>13}" + "".join(f"{name:>13.13}" for name, _, _ in PARTS))
    for name in chosen:
        asyncio.run(measure(name, KINDS[name](image)))


if __name__ == "__main__":
    main()
