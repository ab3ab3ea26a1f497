"""Entry point of a worker whose stages, gate and storage are the real ones, and whose paid provider answers at once.

Its pictures are finished ones of 64 pixels, so that no time goes into pixels. One generation in a hundred is refused
for good, counted in each process, so that its job is refunded.
"""

import itertools
from decimal import Decimal

from pipelines.errors import PolicyRefusedError
from pipelines.imaging.header import DecodeLimits
from pipelines.imaging.pool import PixelPool
from pipelines.providers.calls import Answer, Usage
from pipelines.providers.provider import EncodedImage
from pipelines.settings import Settings
from tests.support.scripted_provider import Call, ScriptedProvider, grey, stand_in
from workers.process import worker

REFUSED_EVERY = 100
PICTURE = EncodedImage(grey(64), is_finished=True)
ANSWER = Answer(PICTURE, "scripted-1", Usage(images=1, cost_usd=Decimal("0.25")), temperature=0.4)


def open_instant(_settings: Settings, _pixels: PixelPool, _limits: DecodeLimits) -> ScriptedProvider:
    numbers = itertools.count(1)

    def end(_call: Call) -> object:
        provider.calls.clear()  # otherwise the pictures of all calls would stay in memory
        is_refused = next(numbers) % REFUSED_EVERY == 0
        return PolicyRefusedError("refused by policy", category="SAFETY") if is_refused else ANSWER

    provider = ScriptedProvider(end)
    return provider


def main() -> None:
    stand_in("bench.instant_worker:open_instant")
    worker.main()
