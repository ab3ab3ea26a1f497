"""Wake-ups: messages that name a queue, sent when it has new jobs, and received by idle workers.

dramatiq provides the processes, the threads and the choice of broker. The consumers are ours, for Redis because
dramatiq's own polls, and takes 300 ms instead of 3, for RabbitMQ see `workers.process.rabbitmq`. A lost wake-up delays
jobs by a second, a doubled one causes a look that finds none. Names in the broker are shared with processes of other
releases, so they keep the words `bell` and `ring`.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, cast

import dramatiq
import redis
from dramatiq.broker import Broker, Consumer, MessageProxy
from dramatiq.errors import BrokerError, ConnectionClosed
from typing_extensions import override

from config.logger import EventLogger
from workers.process.broker_message import broker_message, broker_place
from workers.process.rabbitmq import RabbitListener, RabbitWakeUps
from workers.process.receiving import DEAF_S, MOST_WAITING, Lanes, WakeUpsRefusedError

ACTOR_PREFIX = "ring_"
KEY_PREFIX = "darkroom:bell:"


SEND_S = 1.0

LISTEN_S = 10.0

log = EventLogger(__name__)


def broker_queue(installation: str, queue: str) -> str:
    """Return the name that a queue's wake-ups have in Redis and in RabbitMQ.

    `installation` is the id that `db upgrade` recorded: several installations may share one Redis or RabbitMQ, and must
    not receive each other's wake-ups.
    """
    return f"darkroom_{installation}_{queue}"


class RedisWakeUps(Broker):
    """A dramatiq broker whose queues are lists of wake-ups in Redis."""

    def __init__(self, url: str, *, middleware: list[dramatiq.Middleware], lanes: Lanes | None = None) -> None:
        super().__init__(middleware=middleware)
        # A sender gives up on a Redis that hangs; a listener waits for as long as dramatiq asks
        self._sender = redis.Redis.from_url(url, socket_timeout=SEND_S, socket_connect_timeout=SEND_S)
        self._client = redis.Redis.from_url(
            url, socket_timeout=LISTEN_S, socket_connect_timeout=LISTEN_S, health_check_interval=30
        )
        self._lanes = lanes or Lanes()

    @override
    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 1000) -> Consumer:
        """Return a consumer of one queue's wake-ups; `timeout` is in milliseconds."""
        return RedisListener(self._client, queue_name, timeout / 1000, self._lanes)

    @override
    def declare_queue(self, queue_name: str) -> None:
        """Register a queue name with dramatiq. Redis needs no declaration."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues[queue_name] = None
            self.emit_after("declare_queue", queue_name)

    @override
    def enqueue(self, message: dramatiq.Message[Any], *, delay: int | None = None) -> dramatiq.Message[Any]:
        """Send a wake-up once.

        Raises:
            ConnectionClosed: Redis doesn't answer.
        """
        key = KEY_PREFIX + message.queue_name
        try:
            with self._sender.pipeline(transaction=False) as pipeline:
                pipeline.lpush(key, message.encode())
                pipeline.ltrim(key, 0, MOST_WAITING - 1)
                pipeline.execute()
        except redis.RedisError as error:
            raise ConnectionClosed(error) from error  # type: ignore[no-untyped-call]  # dramatiq left it untyped
        return message

    @override
    def flush(self, queue_name: str) -> None:
        """Delete the wake-ups of one queue."""
        self._client.delete(KEY_PREFIX + queue_name)

    @override
    def flush_all(self) -> None:
        """Delete every wake-up."""
        for queue_name in self.queues:
            self.flush(queue_name)

    @override
    def join(self, queue_name: str, *, timeout: int | None = None) -> None:
        """Return at once, because a wake-up isn't work to wait for."""

    @override
    def close(self) -> None:
        """Close the connections."""
        self._sender.close()
        self._client.close()


class RedisListener(Consumer):
    """Waits for wake-ups, while this process has a free lane."""

    def __init__(self, client: "redis.Redis", queue_name: str, timeout_s: float, lanes: Lanes) -> None:
        self._client = client
        self._key = KEY_PREFIX + queue_name
        self._timeout_s = timeout_s
        self._lanes = lanes
        self._deaf_until_s = float("-inf")

    @override
    def __next__(self) -> MessageProxy | None:
        """Return the next wake-up; None after the timeout, or while no lane is free.

        Raises:
            ConnectionClosed: Redis doesn't answer; dramatiq listens again some seconds later.
        """
        if not self._lanes.wait(self._timeout_s):
            return None
        if time.monotonic() < self._deaf_until_s:
            time.sleep(self._timeout_s)
            return None
        try:
            received = self.pop()
        except WakeUpsRefusedError as error:
            if self._deaf_until_s < 0:
                log.error("bells_refused", error=str(error))  # noqa: TRY400 - the refusal is Redis's, not our stack's
            self._deaf_until_s = time.monotonic() + DEAF_S
            return None
        self._deaf_until_s = float("-inf")
        return received

    def pop(self) -> MessageProxy | None:
        """Wait for a wake-up, whether a lane is free or not.

        Raises:
            WakeUpsRefusedError: the user of the URL may not wait for messages.
            ConnectionClosed: Redis doesn't answer.
        """
        try:
            received = self._client.blpop([self._key], timeout=self._timeout_s)
        except (redis.exceptions.NoPermissionError, redis.exceptions.AuthorizationError) as error:
            raise WakeUpsRefusedError(str(error)) from error
        except redis.RedisError as error:
            raise ConnectionClosed(error) from error  # type: ignore[no-untyped-call]  # dramatiq left it untyped
        if received is None:
            return None
        # bytes, because decode_responses is off
        return MessageProxy(dramatiq.Message.decode(cast("bytes", received[1])))

    @override
    def ack(self, message: MessageProxy) -> None:
        """Do nothing: a wake-up is deleted when it is received."""

    @override
    def nack(self, message: MessageProxy) -> None:
        """Do nothing: a wake-up that can't be processed isn't kept."""

    @override
    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Do nothing: the next look of any worker finds the jobs."""


def make_broker(url: str, *, middleware: list[dramatiq.Middleware], lanes: Lanes | None = None) -> Broker:
    """Return the broker that a URL names: Redis (redis://, rediss://, unix://) or RabbitMQ (amqp://, amqps://)."""
    if url.startswith("amqp"):
        return RabbitWakeUps(url, middleware=middleware, lanes=lanes)
    return RedisWakeUps(url, middleware=middleware, lanes=lanes)


def declare_wake_ups(broker: Broker, installation: str, queues: Iterable[str], wake: Callable[[], None]) -> None:
    """Declare one dramatiq actor per queue, which only calls `wake`. A worker that runs then begins to listen."""
    for queue in queues:
        name = broker_queue(installation, queue)
        dramatiq.actor(broker=broker, actor_name=ACTOR_PREFIX + queue, queue_name=name)(wake)


def send(broker: Broker, installation: str, queue: str) -> None:
    """Send one wake-up to the workers of an installation's queue.

    Raises:
        dramatiq.errors.BrokerError: the broker doesn't answer; workers find the jobs by looking.
    """
    name = broker_queue(installation, queue)
    broker.declare_queue(name)
    message: dramatiq.Message[Any] = dramatiq.Message(
        queue_name=name, actor_name=ACTOR_PREFIX + queue, args=(), kwargs={}, options={}
    )
    broker.enqueue(message)


class WakeUpSender:
    """Sends wake-ups for one installation, from an event loop."""

    def __init__(self, url: str, installation: str) -> None:
        """Store the URL; the first wake-up opens the connection."""
        self._place = broker_place(url)
        self._broker = make_broker(url, middleware=[])
        self._installation = installation

    async def wake(self, queue: str) -> None:
        """Send a wake-up; if the broker is down, only log it, because workers also look by themselves."""
        try:
            await asyncio.to_thread(send, self._broker, self._installation, queue)
        except BrokerError as error:
            log.warning("bell_failed", queue=queue, error=f"{self._place} {broker_message(error)}")

    def close(self) -> None:
        """Close the connection."""
        self._broker.close()


def receive(broker: Broker, installation: str, queue: str, *, timeout_ms: int) -> bool:
    """Receive one wake-up of an installation's queue; return whether one came within the time.

    Raises:
        WakeUpsRefusedError: the user of the URL may not wait for wake-ups.
        dramatiq.errors.BrokerError: the broker doesn't answer.
    """
    name = broker_queue(installation, queue)
    broker.declare_queue(name)
    consumer = broker.consume(name, timeout=timeout_ms)
    try:
        received = consumer.pop() if isinstance(consumer, RedisListener | RabbitListener) else next(consumer)
        if received is not None:
            consumer.ack(received)
        return received is not None
    finally:
        consumer.close()
