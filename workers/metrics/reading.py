"""Reading of the files in which the processes of a worker keep their values."""

import json
import mmap
import os
import struct
from functools import lru_cache
from pathlib import Path
from typing import Final

from workers.metrics.values import Key

_DOUBLE_BYTES: Final = 8
_HEADER_BYTES: Final = 8
_ENTRY_VALUES_BYTES: Final = 16
_LENGTH: Final = struct.Struct("i")


class _File:
    """A file that is read again and again. Its entries never move, so only new ones are parsed.

    The format is that of prometheus_client's MmapedDict: the number of bytes in use, then entries, each of the length
    of its key, the key, filled up to a multiple of 8 bytes, and two doubles: its value and a time.
    """

    def __init__(self) -> None:
        self._inode = 0
        self._size = 0
        self._used = _HEADER_BYTES
        self._map: mmap.mmap | None = None
        self.keys: list[str] = []
        self.places: list[int] = []

    def values(self, path: Path) -> "memoryview[float] | None":
        """Return the file as doubles, of which `places` are the values of `keys`; None if it has none yet.

        Raises:
            FileNotFoundError: it was removed.
        """
        found = path.stat()
        if found.st_ino != self._inode:  # another process makes it anew
            self.__init__()  # type: ignore[misc]  # begins again
            self._inode = found.st_ino
        if found.st_size < _HEADER_BYTES:  # its process is making it
            return None
        if found.st_size != self._size or self._map is None:
            with path.open("rb") as file:
                self._size = os.fstat(file.fileno()).st_size
                self._map = mmap.mmap(file.fileno(), self._size, access=mmap.ACCESS_READ)
        self._read_new_entries(self._map)
        return memoryview(self._map).cast("d")

    def _read_new_entries(self, data: mmap.mmap) -> None:
        used = min(_LENGTH.unpack_from(data, 0)[0], self._size)
        place = self._used
        while place < used:
            length = _LENGTH.unpack_from(data, place)[0]
            begin = place + _LENGTH.size
            place = begin + length + _DOUBLE_BYTES - (length + _LENGTH.size) % _DOUBLE_BYTES
            self.keys.append(data[begin : begin + length].decode())
            self.places.append(place // _DOUBLE_BYTES)
            place += _ENTRY_VALUES_BYTES
        self._used = max(self._used, place)


class Reader:
    """Adds up the values in the files of a folder. Used by one thread at a time."""

    def __init__(self, folder: Path) -> None:
        """Store the folder."""
        self._folder = folder
        self._files: dict[Path, _File] = {}

    def read(self) -> dict[Key, float]:
        """Return the sums of the values in all files."""
        sums: dict[str, float] = {}
        get = sums.get
        paths = sorted(self._folder.glob("*.db"))
        self._files = {path: self._files.get(path) or _File() for path in paths}
        for path, file in self._files.items():
            try:
                values = file.values(path)
            except FileNotFoundError:  # its process has just died
                continue
            if values is None:
                continue
            for key, place in zip(file.keys, file.places, strict=True):
                sums[key] = get(key, 0.0) + values[place]
        return {_key(text): value for text, value in sums.items()}


@lru_cache(maxsize=100_000)
def _key(text: str) -> Key:
    name, labels, part = json.loads(text)
    return name, tuple(labels), part
