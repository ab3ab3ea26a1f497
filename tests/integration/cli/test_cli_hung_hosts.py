"""A host that accepts connections and never answers is waited for 5 s, whichever service it should be."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest
from dramatiq.errors import BrokerError

from pipelines.errors import StorageUnavailableError
from pipelines.settings import Settings
from tests.support.calling import Darkroom
from tests.support.patience import within
from workers.process import wake_up
from workers.process.compose import make_broker, make_storage
from workers.services.services import Services

AT_MOST_S = 7.0
"""Five, and what a command takes beside them."""


@pytest.fixture
def hung() -> Iterator[str]:
    """Address of a host whose kernel takes connections, and whose program never looks at them."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def unanswered(hung: str, command: Darkroom, monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of such a host, which is also PostgreSQL's and Redis's in the settings of commands."""
    monkeypatch.setenv("DATABASE_URL", f"postgresql://user:word@{hung}/name")
    monkeypatch.setenv("REDIS_URL", f"redis://{hung}")
    monkeypatch.setenv("PROVIDER", "local")
    return hung


def in_time() -> AbstractContextManager[None]:
    return within(AT_MOST_S)


def test_postgresql_that_never_answers_ends_a_command(command: Darkroom, unanswered: str) -> None:
    with in_time():
        ran = command("jobs", "list")

    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert f"PostgreSQL at {unanswered} doesn't answer in time" in ran.err


def test_doctor_names_every_host_that_never_answers(
    command: Darkroom, unanswered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://user:word@{unanswered}/name?connect_timeout=2")

    with in_time():
        ran = command("doctor", "--json")

    found = {check["name"]: check for check in ran.json["checks"] if check["status"] == "fail"}
    assert (ran.code, found.keys()) == (1, {"postgresql", "broker"})
    assert f"{unanswered}/name" in found["postgresql"]["message"]
    assert "doesn't answer in time" in found["postgresql"]["message"]
    assert "word" not in ran.out


@pytest.mark.usefixtures("unanswered")
def test_psql_does_not_wait_for_a_host_that_never_answers(command: Darkroom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.cli.connecting.CONNECT_S", 2)  # libpq takes no less

    with in_time():
        assert command("db", "psql").code == 2


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_broker_that_never_answers_refuses_a_wake_up(hung: str, scheme: str) -> None:
    broker = make_broker(f"{scheme}://{hung}/")

    with in_time(), pytest.raises(BrokerError):
        wake_up.send(broker, "installation", "default")


def test_rabbitmq_that_cannot_be_connected_to_is_asked_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        asked: list[str] = []

        def refuse() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, address = server.accept()
                    asked.append(address)
                    client.close()

        threading.Thread(target=refuse, daemon=True).start()
        broker = make_broker(f"amqp://127.0.0.1:{server.getsockname()[1]}/")

        with pytest.raises(BrokerError):
            wake_up.send(broker, "installation", "default")

        assert len(asked) == 1


def test_storage_that_never_answers_refuses_a_command(hung: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "a-key")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://{hung}")
    settings = Settings(storage_url="s3://bucket", storage_public_url="https://pictures.example")
    services = Services(
        database_url="",
        database_direct_url="",
        redis_url="",
        broker_url="",
        storage_url="s3://bucket",
        is_embedded=False,
    )

    async def ask() -> None:
        storage = make_storage(settings, services)
        try:
            await storage.head("users/u/originals/i.jpg")
        finally:
            await storage.aclose()

    with in_time(), pytest.raises(StorageUnavailableError):
        asyncio.run(ask())
