"""Decoding of every hostile file in real pixel children: an error of ours, or clean pixels, and nothing else."""

import asyncio
import io
import os
from pathlib import Path

import psutil
from PIL import Image

from pipelines.errors import BadImageError
from pipelines.imaging.finishing import finish
from pipelines.imaging.header import DecodeLimits
from pipelines.imaging.pool import PixelPool
from tests.support.hostile_files import HostileFile, corpus
from tests.support.imaging_pictures import CANARY

GIGABYTE = 1_000_000_000
LIMITS = DecodeLimits()


async def passed_through(pixels: PixelPool, file: HostileFile) -> str | None:
    """Return what is wrong with how a file ended; None if nothing is."""
    try:
        finished = await pixels.run(finish, file.data, LIMITS, 96, 64, wall_s=60)
    except BadImageError as error:
        if file.end == "accepted":
            return f"{file.name} was refused: {error}"
        return f"{file.name}: its message repeats it" if CANARY.decode() in f"{error}{error.evidence}" else None
    if file.end == "refused":
        return f"{file.name} was accepted"
    with Image.open(io.BytesIO(finished.data)) as picture:
        picture.load()
        is_whole = (picture.format, picture.size, picture.mode) == ("JPEG", (96, 64), "RGB")
        is_clean = set(picture.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    if not (is_whole and is_clean) or CANARY in finished.data:
        return f"{file.name} left more than pixels"
    return None


def peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def test_corpus_is_large_enough() -> None:
    assert len(corpus(with_heavy=False)) >= 300


async def test_hostile_files_end_as_promised_and_leave_nothing_behind() -> None:
    peaks: list[int] = []
    async with PixelPool(size=2) as pixels:
        wrong = await asyncio.gather(*(passed_through(pixels, file) for file in corpus(with_heavy=False)))
        peaks += [peak_bytes(pid) for pid in pixels.child_pids]
        children = pixels.child_pids

    assert [what for what in wrong if what] == []
    assert max(peaks) < GIGABYTE
    assert len(children) <= 2
    assert not [pid for pid in children if psutil.pid_exists(pid) and psutil.Process(pid).ppid() == os.getpid()]
