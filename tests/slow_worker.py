"""A worker whose provider takes its time: an entry point for dramatiq, like workers.main.

The stages are the real ones. Its provider answers with a grey picture after
SLOW_S seconds, and writes a line per call to the file SLOW_CALLS, so that a
test can count what was bought.
"""

import os
from pathlib import Path

from tests.scripted_provider import ScriptedProvider, lasting, stand_in
from workers.process import worker

OPENS = "tests.slow_worker:open_slow"


def open_slow(_settings, _pixels, _limits):
    return ScriptedProvider(lasting(float(os.environ["SLOW_S"])), note=note)


def note(what):
    with Path(os.environ["SLOW_CALLS"]).open("a") as calls:
        calls.write(f"{os.getpid()} {what}\n")


def main() -> None:
    stand_in(OPENS)
    worker.main()
