"""The folder of a worker's metrics: its processes write files, which its supervisor adds up and removes."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from workers.metrics.reading import Reader
from workers.metrics.values import GAUGES, Key, path_of

_PREFIX: Final = "darkroom-metrics-"
_LOCK: Final = "lock"


class MetricsFolder:
    """A new folder that only this supervisor and its processes use.

    It is locked while the supervisor lives. A supervisor that was killed leaves its folder; the next one on this
    machine never reads it, and removes it.
    """

    def __init__(self, parent: Path | None = None) -> None:
        """Make the folder, below `parent` or the system's folder for temporary files, and remove what others left."""
        above = Path(tempfile.gettempdir()) if parent is None else parent
        _sweep(above)
        made = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=above))  # by this name nobody else looks at it
        self._lock = os.open(made / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.path = made.rename(above / made.name.removeprefix("."))
        self._reader = Reader(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def read(self) -> Mapping[Key, float]:
        """Return the values of all processes together."""
        return self._reader.read()

    def forget_gauges(self, slot: str) -> None:
        """Remove the gauges of a process that is dead; its counters stay, and its successor continues them."""
        path_of(self.path, GAUGES, slot).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder. Idempotent."""
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):  # it was closed before
            os.close(self._lock)
        self._lock = -1


def _sweep(above: Path) -> None:
    """Remove the folders of supervisors that are dead."""
    for path in above.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, or being removed
            if path.stat().st_uid == os.getuid() and _is_left(path):
                shutil.rmtree(path, ignore_errors=True)


def _is_left(path: Path) -> bool:
    lock = os.open(path / _LOCK, os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True
