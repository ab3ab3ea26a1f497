"""A user of Redis with too few rights for wake-ups. `tests/acceptance/test_brokers.py` is about every broker."""

from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import redis
from structlog.testing import capture_logs

from tests.support.patience import HANGS_AFTER_S
from workers.operations.checks.broker import check_broker
from workers.process import wake_up
from workers.services.services import Services


@pytest.fixture
def installation():
    return uuid4().hex[:16]


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
