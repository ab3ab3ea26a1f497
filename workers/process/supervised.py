"""The end of processes whose supervisor is gone: they end within seconds, whatever they are doing.

They learn of it by a pipe, whose writing end only the supervisor holds: the kernel closes it however the supervisor
dies. The end of a pipe is a state and not an event, so a process that begins to watch later sees it too. See
docs/decisions/0131-a-pipe-tells-of-the-supervisors-end.md.
"""

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable

from config.logger import EventLogger

SUPERVISOR_FD = "WORKER_SUPERVISOR_FD"
"""Environment variable: the descriptor of the pipe's reading end. Nothing is ever written to the pipe."""

ORPHAN_S = 6.0
"""Seconds in which a process without a supervisor may release its jobs; then its whole process group is killed."""

HEADLESS_S = 5.0
"""Seconds that threads may outlive the main thread: dramatiq's event loop thread would never end by itself."""

HEADLESS_EXIT_CODE = 71
LOOK_S = 1.0

log = EventLogger(__name__)


class Supervised:
    """Watches for the supervisor's end, in dramatiq's master and in the worker that it forks.

    Attributes:
        is_orphaned: whether the supervisor, or a worker's master, is gone.
        hurried_s: when this process was told to end soon, by the monotonic clock; None until then.
    """

    def __init__(self) -> None:
        """Create the watcher; nothing is watched yet."""
        self.is_orphaned = False
        self.hurried_s: float | None = None
        self._hearers: list[Callable[[], None]] = []
        self._hearing = threading.RLock()  # a signal's handler may interrupt itself

    def when_hurried(self, hear: Callable[[], None]) -> None:
        """Register a function that is called when this process must end soon, or at once if it must already.

        It may be called in any thread.
        """
        with self._hearing:
            self._hearers.append(hear)
            if self.hurried_s is not None:
                hear()

    def hurry(self) -> None:
        """Tell this process, once, to end soon: provider calls get no grace."""
        with self._hearing:
            if self.hurried_s is None:
                self.hurried_s = time.monotonic()
                for hear in self._hearers:
                    hear()

    def watch(self, *descriptors: int) -> None:
        """Watch pipes, in a thread of its own that receives none of this process's signals."""
        signals = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            threading.Thread(target=self._watch, args=(descriptors,), name="supervised", daemon=True).start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, signals)

    def _watch(self, descriptors: tuple[int, ...]) -> None:
        pipes = select.poll()
        for descriptor in descriptors:
            pipes.register(descriptor, select.POLLIN)
        headless_since_s: float | None = None
        while not pipes.poll(LOOK_S * 1000):
            if threading.main_thread().is_alive():
                continue
            headless_since_s = headless_since_s or time.monotonic()
            if time.monotonic() - headless_since_s > HEADLESS_S:
                log.error("worker_headless")
                os._exit(HEADLESS_EXIT_CODE)
        self.is_orphaned = True
        with contextlib.suppress(RuntimeError):  # the function's event loop is closed, so the process ends already
            self.hurry()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(ORPHAN_S)
        os.killpg(0, signal.SIGKILL)  # the supervisor gave the master a session of its own


supervised = Supervised()
"""The watcher of this process."""
