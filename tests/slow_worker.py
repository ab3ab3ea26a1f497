"""A worker whose provider takes its time: an entry point for dramatiq, like workers.main.

The stages are the real ones. Its provider answers with a grey picture after
SLOW_S seconds, and writes a line per call to the file SLOW_CALLS, so that a
test can count what was bought.
"""

import asyncio
import os
from pathlib import Path

import numpy as np

from pipelines.analysis import Analysis, Defects
from pipelines.imaging.encode import encode_jpeg
from pipelines.providers import registry
from pipelines.providers.calls import Answer
from pipelines.providers.provider import EncodedImage, Quote
from workers.process import worker


class SlowProvider:
    name = "slow"
    is_paid = True

    def __init__(self, _settings, _pixels, _limits):
        self._delay_s = float(os.environ["SLOW_S"])

    def quote_analysis(self, _options):
        return Quote("slow-1")

    def quote_generation(self, _prompt, _long_side_px):
        return Quote("slow-1", images=1)

    async def check(self):
        pass

    async def aclose(self):
        pass

    async def prepare_analysis(self, _image, _options):
        return self._analyze

    async def prepare_generation(self, _prompt, _images, long_side_px, _aspect):
        return lambda _look_again: self._generate(long_side_px)

    async def _analyze(self, _look_again):
        self._count("analyze")
        defects = Defects(
            is_dark=False,
            is_blurry=False,
            has_noise=False,
            is_low_resolution=False,
            is_overexposed=False,
            has_color_cast=False,
        )
        return Answer(Analysis(defects=defects, source="slow"), "slow-1")

    async def _generate(self, long_side_px):
        self._count("generate")
        await asyncio.sleep(self._delay_s)
        self._count("generated")
        pixels = np.full((long_side_px, long_side_px, 3), 128, np.uint8)
        return Answer(EncodedImage(encode_jpeg(pixels)), "slow-1")

    def _count(self, what):
        with Path(os.environ["SLOW_CALLS"]).open("a") as calls:
            calls.write(f"{os.getpid()} {what}\n")


def main() -> None:
    registry.PROVIDERS["local"] = SlowProvider
    worker.main()
