"""Check of the broker: whether it accepts a wake-up, and delivers it to a process that waits for one."""

import asyncio
import time
from contextlib import suppress
from typing import Final

from dramatiq.errors import DramatiqError
from pika.exceptions import AMQPError
from redis.exceptions import RedisError

from workers.operations.checks.check import Check
from workers.process import wake_up
from workers.process.broker_message import broker_message, broker_place
from workers.process.compose import make_broker
from workers.process.receiving import WakeUpsRefusedError
from workers.services.services import Services

BROKER_TIMEOUT_S: Final = 5.0
HEAR_MS: Final = 1_000

BROKER_FAILURES: Final = (DramatiqError, WakeUpsRefusedError, RedisError, AMQPError, OSError, ValueError)
"""Errors of a broker that is unreachable, refuses us, or isn't a broker; ValueError means that its URL is wrong."""

QUEUE: Final = "doctor"
"""Name of a queue to which no worker listens.

It begins like the others, so that a user's rights by name apply to it too.
"""


class UnheardError(TimeoutError):
    """Raised when a wake-up that was sent didn't arrive."""


async def check_broker(services: Services, installation: str) -> Check:
    """Send a wake-up as producers do, and wait for it as workers do."""
    scheme = services.broker_url.split(":", 1)[0]
    started_s = time.monotonic()
    advice = "check BROKER_URL or REDIS_URL; until then workers look once a second"
    for what, step in (
        ("doesn't accept a wake-up", _send),
        ("accepts a wake-up, and refuses to wait for one", _receive),
    ):
        try:
            async with asyncio.timeout(BROKER_TIMEOUT_S):
                await asyncio.to_thread(step, services.broker_url, installation)
        except BROKER_FAILURES as error:
            is_ours = isinstance(error, WakeUpsRefusedError | UnheardError)
            said = str(error) if is_ours else f"{broker_place(services.broker_url)} {broker_message(error)}"
            return Check("broker", "fail", f"{scheme} {what}: {said}", advice)
    took_ms = 1000 * (time.monotonic() - started_s)
    return Check("broker", "ok", f"{scheme} delivered a wake-up in {took_ms:.0f} ms")


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
        UnheardError: none arrived.
        WakeUpsRefusedError, BrokerError: the broker refuses to let this process wait.
    """
    broker = make_broker(url)
    try:
        if not wake_up.receive(broker, installation, QUEUE, timeout_ms=HEAR_MS):
            raise UnheardError(f"the wake-up that was sent didn't arrive within {HEAR_MS} ms")
    finally:
        with suppress(*BROKER_FAILURES):
            broker.flush(wake_up.broker_queue(installation, QUEUE))
        with suppress(*BROKER_FAILURES):
            broker.close()
