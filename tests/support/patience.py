"""How long tests wait: for what must happen sooner or later, and for what must happen within a promised time."""

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Final

HANGS_AFTER_S: Final = 300.0
"""Seconds after which a test no longer waits for what should happen by itself: it hangs.

This is no measure of speed. Tests also run on machines that are several times slower and that other programs keep busy,
so it is far above what anything takes.
"""

_SAMPLE_CPU_S: Final = 0.2


def slowness() -> float:
    """Return how many times longer work takes now than it would if nothing else ran on this machine; at least 1.

    The larger of two measures is taken: processes that want to run or wait for a disk, per processor, on average over
    the last minute; and the wall time of a short computation, divided by its CPU time.
    """
    waiting = os.getloadavg()[0] / (os.cpu_count() or 1)
    began_s, began_cpu_s = time.monotonic(), time.thread_time()
    while (took_cpu_s := time.thread_time() - began_cpu_s) < _SAMPLE_CPU_S:
        sum(range(1_000))
    return max(1.0, waiting, (time.monotonic() - began_s) / took_cpu_s)


def is_within(took_s: float, promised_s: float) -> bool:
    """Return whether something took no longer than promised, or than that would be on a machine as busy as this one."""
    return took_s <= promised_s or took_s <= promised_s * slowness()


@contextlib.contextmanager
def within(promised_s: float) -> Iterator[None]:
    """Fail if what is done in the context takes longer than promised, as `is_within` has it."""
    began_s = time.monotonic()
    yield
    took_s = time.monotonic() - began_s
    assert is_within(took_s, promised_s), f"it took {took_s:.2f} s, and {promised_s:g} s are promised"
