"""Faults inside a worker or a scheduler: a storage that fails, and a clock that jumps.

A control file says what is wrong now; each process looks at it before it
believes its storage or its clock.
"""

import errno
import json
import os
import time
from datetime import datetime
from pathlib import Path

from pipelines.providers.gemini import errors
from pipelines.storage import file

CONTROL = "CHAOS_CONTROL"
"""Environment variable: the path of the control file, `{"storage": "refused" | "full" | "slow", "clock_s": 60}`."""

LOOK_S = 0.2
SLOW_S = 1.0

_real_time = time.time


class Control:
    """The control file, read again when it has changed."""

    def __init__(self, path: Path):
        self._path = path
        self._looked_s = float("-inf")
        self._said = {}

    def __getitem__(self, name):
        now_s = time.monotonic()
        if now_s - self._looked_s > LOOK_S:
            self._looked_s = now_s
            try:
                self._said = json.loads(self._path.read_text())
            except (OSError, ValueError):
                self._said = {}
        return self._said.get(name)


class FaultyOs:
    """The `os` of file storage. Its errors are the kernel's own, so that what translates them is real."""

    def __init__(self, control):
        self._control = control

    def __getattr__(self, name):
        return getattr(os, name)

    def open(self, *args, **kwargs):
        if self._control["storage"] == "refused":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return os.open(*args, **kwargs)

    def fsync(self, descriptor):
        match self._control["storage"]:
            case "full":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            case "slow":
                time.sleep(SLOW_S)
        os.fsync(descriptor)


def install():
    """Put the seams in, for as long as the process lives."""
    control = Control(Path(os.environ[CONTROL]))

    def stepped_time():
        return _real_time() + (control["clock_s"] or 0)

    class SteppedDatetime(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.fromtimestamp(stepped_time(), tz)

    time.time = stepped_time
    errors.datetime = SteppedDatetime
    file.os = FaultyOs(control)
