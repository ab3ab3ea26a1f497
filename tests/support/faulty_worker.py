"""A worker with real faults; an entry point for dramatiq, as `workers.main` is.

A text-to-image job meets the faults that its prompt names, in real pixel children and on the real event loop; with
`once` in the prompt only the first time. STUCK_LOOP_S sets after how long the event loop counts as stuck.
"""

import contextlib
import errno
import os
import resource
import signal
import time
from pathlib import Path

from pipelines.imaging.pool import PixelPool
from tests.support import imaging_tasks as tasks
from tests.support.scripted_provider import ScriptedProvider, lasting, stand_in
from tests.support.slow_worker import note
from workers.process import lease, worker


def compute(seconds):
    """Block the event loop by computing, without a pause."""
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        pass


def refuse(error):
    """Raise the error of the operating system for something that it refuses."""
    raise error


async def start_child_without_files():
    """Start a pixel child while this process may open no more files."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 8, before[1]))  # noqa: PTH208
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        async with PixelPool(size=1) as pool:
            await pool.run(tasks.sleep, 0)
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


FAULTS = {
    "child burns CPU": lambda pixels: pixels.run(tasks.spin, 600, cpu_s=1),
    "child swells": lambda pixels: pixels.run(tasks.allocate, 4_000_000_000),
    "child crashes": lambda pixels: pixels.run(tasks.end_by, signal.SIGSEGV),
    "child sleeps": lambda pixels: pixels.run(tasks.sleep, 600, wall_s=0.5),
    "child works long": lambda pixels: pixels.run(tasks.spin, 600, cpu_s=600, wall_s=600),
    "loop sticks": lambda _pixels: time.sleep(600),
    "loop is blocked": lambda _pixels: compute(5),
}

EARLY_FAULTS = {
    "disk is full": lambda _pixels: refuse(OSError(errno.ENOSPC, "No space left on device")),
    "files run out": lambda _pixels: start_child_without_files(),
    "memory is gone": lambda _pixels: refuse(MemoryError()),
    "file is locked": lambda _pixels: refuse(PermissionError(errno.EACCES, "Permission denied", "/etc/shadow")),
}
"""Of a call that isn't sent yet."""


def is_counted(name):
    return name.replace(" ", "_") in Path(os.environ["SLOW_CALLS"]).read_text()


def open_faulty(_settings, pixels, _limits):
    """Open the provider whose calls meet the faults that their prompts name."""

    async def meet(faults, words):
        for name, fault in faults.items():
            if name in words and not ("once" in words and is_counted(name)):
                note(name.replace(" ", "_"))
                if work := fault(pixels):
                    await work

    async def prepare(call):
        if call.purpose == "generate":
            await meet(EARLY_FAULTS, call.prompt.text)

    async def fail_first(call):
        await meet(FAULTS, call.prompt.text)
        return lasting(float(os.environ["SLOW_S"]))

    return ScriptedProvider(fail_first, preparing=prepare, note=note)


def main() -> None:
    stand_in("tests.support.faulty_worker:open_faulty")
    lease.STUCK_LOOP_S = float(os.environ.get("STUCK_LOOP_S", lease.STUCK_LOOP_S))
    worker.main()
