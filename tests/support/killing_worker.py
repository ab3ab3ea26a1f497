"""A worker with a job that kills its process; an entry point for dramatiq, as `workers.main` is.

The prompt `killer` ends the process by SIGKILL: the first process once it has as many calls in flight as KILLED_BESIDE
says, and each later one at once. All other calls of the first process last until then; later ones are answered at once.
"""

import asyncio
import os
import signal
from pathlib import Path

from tests.support.scripted_provider import ScriptedProvider, stand_in
from tests.support.slow_worker import note
from workers.process import worker


def calling_pids():
    """Return the process of each call so far, in order."""
    return [line.split()[0] for line in Path(os.environ["SLOW_CALLS"]).read_text().splitlines()]


async def answer(call):
    is_first_process = calling_pids()[0] == str(os.getpid())
    if "killer" in call.prompt.text:
        while is_first_process and len(calling_pids()) < int(os.environ["KILLED_BESIDE"]):  # noqa: ASYNC110 - other jobs write the file
            await asyncio.sleep(0.02)
        os.kill(os.getpid(), signal.SIGKILL)
    if is_first_process:
        await asyncio.sleep(600)


def open_killing(_settings, _pixels, _limits):
    return ScriptedProvider(answer, is_paid=False, note=lambda what: note(what) if what == "generate" else None)


def main() -> None:
    stand_in("tests.support.killing_worker:open_killing")
    worker.main()
