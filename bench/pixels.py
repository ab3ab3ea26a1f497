"""What the pixel path costs beside the least that it could: decode, resize, encode.

`python -m bench.pixels`: a photograph of 16 megapixels to 4096 pixels, CPU of the child against the three calls alone.
"""

import asyncio
import io
import statistics
import time

import numpy as np
import psutil
from PIL import Image

from pipelines.imaging.decode import decode
from pipelines.imaging.encode import encode_jpeg, resize
from pipelines.imaging.finishing import finish
from pipelines.imaging.geometry import fit_long_side
from pipelines.imaging.header import DecodeLimits
from pipelines.imaging.pool import PixelPool

LIMITS = DecodeLimits()
WIDTH_PX, HEIGHT_PX = 4896, 3264
LONG_SIDE_PX = 4096
ROUNDS, REPEATS = 3, 5
MOST_TIMES = 1.5


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
    """Decode, resize, encode with Pillow and the encoder's own settings; nothing checked, converted or protected."""
    with Image.open(io.BytesIO(data)) as opened:
        picture = opened.convert("RGB")
    size = fit_long_side(*picture.size, LONG_SIDE_PX)
    file = io.BytesIO()
    picture.resize(size, Image.Resampling.LANCZOS).save(file, "JPEG", quality=95, subsampling=0)
    return len(file.getvalue())


def in_process(data: bytes) -> int:
    """Do our steps without a child."""
    pixels = decode(data, LIMITS, max_long_side_px=None).pixels
    width, height = fit_long_side(pixels.shape[1], pixels.shape[0], LONG_SIDE_PX)
    return len(encode_jpeg(resize(pixels, width, height)))


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def ours(data: bytes) -> float:
    """Return the CPU seconds of one picture, in the child and in our own process, pipes and pickles included."""
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


def main() -> None:
    data = photograph()
    print(f"{WIDTH_PX} x {HEIGHT_PX} pixels in {len(data) / 1e6:.1f} MB to {LONG_SIDE_PX}, CPU seconds a picture")
    rows = [(measured(alone, data), measured(in_process, data), asyncio.run(ours(data))) for _ in range(REPEATS)]
    least, steps, whole = (statistics.median(column) for column in zip(*rows, strict=True))
    ratio = statistics.median(row[2] / row[0] for row in rows)
    print(f"decode, resize, encode alone  {least:.3f}")
    print(f"our steps without a child     {steps:.3f}  {statistics.median(row[1] / row[0] for row in rows):.2f} x")
    print(f"through the door, in a child  {whole:.3f}  {ratio:.2f} x  (at most {MOST_TIMES} x)")
    assert ratio <= MOST_TIMES, "the pixel path costs too much"


if __name__ == "__main__":
    main()
