"""Wake-ups through RabbitMQ.

dramatiq's own broker is made for work: it keeps messages durably and without limit, declares a queue for delayed and
one for dead messages beside each, and takes messages also while its process has no room for a job. For wake-ups none of
this is wanted. See docs/decisions/0207-wake-ups-in-rabbitmq-are-few-and-may-be-lost.md.
"""

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import dramatiq
import pika
from dramatiq.broker import Broker, Consumer, MessageProxy
from dramatiq.errors import ConnectionClosed
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import AMQPError, ChannelClosedByBroker
from typing_extensions import override

from config.logger import EventLogger
from workers.process.receiving import DEAF_S, MOST_WAITING, Lanes, WakeUpsRefusedError

LIMITS: Final = {"socket_timeout": "5", "stack_timeout": "5", "blocked_connection_timeout": "5", "heartbeat": "10"}
"""Time limits, in seconds, by pika's parameter names: for connecting, for RabbitMQ's greeting, for sending, and for a
server or a network that is silently gone, which is noticed after twice that time."""

UNUSED_MS: Final = 86_400_000
"""Milliseconds after which RabbitMQ deletes a queue that nobody declares or listens to."""

QUEUE_ARGUMENTS: Final = {
    "x-queue-type": "classic",  # a virtual host may say quorum, which would write every wake-up to several disks
    "x-max-length": MOST_WAITING,
    "x-expires": UNUSED_MS,
}
QUEUE_SUFFIX: Final = ".bell"
"""Ends the names of our queues. In earlier releases dramatiq declared the names without it, with other arguments,
and RabbitMQ refuses to declare a queue again with other arguments."""

ANSWER_S: Final = 5.0
"""Seconds that a sender waits until its wake-up is sent; a first one needs a connection before."""

IDLE_S: Final = 3.0
"""Seconds between looks at a connection that sends nothing: heartbeats have to be answered."""

CLOSE_S: Final = 1.0
MOST_STEPS: Final = 8
ACCESS_REFUSED: Final = 403

FAILURES: Final = (AMQPError, AMQPConnectorException, OSError, AssertionError)
"""What pika raises for a server that is gone or refuses; AssertionError where it is closed in the middle of a call."""

Step: TypeAlias = Callable[[Any], None]
"""Function that is called with a channel of pika's, which has no types."""

log = EventLogger(__name__)


class RabbitWakeUps(Broker):
    """A dramatiq broker whose queues are short queues of wake-ups in RabbitMQ."""

    def __init__(self, url: str, *, middleware: list[dramatiq.Middleware], lanes: Lanes | None = None) -> None:
        super().__init__(middleware=middleware)
        self._parameters = pika.URLParameters(_limited(url))
        self._lanes = lanes or Lanes()
        self._session = _Session(self._parameters)

    @override
    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 1000) -> Consumer:
        """Return a consumer of one queue's wake-ups; `timeout` is in milliseconds.

        Raises:
            ConnectionClosed: RabbitMQ doesn't answer.
        """
        return RabbitListener(self._parameters, queue_name, timeout / 1000, self._lanes)

    @override
    def declare_queue(self, queue_name: str) -> None:
        """Register a queue name with dramatiq. RabbitMQ hears of it from whoever sends or listens."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues[queue_name] = None
            self.emit_after("declare_queue", queue_name)

    @override
    def enqueue(self, message: dramatiq.Message[Any], *, delay: int | None = None) -> dramatiq.Message[Any]:
        """Send a wake-up once.

        Raises:
            ConnectionClosed: RabbitMQ doesn't answer.
        """

        def publish(channel: Any) -> None:
            name = _declared(channel, message.queue_name)  # its answer tells that the connection lives
            channel.basic_publish("", name, message.encode(), pika.BasicProperties(delivery_mode=1))

        self._session.run(publish)
        return message

    @override
    def flush(self, queue_name: str) -> None:
        """Delete the wake-ups of one queue."""

        def purge(channel: Any) -> None:
            channel.queue_purge(_declared(channel, queue_name))

        self._session.run(purge)

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
        """Close the connection of senders."""
        self._session.close()


class _Session:
    """A connection that belongs to one thread, since pika's can't be shared; it runs what other threads ask for.

    So a process has one connection to send by, however many threads send; heartbeats are answered between wake-ups; and
    a server that hangs costs a sender its time limit, and not its thread.
    """

    def __init__(self, parameters: Any) -> None:
        self._parameters = parameters
        self._steps: queue.Queue[tuple[Step, Future[None]] | None] = queue.Queue(MOST_STEPS)
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._connection: Any = None
        self._channel: Any = None

    def run(self, step: Step) -> None:
        """Run a step in the connection's thread, and wait for its end.

        Raises:
            ConnectionClosed: RabbitMQ doesn't answer, or refuses.
        """
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._live, name="rabbitmq", daemon=True)
                self._thread.start()
        end: Future[None] = Future()
        try:
            self._steps.put_nowait((step, end))
            end.result(ANSWER_S)
        except queue.Full:  # the steps before are unanswered
            raise _closed(TimeoutError("RabbitMQ doesn't answer")) from None
        except FAILURES as error:  # a timeout is an OSError, too
            end.cancel()
            raise _closed(error) from error

    def close(self) -> None:
        """End the thread, and the connection with it, unless RabbitMQ hangs."""
        if self._thread is not None:
            try:
                self._steps.put_nowait(None)
            except queue.Full:
                return
            self._thread.join(CLOSE_S)

    def _live(self) -> None:
        while True:
            try:
                asked = self._steps.get(timeout=None if self._connection is None else IDLE_S)
            except queue.Empty:
                self._answer_heartbeats()
                continue
            if asked is None:
                self._disconnect()
                return
            step, end = asked
            if end.set_running_or_notify_cancel():
                self._take(step, end)

    def _take(self, step: Step, end: "Future[None]") -> None:
        """Run a step; if the connection was opened before, it may have been lost since, so try another one."""
        for is_last in (self._connection is None, True):
            try:
                if self._connection is None:
                    self._connection = pika.BlockingConnection(self._parameters)
                    self._channel = self._connection.channel()
                step(self._channel)
            except FAILURES as error:
                self._disconnect()
                if is_last:
                    end.set_exception(error)
                    return
            else:
                end.set_result(None)
                return

    def _answer_heartbeats(self) -> None:
        try:
            self._connection.process_data_events(0)
        except FAILURES:
            self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        _close(connection)


class RabbitListener(Consumer):
    """Waits for wake-ups, while this process has a free lane. It is used by one thread."""

    def __init__(self, parameters: Any, queue_name: str, timeout_s: float, lanes: Lanes) -> None:
        """Connect.

        Raises:
            ConnectionClosed: RabbitMQ doesn't answer; dramatiq tries again some seconds later.
        """
        self._parameters = parameters
        self._queue = queue_name
        self._timeout_s = timeout_s
        self._lanes = lanes
        self._connection: Any = None
        self._channel: Any = None
        self._tag: str | None = None
        self._received: deque[tuple[int, bytes]] = deque()
        self._deaf_until_s = float("-inf")
        self._was_refused = False
        try:
            self._connect()
        except FAILURES as error:
            raise _closed(error) from error

    @override
    def __next__(self) -> MessageProxy | None:
        """Return the next wake-up; None after the timeout, or while no lane is free.

        Raises:
            ConnectionClosed: RabbitMQ doesn't answer; dramatiq listens again some seconds later.
        """
        if time.monotonic() < self._deaf_until_s:
            time.sleep(self._timeout_s)
            return None
        try:
            if not self._lanes.wait(0):
                self._leave()
                self._lanes.wait(self._timeout_s)
                self._connection.process_data_events(0)
                return None
            received = self.pop()
            if received is not None:
                self._was_refused = False
        except WakeUpsRefusedError as error:
            if not self._was_refused:
                log.error("bells_refused", error=str(error))  # noqa: TRY400 - the refusal is RabbitMQ's
            self._was_refused = True
            self._deaf_until_s = time.monotonic() + DEAF_S
            return None
        except FAILURES as error:
            raise _closed(error) from error
        return received

    def pop(self) -> MessageProxy | None:
        """Wait for a wake-up.

        Raises:
            WakeUpsRefusedError: the user of the URL may not declare the queue or read it.
            ConnectionClosed: RabbitMQ doesn't answer.
        """
        try:
            self._listen()
            self._connection.process_data_events(self._timeout_s)
        except ChannelClosedByBroker as error:
            _close(self._connection)
            self._connection = None
            if error.reply_code == ACCESS_REFUSED:
                raise WakeUpsRefusedError(error.reply_text) from error
            raise _closed(error) from error
        except FAILURES as error:
            raise _closed(error) from error
        if not self._received:
            return None
        if not self._lanes.wait(0):  # the last lane was taken meanwhile: another process may have one
            self._leave()
            return None
        tag, body = self._received.popleft()
        self._channel.basic_ack(tag)
        return MessageProxy(dramatiq.Message.decode(body))

    @override
    def ack(self, message: MessageProxy) -> None:
        """Do nothing: a wake-up is deleted when it is received."""

    @override
    def nack(self, message: MessageProxy) -> None:
        """Do nothing: a wake-up that can't be processed isn't kept."""

    @override
    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Do nothing: the next look of any worker finds the jobs."""

    @override
    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        _close(connection)

    def _connect(self) -> None:
        self._connection = pika.BlockingConnection(self._parameters)
        self._channel = self._connection.channel()
        self._channel.basic_qos(prefetch_count=1)
        self._tag = None
        self._received.clear()

    def _listen(self) -> None:
        if self._connection is None:
            self._connect()
        if self._tag is None:
            self._tag = self._channel.basic_consume(_declared(self._channel, self._queue), self._take)

    def _take(self, _channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        self._received.append((method.delivery_tag, body))

    def _leave(self) -> None:
        """Receive no more, and give back what was received, so that a process with a free lane gets it."""
        if self._tag is None:
            return
        tag, self._tag = self._tag, None
        self._channel.basic_cancel(tag)
        while self._received:
            self._channel.basic_nack(self._received.popleft()[0], requeue=True)


def _declared(channel: Any, queue_name: str) -> str:
    """Declare a queue, which may exist already; return the name that it has in RabbitMQ."""
    name = queue_name + QUEUE_SUFFIX
    # Durable, because newer releases take no others; the wake-ups in it are not
    channel.queue_declare(name, durable=True, arguments=QUEUE_ARGUMENTS)
    return name


def _close(connection: Any) -> None:
    """Close a connection. One that hangs is left to a thread of its own, which ends with the process."""
    if connection is None or not connection.is_open:
        return

    def close() -> None:
        with contextlib.suppress(*FAILURES):
            connection.close()

    thread = threading.Thread(target=close, name="rabbitmq close", daemon=True)
    thread.start()
    thread.join(CLOSE_S)


def _closed(error: BaseException) -> ConnectionClosed:
    return ConnectionClosed(error)  # type: ignore[no-untyped-call]  # dramatiq left it untyped


def _limited(url: str) -> str:
    """Return a URL of RabbitMQ with time limits added where it has none."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query=urlencode(LIMITS | dict(parse_qsl(parts.query)))))
