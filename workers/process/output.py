"""Forwarding of worker processes' stderr, line by line: JSON is forwarded unchanged, other text is logged as an event.

Our own lines are JSON. A process that dies with a traceback, or a C library in a pixel child, writes plain text, and a
log collector would treat each line of that text as a broken record.
"""

import os
import select
import sys
from typing import BinaryIO

from pydantic_core import from_json

from config.logger import EventLogger

PAUSE_S = 0.2
"""Lines that aren't JSON count as one text, such as a traceback, if each follows within this many seconds."""

CHUNK_BYTES = 65536

log = EventLogger(__name__)


def pass_on(pipe: BinaryIO) -> None:
    """Forward a worker's stderr until its end. Runs in a thread of its own."""
    with pipe:
        _Output().read(pipe.fileno())


class _Output:
    def __init__(self) -> None:
        self._events: list[str] = []
        self._foreign: list[str] = []

    def read(self, descriptor: int) -> None:
        rest = b""
        while True:
            if self._foreign and not select.select([descriptor], [], [], PAUSE_S)[0]:
                self._end_text()
                continue
            chunk = os.read(descriptor, CHUNK_BYTES)
            if not chunk:
                break
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._take(line.decode(errors="replace"))
            self._write_events()
        if rest:
            self._take(rest.decode(errors="replace"))
        self._write_events()
        self._end_text()

    def _take(self, line: str) -> None:
        if _is_object(line):
            self._end_text()
            self._events.append(line + "\n")
        elif line.strip() or self._foreign:
            self._write_events()
            self._foreign.append(line)

    def _write_events(self) -> None:
        sys.stderr.write("".join(self._events))
        sys.stderr.flush()
        self._events.clear()

    def _end_text(self) -> None:
        if self._foreign:
            log.warning("output_written", text="\n".join(self._foreign).rstrip())
            self._foreign.clear()


def _is_object(line: str) -> bool:
    try:
        return isinstance(from_json(line), dict)
    except ValueError:
        return False
