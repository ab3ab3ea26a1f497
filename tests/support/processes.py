"""Whether a process still runs."""

import contextlib

import psutil


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process runs: it hasn't ended, and isn't a zombie. It may end while this is asked."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
