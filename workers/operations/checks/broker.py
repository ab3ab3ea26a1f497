"""Does the broker do what producers and workers ask of it: take a wake-up, and give it to whoever waits for one?"""

import asyncio
import time
from contextlib import suppress
from typing import Final

from dramatiq.errors import DramatiqError
from pika.exceptions import AMQPError
from redis.exceptions import RedisError

from workers.operations.checks.check import Check
from workers.process import wake_up
from workers.process.broker_words import broker_place, broker_words
from workers.process.compose import make_broker
from workers.process.wake_up import WakeUpsRefusedError
from workers.services.services import Services

BROKER_TIMEOUT_S: Final = 5.0
HEAR_MS: Final = 1_000

BROKER_FAILURES: Final = (DramatiqError, WakeUpsRefusedError, RedisError, AMQPError, OSError, ValueError)
"""What a broker that isn't there, refuses us, or answers something else ends in; ValueError is of its URL."""

QUEUE: Final = "doctor"
"""A queue's name that no worker takes from, under the same prefix as theirs: rights by name hold for it too."""


class UnheardError(TimeoutError):
    """A wake-up that was sent didn't come."""


async def check_broker(services: Services, installation: str) -> Check:
    """Send a wake-up of our own as producers do, and wait for it as workers do."""
    scheme = services.broker_url.split(":", 1)[0]
    started_s = time.monotonic()
    advice = "check BROKER_URL or REDIS_URL; until then workers look once a second"
    for what, step in (("doesn't take a bell", _send), ("takes a bell, and refuses to wait for one", _receive)):
        try:
            async with asyncio.timeout(BROKER_TIMEOUT_S):
                await asyncio.to_thread(step, services.broker_url, installation)
        except BROKER_FAILURES as error:
            is_ours = isinstance(error, WakeUpsRefusedError | UnheardError)
            said = str(error) if is_ours else f"{broker_place(services.broker_url)} {broker_words(error)}"
            return Check("broker", "fail", f"{scheme} {what}: {said}", advice)
    took_ms = 1000 * (time.monotonic() - started_s)
    return Check("broker", "ok", f"{scheme} took a bell and gave it in {took_ms:.0f} ms")


def _send(url: str, installation: str) -> None:
    broker = make_broker(url)
    try:
        wake_up.send(broker, installation, QUEUE)
    finally:
        with suppress(*BROKER_FAILURES):
            broker.close()


def _receive(url: str, installation: str) -> None:
    """Receive the wake-up that was sent.

    Raises:
        UnheardError: nothing came.
        WakeUpsRefusedError, BrokerError: the broker doesn't let us wait.
    """
    broker = make_broker(url)
    try:
        if not wake_up.receive(broker, installation, QUEUE, timeout_ms=HEAR_MS):
            raise UnheardError(f"the bell that was rung wasn't heard within {HEAR_MS} ms")
    finally:
        with suppress(*BROKER_FAILURES):
            broker.flush(wake_up.broker_queue(installation, QUEUE))
        with suppress(*BROKER_FAILURES):
            broker.close()
