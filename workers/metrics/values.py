"""The values of one process's metrics: in memory, or in files that another process reads.

The files are those of prometheus_client's multiprocess mode (`MmapedDict`): a memory-mapped list of keys and doubles.
What was recorded is in the file at once, also if the process is killed in the next moment. Their names have the
supervisor's slot in place of a process id, so that the next process of a slot continues its counters.
"""

import json
import threading
from bisect import bisect_left
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from prometheus_client.mmap_dict import MmapedDict

from workers.metrics.families import Family

COUNTS: Final = "counts"
GAUGES: Final = "gauges"
"""Beginnings of the names of files: of what lasts beyond its process, and of what is true only while it lives."""

MOST_SERIES: Final = 1_000
"""How many combinations of labels a family may have. Labels are few words; this bounds what a mistake could cost."""

OTHER: Final = "other"
"""The value of each label of a combination beyond MOST_SERIES."""

SUM: Final = "sum"

Key = tuple[str, tuple[str, ...], str]
"""A value's family, the values of its labels, and its part: SUM or a bucket's number of a histogram, else empty."""


class Cell:
    """One value. Adding to it is neither a system call nor a wait."""

    __slots__ = ("_file", "_key", "value")

    def __init__(self, key: str, file: MmapedDict | None) -> None:
        """Continue with the value that a file has."""
        self._key = key
        self._file = file
        self.value: float = 0.0 if file is None else file.read_value(key)[0]  # type: ignore[no-untyped-call]  # as below

    def add(self, amount: float = 1.0) -> None:
        """Add to a counter."""
        self.set(self.value + amount)

    def set(self, value: float) -> None:
        """Set a gauge."""
        self.value = value
        if self._file is not None:
            self._file.write_value(self._key, value, 0.0)  # type: ignore[no-untyped-call]  # its types are left out


class Histogram:
    """A distribution: how many values there were in each bucket, and their sum.

    Most distributions use few of their buckets, so a bucket is made when it gets its first value.
    """

    __slots__ = ("_bounds", "_buckets", "_make", "_sum")

    def __init__(self, bounds: tuple[float, ...], make: Callable[[str], Cell]) -> None:
        """Store the buckets' upper limits, and what makes the value of a part: of a bucket by its number, and SUM."""
        self._bounds = bounds
        self._make = make
        self._buckets: list[Cell | None] = [None] * (len(bounds) + 1)
        self._sum = make(SUM)

    def observe(self, value: float) -> None:
        """Count a value."""
        number = bisect_left(self._bounds, value)
        bucket = self._buckets[number]
        if bucket is None:
            bucket = self._buckets[number] = self._make(str(number))
        bucket.add()
        self._sum.add(value)


class Values:
    """The values that one process records."""

    def __init__(self, folder: Path | None = None, slot: str = "") -> None:
        """Open the files of a slot; without a folder, keep the values in memory only.

        Args:
            folder: the folder that the supervisor has made.
            slot: names the files; no other living process may use it.
        """
        self._files = None if folder is None else {kind: _opened(path_of(folder, kind, slot)) for kind in FILES}
        self._cells: dict[Family, dict[tuple[str, ...], Cell]] = {}
        self._histograms: dict[Family, dict[tuple[str, ...], Histogram]] = {}
        self._kept: dict[Key, Cell] = {}
        self._adding = threading.RLock()  # the lease has a thread of its own

    def cell(self, family: Family, *labels: str) -> Cell:
        """Return the value of a counter or gauge."""
        try:
            return self._cells[family][labels]
        except KeyError:
            with self._adding:
                some = self._cells.setdefault(family, {})
                known = labels if len(some) < MOST_SERIES else (OTHER,) * len(labels)
                some[known] = made = some.get(known) or self._made(family, known)
                return made

    def histogram(self, family: Family, *labels: str) -> Histogram:
        """Return a distribution."""
        try:
            return self._histograms[family][labels]
        except KeyError:
            with self._adding:
                some = self._histograms.setdefault(family, {})
                known = labels if len(some) < MOST_SERIES else (OTHER,) * len(labels)
                if known not in some:
                    some[known] = Histogram(tuple(family.buckets), partial(self._made, family, known))
                return some[known]

    def read(self) -> dict[Key, float]:
        """Return all values."""
        return {key: cell.value for key, cell in list(self._kept.items())}

    def close(self) -> None:
        """Close the files. A process that ends needn't: what it has recorded is in them."""
        for file in (self._files or {}).values():
            file.close()  # type: ignore[no-untyped-call]  # as above

    def _made(self, family: Family, labels: tuple[str, ...], part: str = "") -> Cell:
        with self._adding:
            key = (family.name, labels, part)
            if key not in self._kept:
                file = None
                if self._files is not None:
                    file = self._files[GAUGES if family.kind == "gauge" else COUNTS]
                self._kept[key] = Cell(json.dumps(key), file)
            return self._kept[key]


FILES: Final = (COUNTS, GAUGES)


def _opened(path: Path) -> MmapedDict:
    return MmapedDict(path)  # type: ignore[no-untyped-call]  # as above


def path_of(folder: Path, kind: str, slot: str) -> Path:
    """Return the path of a slot's file of a kind (COUNTS or GAUGES)."""
    return folder / f"{kind}_{slot}.db"
