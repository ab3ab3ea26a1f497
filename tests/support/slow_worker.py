"""A worker with a slow provider; an entry point for dramatiq, as `workers.main` is.

The stages are the real ones. Its provider answers with a grey picture after
SLOW_S seconds, and writes a line per call to the file SLOW_CALLS, so that a
test can count what was bought. An object takes SLOW_PUT_S seconds to be stored,
from the line `storing` on.
"""

import asyncio
import os
from pathlib import Path

from pipelines.storage.file import FileStorage
from tests.support.scripted_provider import ScriptedProvider, lasting, stand_in
from workers.process import worker

OPENS = "tests.support.slow_worker:open_slow"


def open_slow(_settings, _pixels, _limits):
    return ScriptedProvider(lasting(float(os.environ["SLOW_S"])), note=note)


def note(what):
    with Path(os.environ["SLOW_CALLS"]).open("a") as calls:
        calls.write(f"{os.getpid()} {what}\n")


def store_slowly(slow_s):
    put = FileStorage.put

    async def put_slowly(*arguments):
        note("storing")
        await asyncio.sleep(slow_s)
        await put(*arguments)

    FileStorage.put = put_slowly


def main() -> None:
    stand_in(OPENS)
    if slow_s := os.environ.get("SLOW_PUT_S"):
        store_slowly(float(slow_s))
    worker.main()
