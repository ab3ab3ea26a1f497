"""What only S3 can show: signatures, other programs' objects, servers that fail."""

import asyncio
import hashlib
import logging
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import httpx
import pytest

from pipelines.errors import MissingObjectError, StorageUnavailableError
from pipelines.storage.backends import open_storage
from pipelines.storage.storage import Storage
from tests.support.patience import HANGS_AFTER_S
from tests.support.s3_servers import BUCKET, S3Server

KEY = "users/u1/originals/i1.jpg"
DATA = b"a picture" * 1000
URL = f"s3://{BUCKET}/some/prefix"
PUBLIC = "https://pictures.example"


@pytest.fixture
def opened(monkeypatch):
    """Open storages with a server's environment, changed as asked; they are closed in the end."""
    storages: list[Storage] = []

    def open_with(server: S3Server, url: str = URL, **changes: str) -> Storage:
        for name, value in (server.environment | changes).items():
            monkeypatch.setenv(name, value)
        storages.append(open_storage(url, PUBLIC))
        return storages[-1]

    yield open_with
    for storage in storages:
        asyncio.run(storage.aclose())


def client_of(server: S3Server):
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
    )


async def put(storage: Storage, data: bytes = DATA) -> None:
    await storage.put(KEY, data, "image/jpeg", hashlib.sha256(data).hexdigest())


def fetched(url: str) -> httpx.Response:
    return httpx.get(url, trust_env=False)


async def test_objects_lie_under_the_prefix_of_the_url(moto, opened):
    await put(opened(moto))

    answer = client_of(moto).get_object(Bucket=BUCKET, Key=f"some/prefix/{KEY}")

    assert answer["Body"].read() == DATA
    assert answer["Metadata"] == {"sha256": hashlib.sha256(DATA).hexdigest()}
    assert answer["ContentType"] == "image/jpeg"


async def test_object_of_another_program_is_read_and_described(moto, opened):
    client_of(moto).put_object(Bucket=BUCKET, Key=f"some/prefix/{KEY}", Body=DATA, ContentType="image/jpeg")
    storage = opened(moto)

    head = await storage.head(KEY)

    assert await storage.get(KEY) == DATA
    assert (head.sha256, head.size_bytes) == (hashlib.sha256(DATA).hexdigest(), len(DATA))


async def test_metadata_may_come_back_in_any_case_with_more(moto, opened):
    metadata = {"SHA256": hashlib.sha256(DATA).hexdigest(), "mtime": "1"}
    client_of(moto).put_object(Bucket=BUCKET, Key=f"some/prefix/{KEY}", Body=DATA, Metadata=metadata)

    assert (await opened(moto).head(KEY)).sha256 == hashlib.sha256(DATA).hexdigest()


async def test_object_of_ours_that_was_changed_is_never_returned(moto, opened):
    recorded = hashlib.sha256(b"other").hexdigest()
    key = f"users/u1/enhanced/i1/j1-{recorded[:16]}.jpg"
    client_of(moto).put_object(Bucket=BUCKET, Key=f"some/prefix/{key}", Body=DATA, Metadata={"sha256": recorded})

    with pytest.raises(StorageUnavailableError, match="came back changed"):
        await opened(moto).get(key)


@pytest.mark.parametrize("recorded", [hashlib.sha256(b"before it was rotated").hexdigest(), "in base64=", ""])
async def test_hash_that_another_program_keeps_says_nothing(moto, opened, recorded):
    client_of(moto).put_object(Bucket=BUCKET, Key=f"some/prefix/{KEY}", Body=DATA, Metadata={"sha256": recorded})
    storage = opened(moto)

    assert await storage.get(KEY) == DATA
    assert (await storage.head(KEY)).sha256 == hashlib.sha256(DATA).hexdigest()


@pytest.mark.parametrize("server", ["moto", "rclone"])
@pytest.mark.parametrize(
    "key",
    [
        *(
            "users/u1/originals/IMG 0042 (1).jpg",
            "users/u1/originals/ürlaub-фото.jpg",
            "a+b%20c&d=e;f,g[h]{i}'j\"k.jpg",
        ),
        *(
            "users/auth0|5f7c/a:b@c$d!e*f.jpg",
            "a..b/..c.jpg",
            "what?is#this.jpg",
            "~/x.jpg",
            "n" * 200 + "/" + "m" * 200,
        ),
    ],
)
async def test_key_that_another_program_wrote_is_read(server, key, request, opened):
    client = client_of(request.getfixturevalue(server))
    client.put_object(Bucket=BUCKET, Key=f"some/prefix/{key}", Body=DATA)
    storage = opened(request.getfixturevalue(server))

    assert await storage.get(key) == DATA
    assert (await storage.head(key)).sha256 == hashlib.sha256(DATA).hexdigest()
    assert fetched(await storage.presign(key, timedelta(minutes=1))).content == DATA


@pytest.mark.parametrize("server", ["moto", "rclone"])
async def test_missing_bucket_is_a_fault_of_the_configuration(server, request, opened):
    storage = opened(request.getfixturevalue(server), "s3://no-such-bucket")

    for call in (storage.get(KEY), storage.head(KEY), put(storage)):
        with pytest.raises(StorageUnavailableError, match=r"bucket|NoSuchBucket"):
            await call


async def test_wrong_secret_is_refused_and_nobody_repeats_it(rclone, opened, caplog):
    caplog.set_level(logging.INFO)
    await put(opened(rclone))
    storage = opened(rclone, AWS_SECRET_ACCESS_KEY="wrong-and-secret")

    for call in (storage.get(KEY), storage.head(KEY), put(storage), storage.delete(KEY)):
        with pytest.raises(StorageUnavailableError, match="refused with 403") as refused:
            await call
        assert "wrong-and-secret" not in str(refused.value)
        assert rclone.access_key not in str(refused.value)
    assert "wrong-and-secret" not in caplog.text
    assert await opened(rclone).get(KEY) == DATA


async def test_no_credentials_say_which_variables_to_set(moto, opened, monkeypatch):
    storage = opened(moto)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    with pytest.raises(StorageUnavailableError, match="AWS_ACCESS_KEY_ID"):
        await storage.get(KEY)


async def test_signed_url_reads_and_an_unsigned_one_does_not(rclone, opened):
    storage = opened(rclone)
    await put(storage)
    signed = await storage.presign(KEY, timedelta(minutes=1))

    assert fetched(signed).content == DATA
    assert fetched(signed.partition("?")[0]).status_code in {400, 403}
    assert (await storage.presign(KEY, timedelta(minutes=2))) != signed


async def test_signed_url_that_was_changed_does_not_read(rclone, opened):
    storage = opened(rclone)
    await put(storage)
    signed = await storage.presign(KEY, timedelta(minutes=1))
    path = urlsplit(signed).path

    for changed in (
        signed.replace("X-Amz-Expires=60", "X-Amz-Expires=6000"),
        signed.replace(path, path.replace("i1.jpg", "i2.jpg")),
        signed[:-1] + ("0" if signed[-1] != "0" else "1"),
    ):
        assert changed != signed
        assert fetched(changed).status_code == 403


async def test_signed_url_expires(rclone, opened):
    storage = opened(rclone)
    await put(storage)
    signed = await storage.presign(KEY, timedelta(seconds=1))

    async with asyncio.timeout(HANGS_AFTER_S):
        while fetched(signed).status_code == 200:  # noqa: ASYNC110 - the server's clock rings no bell
            await asyncio.sleep(0.1)
    assert fetched(signed).status_code in {400, 403}


async def test_nobody_listening_is_transient_and_names_no_url(moto, opened):
    storage = opened(moto, AWS_ENDPOINT_URL_S3="http://127.0.0.1:9")

    with pytest.raises(StorageUnavailableError, match="doesn't answer") as failed:
        await storage.get(KEY)

    assert "127.0.0.1" not in str(failed.value)


async def broken_server(answer: bytes):
    """Answer every request with these bytes and hang up."""

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this",
        b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 Slow Down\r\nContent-Length: 4\r\n\r\n<x/>",
        b"HTTP/1.1 403 No\r\nContent-Length: 6\r\n\r\n<html>",
        b"garbage",
    ],
    ids=["half", "500", "503", "html", "garbage"],
)
async def test_broken_answer_is_transient(moto, opened, answer):
    server = await broken_server(answer)
    async with server:
        port = server.sockets[0].getsockname()[1]
        storage = opened(moto, AWS_ENDPOINT_URL_S3=f"http://127.0.0.1:{port}")

        with pytest.raises(StorageUnavailableError):
            await storage.get(KEY)


async def test_missing_stays_missing_after_a_failed_server(moto, opened):
    with pytest.raises(MissingObjectError):
        await opened(moto).get("users/u1/originals/none.jpg")


@pytest.mark.parametrize(
    "url",
    ["s3:", "s3://", "s3://b", "s3://Bucket/x", "s3://key:secret@bucket/x", "s3://bucket?x=1", "s3://bucket/a/../b"],
)
def test_bad_s3_url_is_refused_without_repeating_it(url):
    with pytest.raises(ValueError, match="STORAGE_URL with s3:") as refused:
        open_storage(url, PUBLIC)

    assert "secret" not in str(refused.value)


def test_s3_without_public_url_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="STORAGE_PUBLIC_URL"):
        open_storage("s3://bucket/x")
