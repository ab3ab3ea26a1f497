"""Errors of brokers and storages: in our words, with host and port, without a password or a library's text."""

import re
import socket
from collections.abc import Iterator

import pytest

from pipelines.errors import BadImageError, StageError, StorageUnavailableError
from pipelines.storage.s3 import S3Storage
from workers.cli.reporting import explain
from workers.operations.checks.broker import check_broker
from workers.process.broker_message import broker_place
from workers.services.services import Services

NOT_OURS = re.compile(
    r"[A-Z]\w+(?:Error|Exception)\b|https?://|Errno|Error \d|connecting to|Connection refused|very-secret"
)


@pytest.fixture
def port() -> Iterator[int]:
    """A port that nobody listens on."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.mark.parametrize("scheme", ["redis", "rediss", "amqp", "amqps"])
async def test_broker_that_refuses_is_named_by_host_and_port(port: int, scheme: str) -> None:
    url = f"{scheme}://x:very-secret@127.0.0.1:{port}/"
    check = await check_broker(Services("", "", "", url, "", is_embedded=False), "i")

    title = "RabbitMQ" if scheme.startswith("amqp") else "Redis"
    assert check.status == "fail"
    assert f"{title} at 127.0.0.1:{port} refuses connections" in check.message
    assert not NOT_OURS.search(check.message)


async def test_socket_of_redis_that_is_not_there_is_named() -> None:
    check = await check_broker(Services("", "", "", "unix:///no/such.sock", "", is_embedded=False), "i")

    assert "Redis at /no/such.sock has no socket there" in check.message
    assert not NOT_OURS.search(check.message)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://:very-secret@cache.example/0", "Redis at cache.example:6379"),
        ("amqps://u:very-secret@mq.example", "RabbitMQ at mq.example:5671"),
        ("redis://[::1]:7000", "Redis at ::1:7000"),
        ("unix:///run/redis.sock?password=very-secret", "Redis at /run/redis.sock"),
        ("redis://h:99999999", "Redis at h"),
    ],
)
def test_place_of_a_broker_holds_no_password(url: str, place: str) -> None:
    assert broker_place(url) == place


async def test_object_storage_that_refuses_is_named_by_host_and_port_to_operators_only(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "very-secret", "REGION": "auto"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://u:very-secret@127.0.0.1:{port}")
    monkeypatch.setenv("STORAGE_URL", "s3://pictures/prefix")
    storage = S3Storage("pictures", "prefix", "https://cdn.example", is_patient=False)

    with pytest.raises(StorageUnavailableError) as caught:
        await storage.head("a/b.jpg")
    await storage.aclose()
    code, line = explain(caught.value)

    assert str(caught.value).endswith(": the object storage doesn't answer")  # what a job's row says
    assert (code, f"(bucket pictures at 127.0.0.1:{port}); check STORAGE_URL" in line) == (1, True)
    assert not NOT_OURS.search(line)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            StorageUnavailableError("can't write x in the file storage: No space left on device"),
            "(the files in /srv/o)",
        ),
        (BadImageError("not an image"), "not an image"),
    ],
)
def test_error_of_a_picture_or_a_folder_is_no_bug(
    monkeypatch: pytest.MonkeyPatch, error: StageError, said: str
) -> None:
    monkeypatch.setenv("STORAGE_URL", "file:///srv/o")
    code, line = explain(error)

    assert (code, said in line, "shouldn't" in line) == (1, True, False)
