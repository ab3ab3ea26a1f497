"""Advisory locks on files. They belong to the open file: the kernel frees them when their last holder ends."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

# Short compared with a server's start, long compared with the cost of a check
POLL_S: Final = 0.005


def open_lock(path: Path) -> int:
    """Open a lock file, creating it if it is missing, and return its descriptor; children don't inherit it."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def try_lock(descriptor: int, *, exclusive: bool) -> bool:
    """Try to take the lock; return whether it is held now. A shared lock that is held becomes exclusive in one step."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(descriptor: int) -> None:
    """Release a lock and keep its file open."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock exclusively.

    It is found out by trying a shared lock, so that two processes that do this at once don't disturb each other.
    """
    if not path.exists():
        return False
    descriptor = open_lock(path)
    try:
        return not try_lock(descriptor, exclusive=False)
    finally:
        os.close(descriptor)


@contextmanager
def exclusive_lock(path: Path, *, timeout_s: float) -> Iterator[int]:
    """Hold the lock on `path` exclusively in the context; yield its descriptor.

    Raises:
        TimeoutError: other processes held the lock until the time was over.
    """
    descriptor = open_lock(path)
    try:
        if not wait_until(lambda: try_lock(descriptor, exclusive=True), timeout_s=timeout_s):
            raise TimeoutError(f"{path} was locked by another process for {timeout_s:g} s")
        yield descriptor
    finally:
        os.close(descriptor)


def wait_until(condition: Callable[[], bool], *, timeout_s: float) -> bool:
    """Wait until a condition holds, checked at once and then every few milliseconds.

    Return whether it held before the time was over.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)
    return True
