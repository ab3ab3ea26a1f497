"""Reaping what becomes our child without our having started it: orphans of killed workers, under PID 1.

In a container the supervisor may be process 1, and then every orphan is its child when its parent dies. Nobody else
waits for those, and each that isn't waited for keeps a place in the process table.
"""

import contextlib
import ctypes
import os
import sys
from collections.abc import Collection

import psutil

_PR_GET_CHILD_SUBREAPER = 37


def adopts_orphans() -> bool:
    """Say whether orphans become children of this process: it is process 1, or was made a subreaper."""
    if os.getpid() == 1:
        return True
    if sys.platform != "linux":
        return False
    is_subreaper = ctypes.c_int(0)
    ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(is_subreaper))
    return bool(is_subreaper.value)


class Reaper:
    """Waits for dead children that nobody of this process waits for."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def look(self, own: Collection[int]) -> list[int]:
        """Reap the children that were dead at the look before too; return their process ids.

        Whoever of this process started a child waits for it at once, so that one that is still there at the next look
        is an orphan.

        Args:
            own: children that somebody does wait for, in his own time: their exit codes are left to him.
        """
        dead: set[int] = set()
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.Error):
                if child.pid not in own and child.status() == psutil.STATUS_ZOMBIE:
                    dead.add(child.pid)
        reaped = [pid for pid in dead & self._seen if _reap(pid)]
        self._seen = dead.difference(reaped)
        return reaped


def _reap(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False
