"""Reaping of orphaned processes when this process is process 1, whose children they become.

In a container a command may be process 1, and then every process whose parent dies becomes its child: pixel children of
a killed worker, or processes that `docker exec` left. No other process waits for them, and a dead process for which
nobody waits stays in the process table.
"""

import ctypes
import os
import sys
import threading
import time

_PR_GET_CHILD_SUBREAPER = 37
LOOK_S = 1.0
SOON_S = 0.1
"""Seconds until the next check after one that reaped an orphan: a killed worker leaves several at once."""


def _adopts_orphans() -> bool:
    """Return whether orphans become children of this process, because it is process 1 or was made a subreaper."""
    if os.getpid() == 1:
        return True
    if sys.platform != "linux":
        return False
    is_subreaper = ctypes.c_int(0)
    ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(is_subreaper))
    return bool(is_subreaper.value)


class Reaper:
    """Waits for dead children for which no other code of this process waits.

    Attributes:
        own: children for which other code waits; their exit codes are left to it.
    """

    def __init__(self) -> None:
        """Create a reaper that knows no children."""
        self.own: set[int] = set()
        self._first: int | None = None
        self._has_begun = False
        self._beginning = threading.Lock()

    def begin(self) -> None:
        """Start a thread that reaps orphans, if orphans become children of this process."""
        with self._beginning:
            if not self._has_begun and _adopts_orphans():
                threading.Thread(target=self._look_again_and_again, name="reaper", daemon=True).start()
            self._has_begun = True

    def look(self) -> list[int]:
        """Reap children that were dead already at the previous call of `look`; return their process ids.

        Code of this process that starts a child waits for it at once, so a dead child that is still there at the next
        call is an orphan. The kernel shows one dead child at a time, and /proc isn't used, since it may belong to
        another namespace.
        """
        reaped = []
        while (dead := _dead_child()) is not None and dead not in self.own:
            if dead != self._first:
                self._first = dead
                break
            self._first = None
            reaped += _reap(dead)
        return reaped

    def _look_again_and_again(self) -> None:
        reaped: list[int] = []
        while True:
            time.sleep(SOON_S if reaped else LOOK_S)
            reaped = self.look()


reaper = Reaper()
"""The reaper of this process."""


def _dead_child() -> int | None:
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # this process has no child
        return None
    return None if found is None else found.si_pid


def _reap(pid: int) -> list[int]:
    try:
        return [pid] if os.waitpid(pid, os.WNOHANG)[0] == pid else []
    except ChildProcessError:  # other code has waited for it after all
        return []
