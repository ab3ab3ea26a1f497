"""CPU cost of decoding, resizing and encoding, compared with Pillow's alone, and cost of the local engine.

`python -m bench.pixels` reduces a photograph of 16 megapixels to 4096 pixels, and compares the child's CPU with that of
the three Pillow calls alone. Then it measures analysis and treatment (noise, light, colour and blur, each treated) at
several sizes, and the first analysis in a pool whose children are kept running; `bench/enlargement.py` measures the
networks. With `--engine` only the local engine is measured.
"""

import argparse
import asyncio
import io
import statistics
import time

import numpy as np
import psutil
from PIL import Image

from config.pipeline_rules import Defect
from pipelines.corrections import Corrections
from pipelines.imaging.decode import decode
from pipelines.imaging.encode import encode_jpeg, resize
from pipelines.imaging.finishing import finish
from pipelines.imaging.geometry import fit_long_side
from pipelines.imaging.header import DecodeLimits
from pipelines.imaging.pool import PixelPool
from pipelines.providers.local.networks import Effort
from pipelines.providers.local.provider import CHILD_IMPORTS
from pipelines.providers.local.work import enhanced, findings_of

LIMITS = DecodeLimits()
WIDTH_PX, HEIGHT_PX = 4896, 3264
LONG_SIDE_PX = 4096
ROUNDS, REPEATS = 3, 5
MOST_TIMES = 1.5
SIDES_PX = (512, 1024, 2048, 4096)
FORCED = Corrections(
    forced=frozenset({Defect.HAS_NOISE, Defect.IS_DARK, Defect.HAS_COLOR_CAST, Defect.IS_BLURRY}), allowed=frozenset()
)


def photograph() -> bytes:
    """Return a JPEG of 16 megapixels with a photograph's amount of detail (about 4 MB), its profile and EXIF."""
    luck = np.random.default_rng(3)
    coarse = Image.fromarray(luck.integers(0, 255, (51, 77, 3), np.uint8)).resize((WIDTH_PX, HEIGHT_PX), 3)
    grain = luck.normal(0, 4, (HEIGHT_PX, WIDTH_PX, 1))
    picture = Image.fromarray(np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 1
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=88, exif=exif)
    return file.getvalue()


def alone(data: bytes) -> int:
    """Decode, resize and encode with Pillow and our encoder's settings, without checks and conversions."""
    with Image.open(io.BytesIO(data)) as opened:
        picture = opened.convert("RGB")
    size = fit_long_side(*picture.size, LONG_SIDE_PX)
    file = io.BytesIO()
    picture.resize(size, Image.Resampling.LANCZOS).save(file, "JPEG", quality=95, subsampling=0)
    return len(file.getvalue())


def in_process(data: bytes) -> int:
    """Run in this process the steps that a pixel child runs; return the result's size."""
    pixels = decode(data, LIMITS, max_long_side_px=None).pixels
    width, height = fit_long_side(pixels.shape[1], pixels.shape[0], LONG_SIDE_PX)
    return len(encode_jpeg(resize(pixels, width, height)))


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def ours(data: bytes) -> float:
    """Return the CPU seconds for one picture, in the child and in this process, with sending it there and back."""
    size = fit_long_side(WIDTH_PX, HEIGHT_PX, LONG_SIDE_PX)
    async with PixelPool(size=1, nice=0) as pixels:
        await pixels.run(finish, data, LIMITS, *size)
        child, own = psutil.Process(pixels.child_pids[0]), psutil.Process()
        before = cpu_s(child) + cpu_s(own)
        for _ in range(ROUNDS):
            await pixels.run(finish, data, LIMITS, *size)
        return (cpu_s(child) + cpu_s(own) - before) / ROUNDS


def measured(function, data: bytes) -> float:  # type: ignore[no-untyped-def]  # noqa: ANN001
    function(data)
    before = time.process_time()
    for _ in range(ROUNDS):
        function(data)
    return (time.process_time() - before) / ROUNDS


def shrunk(data: bytes, side_px: int) -> tuple[bytes, float]:
    """Return the photograph scaled to another longer side, and the megapixels that it then has."""
    with Image.open(io.BytesIO(data)) as opened:
        picture = opened.convert("RGB").resize(fit_long_side(*opened.size, side_px), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=92)
    return file.getvalue(), picture.width * picture.height / 1e6


async def engine(data: bytes) -> None:
    """Print what analysis and treatment take, and the first analysis of a pool with and without running children."""
    print("\nlocal engine, one child                    CPU s   s / megapixel   wall s")
    async with PixelPool(size=1, nice=0, imports=CHILD_IMPORTS) as pixels:
        await pixels.run(findings_of, shrunk(data, 64)[0], LIMITS)
        child = psutil.Process(pixels.child_pids[0])
        for side_px in SIDES_PX:
            small, megapixels = shrunk(data, side_px)
            for name, work in (
                ("analysis", (findings_of, small, LIMITS)),
                ("treatment", (enhanced, small, None, None, side_px, FORCED, LIMITS, Effort(0))),
            ):
                rounds = []
                for _ in range(ROUNDS):
                    before, started_s = cpu_s(child), time.perf_counter()
                    await pixels.run(*work)
                    rounds.append((cpu_s(child) - before, time.perf_counter() - started_s))
                cpu, wall = (statistics.median(column) for column in zip(*rounds, strict=True))
                what = f"{name} of {side_px} px, {megapixels:.2f} megapixels"
                print(f"{what:42}{cpu:6.2f} {cpu / megapixels:12.2f} {wall:9.2f}")
    small, _ = shrunk(data, 512)
    for is_warm in (False, True):
        async with PixelPool(size=1, nice=0, imports=CHILD_IMPORTS) as pixels:
            if is_warm:
                pixels.keep_warm(1)
                await asyncio.sleep(5)
            started_s = time.perf_counter()
            await pixels.run(findings_of, small, LIMITS)
            first_s = time.perf_counter() - started_s
        kind = "is kept warm" if is_warm else "starts its child"
        print(f"first analysis of 512 px in a pool that {kind}: {first_s:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", action="store_true", help="only what the local engine costs")
    data = photograph()
    if not parser.parse_args().engine:
        path(data)
    asyncio.run(engine(data))


def path(data: bytes) -> None:
    print(f"{WIDTH_PX} x {HEIGHT_PX} pixels in {len(data) / 1e6:.1f} MB to {LONG_SIDE_PX}, CPU seconds a picture")
    rows = [(measured(alone, data), measured(in_process, data), asyncio.run(ours(data))) for _ in range(REPEATS)]
    least, steps, whole = (statistics.median(column) for column in zip(*rows, strict=True))
    ratio = statistics.median(row[2] / row[0] for row in rows)
    print(f"decode, resize, encode alone  {least:.3f}")
    print(f"our steps without a child     {steps:.3f}  {statistics.median(row[1] / row[0] for row in rows):.2f} x")
    print(f"decoded in a pixel child      {whole:.3f}  {ratio:.2f} x  (at most {MOST_TIMES} x)")
    assert ratio <= MOST_TIMES, "the pixel path costs too much"


if __name__ == "__main__":
    main()
