"""A worker whose provider does what a prompt says; an entry point for dramatiq, as `workers.main` is.

The stages are the real ones. A prompt names its job as `<JOB>`, and what becomes of a picture as `[NUMBER:WHAT]`:

- `hang`: the first call for this picture lasts for ever; `late`: it takes two seconds; `slow`: each takes half a second
- `down`: the first call fails as a service does that is down; `refused`: each is refused
- `dies`: the process is killed before it would make the first call

Other calls are answered at once, with a grey picture. A line per call (`call JOB NUMBER`) and one per picture
(`picture JOB NUMBER`) are written to the file SLOW_CALLS, so that a test can count what was bought.
"""

import asyncio
import os
import re
import signal
from pathlib import Path
from typing import Final

from pipelines.errors import PolicyRefusedError, ProviderUnavailableError
from pipelines.imaging.header import DecodeLimits, read_header
from tests.support.scripted_provider import ScriptedProvider, stand_in
from workers.process import worker

OPENS: Final = "tests.support.studio_worker:open_obeying"


def open_obeying(_settings, _pixels, _limits):
    """Open it as the registry opens providers."""
    return ScriptedProvider(obey, preparing=prepared)


async def prepared(call):
    """Refuse what isn't a picture, as providers do that decode what they send; and die where a prompt says so."""
    for image in call.images:
        read_header(image.data, DecodeLimits())
    job, number, what = said(call)
    if what == "dies" and _note(f"dying {job} {number}") == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def said(call):
    """Return the job of a call, the number of its picture, and what its prompt says of it."""
    text, number = call.prompt.text, call.prompt.number
    return re.search(r"<([^>]+)>", text)[1], number, dict(re.findall(r"\[(\d):(\w+)\]", text)).get(str(number))


async def obey(call):
    """Do what the call's prompt says of its picture."""
    job, number, what = said(call)
    is_first = _note(f"call {job} {number}") == 1
    if what == "hang" and is_first:
        await asyncio.Event().wait()
    elif what == "late" and is_first:
        await asyncio.sleep(2)
    elif what == "slow":
        await asyncio.sleep(0.5)
    elif what == "down" and is_first:
        return ProviderUnavailableError("the service is down")
    elif what == "refused":
        return PolicyRefusedError("refused", category="SAFETY")
    _note(f"picture {job} {number}")
    return None


def _note(what):
    """Append a line; return how many lines say the same now."""
    with Path(os.environ["SLOW_CALLS"]).open("a+") as notes:
        notes.write(f"{what}\n")
        notes.seek(0)
        return notes.read().splitlines().count(what)


def main() -> None:
    stand_in(OPENS)
    worker.main()
