"""Entry point of a worker whose paid provider answers after PACED_S seconds, with a finished picture of 64 pixels.

Stages, gate and storage are the real ones.
"""

import os
from decimal import Decimal

from pipelines.imaging.header import DecodeLimits
from pipelines.imaging.pool import PixelPool
from pipelines.providers.calls import Answer, Usage
from pipelines.providers.provider import EncodedImage
from pipelines.settings import Settings
from tests.support.scripted_provider import Call, ScriptedProvider, grey, lasting, stand_in
from workers.process import worker

PICTURE = EncodedImage(grey(64), is_finished=True)
ANSWER = Answer(PICTURE, "scripted-1", Usage(images=1, cost_usd=Decimal("0.25")), temperature=0.4)


def open_paced(_settings: Settings, _pixels: PixelPool, _limits: DecodeLimits) -> ScriptedProvider:
    wait = lasting(float(os.environ["PACED_S"]))

    async def end(call: Call) -> Answer[EncodedImage]:
        provider.calls.clear()  # otherwise the pictures of all calls would stay in memory
        await wait(call)
        return ANSWER

    provider = ScriptedProvider(end)
    return provider


def main() -> None:
    stand_in("bench.paced_worker:open_paced")
    worker.main()
