"""The tests' own provider needs no fake server: its script decides what it answers."""

import contextlib
from datetime import timedelta
from typing import ClassVar

from pipelines.errors import ThrottledError
from tests.contract.providers.server import FAILURES
from tests.support.scripted_provider import ScriptedProvider

OPENS = f"{__name__}:open_told"
told: list[BaseException] = []
noted: list[str] = []


def open_told(_settings, _pixels, _limits):
    return ScriptedProvider(lambda _call: told.pop() if told else None, note=noted.append)


class FakeServer(contextlib.nullcontext):
    settings: ClassVar[dict] = {}

    def __enter__(self):
        told.clear()
        noted.clear()
        return self

    @property
    def sent(self):
        return len(noted) - noted.count("generated")

    def fail_with(self, failure):
        kind, _ = FAILURES[failure]
        told.append(
            kind(failure, retry_after=timedelta(seconds=7))
            if kind is ThrottledError
            else kind(failure, **({"category": "SAFETY"} if failure == "refused by policy" else {}))
        )
