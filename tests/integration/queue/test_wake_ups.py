"""Wake-ups of several installations on one broker, and a broker's user with too few rights."""

from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import redis
from structlog.testing import capture_logs

from tests.support.patience import HANGS_AFTER_S
from workers.operations.checks.broker import check_broker
from workers.process import wake_up
from workers.services.services import Services

HEARD_MS = 200


@pytest.fixture
def broker(redis_url):
    broker = wake_up.make_broker(redis_url, middleware=[])
    yield broker
    broker.close()


@pytest.fixture
def installation():
    return uuid4().hex[:16]


def hears(broker, installation, queue="default"):
    return wake_up.receive(broker, installation, queue, timeout_ms=HEARD_MS)


def test_bell_is_heard_by_its_own_installation_and_queue_only(broker, installation):
    other = uuid4().hex[:16]
    wake_up.send(broker, installation, "default")

    assert not hears(broker, other)
    assert not hears(broker, installation, "gpu")
    assert hears(broker, installation)
    assert not hears(broker, installation)


@pytest.fixture(params=["blpop", "lpush"])
def refused(request, redis_url):
    """A command, and the URL of a user who may do anything but that."""
    admin, name = redis.Redis.from_url(redis_url), f"u{uuid4().hex[:8]}"
    admin.execute_command("ACL", "SETUSER", name, "on", ">word", "~*", "&*", "+@all", f"-{request.param}")
    yield request.param, f"unix://{name}@{urlsplit(redis_url).path}?password=word"
    admin.execute_command("ACL", "DELUSER", name)
    admin.close()


async def test_doctor_names_the_command_that_the_brokers_user_may_not_give(refused, installation):
    command, url = refused
    services = Services(
        database_url="", database_direct_url="", redis_url=url, broker_url=url, storage_url="", is_embedded=False
    )

    found = await check_broker(services, installation)

    assert found.status == "fail"
    assert command in found.message


@pytest.mark.parametrize("refused", ["blpop"], indirect=True)
def test_worker_that_may_not_listen_says_so_once_and_looks_by_its_clock(refused, installation):
    broker = wake_up.make_broker(refused[1], middleware=[])
    consumer = broker.consume(wake_up.broker_queue(installation, "default"), timeout=HANGS_AFTER_S)

    with capture_logs() as logs:
        heard = [next(consumer) for _ in range(5)]

    assert heard == [None] * 5
    assert [line["event"] for line in logs] == ["bells_refused"]
    broker.close()
