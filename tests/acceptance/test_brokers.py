"""Wake-ups through each broker: Redis, and RabbitMQ where it is installed."""

import asyncio
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import uuid4

import pika
import psutil
import pytest
from dramatiq.errors import BrokerError
from structlog.testing import capture_logs

from tests.acceptance.test_workers import has_status
from tests.support.builders import make_job
from tests.support.fleet import eventually
from tests.support.patience import within
from tests.support.program import darkroom
from tests.support.rabbit import needs_rabbitmq
from workers.operations.checks.broker import check_broker
from workers.process import wake_up
from workers.process.receiving import MOST_WAITING, Lanes
from workers.process.supervisor import WorkerProcesses
from workers.services.services import Services

HEARD_MS = 2_000
SILENT_MS = 200
MOMENT_S = 0.3


@pytest.fixture
def broker(broker_server):
    broker = wake_up.make_broker(broker_server.url, middleware=[])
    yield broker
    broker.close()


@pytest.fixture
def installation():
    return uuid4().hex[:16]


def hears(broker, installation, queue="default", *, within_ms=HEARD_MS):
    return wake_up.receive(broker, installation, queue, timeout_ms=within_ms)


def listener(url, installation, lanes=None, *, timeout_ms=SILENT_MS):
    broker = wake_up.make_broker(url, middleware=[], lanes=lanes)
    return broker.consume(wake_up.broker_queue(installation, "default"), timeout=timeout_ms)


def busy():
    lanes = Lanes()
    lanes.set_free(False)
    return lanes


def services_of(url):
    return Services(
        database_url="", database_direct_url="", redis_url="", broker_url=url, storage_url="", is_embedded=False
    )


def test_wake_up_is_heard_by_its_own_installation_and_queue_only(broker, installation):
    other = uuid4().hex[:16]
    wake_up.send(broker, installation, "default")

    assert not hears(broker, other, within_ms=SILENT_MS)
    assert not hears(broker, installation, "gpu", within_ms=SILENT_MS)
    assert hears(broker, installation)
    assert not hears(broker, installation, within_ms=SILENT_MS)


def test_few_wake_ups_wait_however_many_are_sent(broker, installation):
    for _ in range(3 * MOST_WAITING):
        wake_up.send(broker, installation, "default")

    consumer = broker.consume(wake_up.broker_queue(installation, "default"), timeout=SILENT_MS)
    heard = 0
    while next(consumer) is not None:
        heard += 1
    consumer.close()

    assert heard == MOST_WAITING


def test_process_without_a_free_lane_leaves_wake_ups_to_others(broker_server, broker, installation):
    full, free = listener(broker_server.url, installation, busy()), listener(broker_server.url, installation)
    assert next(full) is None
    wake_up.send(broker, installation, "default")

    assert next(full) is None
    with within(2):
        assert next(free) is not None
    full.close()
    free.close()


def test_process_whose_lanes_fill_while_it_listens_gives_the_wake_up_back(broker_server, broker, installation):
    lanes = Lanes()
    filling, other = listener(broker_server.url, installation, lanes), None
    assert next(filling) is None
    lanes.set_free(False)
    assert next(filling) is None
    wake_up.send(broker, installation, "default")
    assert next(filling) is None
    other = listener(broker_server.url, installation, timeout_ms=HEARD_MS)

    assert next(other) is not None
    lanes.set_free(True)
    wake_up.send(broker, installation, "default")
    other.close()
    assert next(filling) is not None
    filling.close()


def test_each_wake_up_goes_to_one_process(broker_server, broker, installation):
    listeners = [listener(broker_server.url, installation) for _ in range(2)]
    for one in listeners:
        assert next(one) is None
    wake_up.send(broker, installation, "default")

    with ThreadPoolExecutor() as threads:
        heard = list(threads.map(next, listeners))

    assert heard.count(None) == 1
    for one in listeners:
        one.close()


async def test_doctor_finds_the_broker_usable(broker_server, installation):
    found = await check_broker(services_of(broker_server.url), installation)

    assert found.status == "ok", found.message


def test_sender_goes_on_after_its_queue_was_deleted(broker_server, broker, installation):
    wake_up.send(broker, installation, "default")
    broker_server.forget(wake_up.broker_queue(installation, "default"))

    wake_up.send(broker, installation, "default")

    assert hears(broker, installation)


@needs_rabbitmq
def test_many_threads_send_by_one_connection(rabbitmq, installation):
    before = rabbitmq.connections()
    broker = wake_up.make_broker(rabbitmq.url, middleware=[])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: wake_up.send(broker, installation, "default"), range(32)))

    assert rabbitmq.connections() == before + 1
    broker.close()


@needs_rabbitmq
def test_queues_of_earlier_releases_stand_in_nobodys_way(rabbitmq, installation):
    name = wake_up.broker_queue(installation, "default")
    connection = pika.BlockingConnection(pika.URLParameters(rabbitmq.url))
    connection.channel().queue_declare(name, durable=True, arguments={"x-dead-letter-exchange": ""})
    connection.close()
    broker = wake_up.make_broker(rabbitmq.url, middleware=[])

    wake_up.send(broker, installation, "default")

    assert hears(broker, installation)
    broker.close()


@pytest.mark.proof  # rabbitmqctl takes seconds
@needs_rabbitmq
async def test_user_who_may_not_read_is_named_by_doctor_and_logged_once(rabbitmq, installation):
    url = rabbitmq.add_user(f"u{uuid4().hex[:8]}", configure=".*", write=".*", read="^$")
    consumer = listener(url, installation)

    with capture_logs() as logs:
        assert [next(consumer) for _ in range(3)] == [None] * 3
    consumer.close()
    found = await check_broker(services_of(url), installation)

    assert [line["event"] for line in logs] == ["bells_refused"]
    assert found.status == "fail"
    assert "refuses to wait for one" in found.message
    assert "read access" in found.message.lower() or "ACCESS_REFUSED" in found.message


@needs_rabbitmq
def test_halted_rabbitmq_costs_a_sender_seconds_and_a_listener_none(rabbitmq, installation):
    broker = wake_up.make_broker(rabbitmq.url, middleware=[])
    wake_up.send(broker, installation, "default")
    consumer = listener(rabbitmq.url, installation)
    assert next(consumer) is not None
    rabbitmq.halt()
    try:
        with within(6), pytest.raises(BrokerError):
            wake_up.send(broker, installation, "default")
        with within(2):
            assert next(consumer) is None
            consumer.close()
            broker.close()
    finally:
        rabbitmq.go_on()


def test_lost_broker_is_used_again_when_it_is_back(broker_server, broker, installation):
    wake_up.send(broker, installation, "default")
    consumer = listener(broker_server.url, installation)
    assert next(consumer) is not None
    broker_server.lose()
    try:
        with within(6), pytest.raises(BrokerError):
            wake_up.send(broker, installation, "default")
        with within(6), pytest.raises(BrokerError):
            next(consumer)
    finally:
        broker_server.bring_back()

    wake_up.send(broker, installation, "default")
    assert hears(broker, installation)


@pytest.fixture
def on_broker(fleet, broker_server):
    """The fleet of this test, woken through a broker."""
    fleet.services = replace(fleet.services, broker_url=broker_server.url)
    return fleet


POLL_S = 60


@pytest.mark.proof
async def test_idle_worker_starts_a_job_when_it_is_inserted_also_after_the_broker_was_lost(
    on_broker, broker_server, tmp_path
):
    user, image = await on_broker.stored_picture(balance=100)
    environment = on_broker.environment | {"BROKER_URL": broker_server.url, "DARKROOM_POLL_S": str(POLL_S)}

    async def starts_at_once(within_s):
        job = await make_job(on_broker.database, user_id=user, image_id=image)
        await eventually(has_status(on_broker, job, "COMPLETED"), "the job's end", within_s=within_s)

    with darkroom("scheduler", environment=environment, folder=tmp_path) as scheduler:
        await asyncio.to_thread(scheduler.says, "\nready\n")
        on_broker.start(1, poll_s=POLL_S)
        await asyncio.sleep(2)  # in which the worker looks, and then waits
        for _ in range(3):
            await starts_at_once(5)
            await asyncio.sleep(MOMENT_S)
        await asyncio.to_thread(broker_server.lose)
        await asyncio.sleep(1)
        await asyncio.to_thread(broker_server.bring_back)
        await asyncio.sleep(8)  # dramatiq listens again after three seconds
        await starts_at_once(5)


@pytest.mark.proof
async def test_jobs_complete_while_the_broker_is_gone(on_broker, broker_server):
    user, image = await on_broker.stored_picture(balance=100)
    on_broker.start(1)
    await asyncio.to_thread(broker_server.lose)
    try:
        job = await make_job(on_broker.database, user_id=user, image_id=image)
        await eventually(has_status(on_broker, job, "COMPLETED"))
    finally:
        await asyncio.to_thread(broker_server.bring_back)


class WholeWorkers(WorkerProcesses):
    ENTRY_POINT = "tests.support.slow_worker:main"


async def is_listening(rabbitmq):
    """Wait until a worker is connected, and has said what it listens to."""

    async def is_connected():
        return rabbitmq.connections() == 1

    await eventually(is_connected, "a connection")
    await asyncio.sleep(1)


@pytest.mark.proof
@needs_rabbitmq
async def test_sigterm_ends_an_idle_worker_while_rabbitmq_is_halted(fleet, rabbitmq):
    fleet.services = replace(fleet.services, broker_url=rabbitmq.url)
    workers = fleet.start(1, shutdown_grace_s=0, kind=WholeWorkers)
    await is_listening(rabbitmq)
    rabbitmq.halt()
    try:
        with within(9):
            assert await asyncio.to_thread(workers.stop) == 0
    finally:
        rabbitmq.go_on()


@pytest.mark.proof
@needs_rabbitmq
async def test_worker_that_was_stopped_past_rabbitmqs_patience_listens_again(fleet, rabbitmq):
    fleet.services = replace(fleet.services, broker_url=rabbitmq.url)
    fleet.start(1)
    (pid,) = [row["pid"] for row in await fleet.database.fetch("SELECT pid FROM darkroom.workers")]
    worker = psutil.Process(pid)
    await is_listening(rabbitmq)
    worker.send_signal(signal.SIGSTOP)
    try:

        async def is_dropped():
            return await asyncio.to_thread(rabbitmq.connections) == 0

        await eventually(is_dropped, "the end of the connection")
    finally:
        worker.send_signal(signal.SIGCONT)

    async def is_back():
        return await asyncio.to_thread(rabbitmq.connections) == 1

    await eventually(is_back, "another connection", within_s=20)
