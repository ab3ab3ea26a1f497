"""The brokers that carry wake-ups, for tests that run on each of them."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from tests.support.rabbit import MISSING, SERVER, RabbitServer, needs_rabbitmq
from workers.process.rabbitmq import QUEUE_SUFFIX
from workers.services.instance import EmbeddedInstance

BROKERS = ("redis", pytest.param("rabbitmq", marks=needs_rabbitmq))


@dataclass(frozen=True)
class BrokerServer:
    """A broker of its own for a test that stops it."""

    url: str
    server: object

    def lose(self) -> None:
        """Kill it."""
        if isinstance(self.server, RabbitServer):
            self.server.stop()
        else:
            self.server.redis.stop(immediately=True)

    def bring_back(self) -> None:
        """Start it again, at the same address."""
        self.server.start() if isinstance(self.server, RabbitServer) else self.server.redis.start()

    def forget(self, queue: str) -> None:
        """Delete a queue with its wake-ups."""
        if isinstance(self.server, RabbitServer):
            self.server.delete_queue(f"{queue}{QUEUE_SUFFIX}")
        else:
            redis.Redis.from_url(self.url).flushall()


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitServer]:
    """One RabbitMQ for all tests of this process, started when a test first needs it."""
    with tempfile.TemporaryDirectory(prefix="dkr", dir="/tmp") as folder:
        server = RabbitServer(Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.close()


@pytest.fixture
def fleet_broker_url(request: pytest.FixtureRequest, services: EmbeddedInstance) -> str:
    """The URL of the broker that wakes a test's fleet: Redis, unless pytest was called with --broker."""
    if request.config.getoption("--broker") == "redis":
        return services.redis_url
    if SERVER is None:
        pytest.skip(MISSING)
    return str(request.getfixturevalue("rabbitmq").url)


@pytest.fixture(params=BROKERS)
def broker_server(request: pytest.FixtureRequest, services: EmbeddedInstance) -> BrokerServer:
    """Each broker in turn; a test that stops it starts it again."""
    if request.param == "redis":
        return BrokerServer(services.redis_url, services)
    server = request.getfixturevalue("rabbitmq")
    return BrokerServer(server.url, server)
