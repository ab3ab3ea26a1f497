"""Running of trained networks on the CPU by ncnn, a tile at a time.

They run in a pixel child, where the first picture that needs one imports ncnn.
"""

import contextlib
import ctypes
import importlib
import math
import resource
import time
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.imaging.child import KEPT_BLOCK_BYTES, M_MMAP_THRESHOLD
from pipelines.providers.local.networks import (
    INVENTING,
    OVERRUN,
    Effort,
    Network,
    NetworkUnavailableError,
    missing,
    weights,
)

_MAPPED_MEANWHILE_BYTES = 256 * 1024
"""From so many bytes on glibc maps a block, and returns it to the system when it is freed, while a network runs. At
other times a child keeps larger blocks. That is faster for everything else, but the memory that a network used would be
missing for the largest pictures: a child that had run one refused 64 megapixels."""


def fault(network: Network) -> str | None:
    """Return in words why a network can't run here; None if it can. This loads it, so call it in a pixel child."""
    try:
        _Loaded(network)
    except NetworkUnavailableError as error:
        return str(error)
    return None


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
        path = weights(network)
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
        _map_blocks_from(KEPT_BLOCK_BYTES)
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
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, size_bytes)


def _free_bytes() -> float:
    """Return how much address space this process may still take; it is limited in a pixel child."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    statm = Path("/proc/self/statm")
    if limit == resource.RLIM_INFINITY or not statm.exists():
        return math.inf
    return limit - int(statm.read_text().split()[0]) * resource.getpagesize()
