"""Does the broker do what producers and workers ask of it: take a bell, and give it to whoever waits for one?"""

import asyncio
import time
from contextlib import suppress
from typing import Final

from config.embedded.services import Services
from workers.operations.checks.check import Check
from workers.process import wake_up

BROKER_TIMEOUT_S: Final = 10.0
HEAR_MS: Final = 1_000

BELL: Final = "doctor"
"""A queue's name that no worker takes from, under the same prefix as theirs: rights by name hold for it too."""


async def check_broker(services: Services, installation: str) -> Check:
    """Ring a bell of our own as producers do, and wait for it as workers do."""
    scheme = services.broker_url.split(":", 1)[0]
    started_s = time.monotonic()
    advice = "check BROKER_URL or REDIS_URL; until then workers look once a second"
    for what, step in (("doesn't take a bell", _ring), ("takes a bell, and refuses to wait for one", _hear)):
        try:
            await asyncio.wait_for(asyncio.to_thread(step, services.broker_url, installation), BROKER_TIMEOUT_S)
        except Exception as error:  # noqa: BLE001 - each broker has errors of its own, and a diagnosis reports them all
            return Check("broker", "fail", f"{scheme} {what}: {str(error) or type(error).__name__}", advice)
    took_ms = 1000 * (time.monotonic() - started_s)
    return Check("broker", "ok", f"{scheme} took a bell and gave it in {took_ms:.0f} ms")


def _ring(url: str, installation: str) -> None:
    broker = wake_up.make_broker(url, middleware=[])
    try:
        wake_up.ring(broker, installation, BELL)
    finally:
        with suppress(Exception):
            broker.close()


def _hear(url: str, installation: str) -> None:
    """Hear the bell that was rung.

    Raises:
        TimeoutError: nothing came.
        BellsRefusedError, BrokerError: the broker doesn't let us wait.
    """
    broker = wake_up.make_broker(url, middleware=[])
    try:
        if not wake_up.hear(broker, installation, BELL, timeout_ms=HEAR_MS):
            raise TimeoutError(f"the bell that was rung wasn't heard within {HEAR_MS} ms")
    finally:
        with suppress(Exception):
            broker.flush(wake_up.bell_name(installation, BELL))
        with suppress(Exception):
            broker.close()
