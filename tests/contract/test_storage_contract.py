"""Rules that every storage backend keeps. A backend is added by a line in BACKENDS."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipelines import keys
from pipelines.errors import BadImageError, InvalidOptionsError, MissingObjectError, StorageUnavailableError
from pipelines.storage import backends
from pipelines.storage.storage import ObjectHead, Storage
from tests.support.s3_servers import BUCKET, S3Server

KEY = "users/u1/enhanced/i1/j1-0123456789abcdef.jpg"
HOUR = timedelta(hours=1)


PUBLIC_URL = "https://pictures.example/base/"

BACKENDS: dict[str, Callable[[Path], str]] = {
    "file": lambda folder: (folder / "objects").as_uri(),
    "moto": lambda folder: f"s3://{BUCKET}/{folder.name}/below",
    "rclone": lambda folder: f"s3://{BUCKET}/{folder.name}/below",
}
"""Name of a server -> the STORAGE_URL of an empty storage there. moto answers as S3 does; rclone checks signatures."""


@pytest.fixture(params=sorted(BACKENDS))
async def storage(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Storage]:
    if request.param != "file":
        server: S3Server = request.getfixturevalue(request.param)
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
    opened = backends.open_storage(BACKENDS[request.param](tmp_path), PUBLIC_URL)
    yield opened
    await opened.aclose()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def put(storage: Storage, key: str, data: bytes) -> None:
    await storage.put(key, data, "image/jpeg", sha256(data))


def test_every_backend_is_under_contract(tmp_path: Path) -> None:
    assert {url(tmp_path).partition(":")[0] for url in BACKENDS.values()} == set(backends.BACKENDS)


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 40_000], ids=["0", "1", "10M"])
async def test_put_object_reads_back_whole(storage: Storage, data: bytes) -> None:
    await put(storage, KEY, data)

    assert await storage.get(KEY) == data
    assert await storage.head(KEY) == ObjectHead(KEY, len(data), sha256(data), "image/jpeg")


async def test_put_twice_replaces_whole(storage: Storage) -> None:
    await put(storage, KEY, b"the longer first one")
    await put(storage, KEY, b"second")

    assert await storage.get(KEY) == b"second"


async def test_put_with_a_wrong_hash_stores_nothing(storage: Storage) -> None:
    with pytest.raises(StorageUnavailableError, match="sha256"):
        await storage.put(KEY, b"changed on the way", "image/jpeg", sha256(b"original"))

    with pytest.raises(MissingObjectError):
        await storage.head(KEY)


@pytest.mark.parametrize("content_type", ["", "image", "image/jpeg\r\nX-Evil: 1", "IMAGE/JPEG"])
async def test_put_with_a_bad_content_type_is_refused(storage: Storage, content_type: str) -> None:
    with pytest.raises(InvalidOptionsError, match="no content type"):
        await storage.put(KEY, b"x", content_type, sha256(b"x"))


async def test_missing_object_is_one_error_that_names_the_key(storage: Storage) -> None:
    for read in (storage.get(KEY), storage.head(KEY)):
        with pytest.raises(MissingObjectError, match=KEY):
            await read


async def test_folder_of_an_object_is_no_object(storage: Storage) -> None:
    await put(storage, KEY, b"x")

    for key in ("users/u1", f"{KEY}/below.jpg"):
        with pytest.raises(MissingObjectError):
            await storage.get(key)


async def test_delete_may_come_twice_and_too_early(storage: Storage) -> None:
    await storage.delete(KEY)
    await put(storage, KEY, b"x")
    await storage.delete(KEY)
    await storage.delete(KEY)

    with pytest.raises(MissingObjectError):
        await storage.get(KEY)


async def test_delete_leaves_neighbours(storage: Storage) -> None:
    await put(storage, KEY, b"x")
    await put(storage, "users/u10/originals/a.jpg", b"y")
    await storage.delete(KEY)
    await storage.delete("users/u10")

    assert await storage.get("users/u10/originals/a.jpg") == b"y"


async def test_get_stops_at_its_limit(storage: Storage) -> None:
    await put(storage, KEY, bytes(1001))

    assert len(await storage.get(KEY, max_bytes=1001)) == 1001
    with pytest.raises(BadImageError, match="has 1,001 bytes; the limit is 1,000"):
        await storage.get(KEY, max_bytes=1000)


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../up.png", "a/../../b", "a//b", "a/", "a\\b", "a\0b", "a b", "./a", "a/./b", "x" * 600]
)
async def test_odd_key_is_never_written_or_removed(storage: Storage, key: str) -> None:
    for attempt in (storage.put(key, b"x", "image/jpeg", sha256(b"x")), storage.delete(key)):
        with pytest.raises(InvalidOptionsError, match="no object key"):
            await attempt


@pytest.mark.parametrize("key", ["", "../up.png", "a/../../b", "a\0b", "./a", "a/./b", "x" * 1025, "ü" * 513])
async def test_key_that_no_object_has_is_refused_before_anything_is_touched(storage: Storage, key: str) -> None:
    for attempt in (storage.get(key), storage.head(key), storage.presign(key, HOUR)):
        with pytest.raises(InvalidOptionsError, match="no object key"):
            await attempt
    with pytest.raises(InvalidOptionsError, match="no object key"):
        storage.url(key)


@pytest.mark.parametrize("key", ["/etc/passwd", "a//b", "a/", "x" * 1000, "a\nb", "~put-0", "users/~put-1"])
async def test_odd_key_without_an_object_gives_none(storage: Storage, key: str) -> None:
    with pytest.raises((MissingObjectError, StorageUnavailableError)):  # some servers refuse what S3 takes
        await storage.get(key)


async def test_encoded_id_of_any_bytes_is_written_read_listed_and_removed(storage: Storage) -> None:
    key = keys.enhanced_key("auth0|5f7c", "..", "ü" * 100, sha256(b"x"))
    await put(storage, key, b"x")

    assert await storage.get(key) == b"x"
    assert [listed.key for listed in await storage.list_objects("users/auth0=7C5f7c/")] == [key]
    assert storage.url(key) == f"https://pictures.example/base/{key}"
    await storage.delete(key)
    with pytest.raises(MissingObjectError):
        await storage.head(key)


async def test_url_is_the_public_prefix_and_the_key(storage: Storage) -> None:
    assert storage.url(KEY) == f"https://pictures.example/base/{KEY}"


async def test_url_of_another_programs_key_is_percent_encoded(storage: Storage) -> None:
    assert storage.url("ü/a b+%2F?#.jpg") == "https://pictures.example/base/%C3%BC/a%20b%2B%252F%3F%23.jpg"


async def test_presign_gives_a_url_and_bounds_its_life(storage: Storage) -> None:
    assert KEY in await storage.presign(KEY, HOUR)
    for expires in (timedelta(), timedelta(days=8), -HOUR):
        with pytest.raises(ValueError, match="1 second to 7 days"):
            await storage.presign(KEY, expires)


async def test_many_puts_and_reads_at_once_keep_every_object_whole(storage: Storage) -> None:
    objects = {f"users/u{number % 5}/originals/i{number}.jpg": bytes([number]) * 20_000 for number in range(40)}
    await asyncio.gather(*(put(storage, key, data) for key, data in objects.items()))

    assert await asyncio.gather(*(storage.get(key) for key in objects)) == list(objects.values())


async def test_racing_puts_of_one_key_leave_one_of_them_whole(storage: Storage) -> None:
    candidates = [bytes([number]) * 50_000 for number in range(10)]
    await asyncio.gather(*(put(storage, KEY, data) for data in candidates))

    assert await storage.get(KEY) in candidates


LISTED = sorted(
    [f"users/u{number}/originals/a.jpg" for number in range(12)]
    + ["users/u1-b/x.jpg", "users/u1/b/c.jpg", "users/u1.jpg", "mcp-input/u1/a.jpg"]
)


async def test_list_gives_keys_below_a_prefix_in_order_with_size_and_time(storage: Storage) -> None:
    for key in LISTED:
        await put(storage, key, b"four")
    listed = await storage.list_objects("users/")

    assert [found.key for found in listed] == [key for key in LISTED if key.startswith("users/")]
    assert {found.size_bytes for found in listed} == {4}
    assert all(abs(datetime.now(UTC) - found.modified_at) < HOUR for found in listed)
    assert [found.key for found in await storage.list_objects("users/u1/")] == [
        key for key in LISTED if key.startswith("users/u1/")
    ]


@pytest.mark.parametrize("most", [1, 4, 15])
async def test_list_in_pages_leaves_nothing_out(storage: Storage, most: int) -> None:
    for key in LISTED:
        await put(storage, key, b"x")
    found, after = [], ""
    while page := await storage.list_objects("users/", after=after, most=most):
        assert len(page) <= most
        found += [listed.key for listed in page]
        after = found[-1]

    assert found == [key for key in LISTED if key.startswith("users/")]


async def test_list_of_nothing_is_empty(storage: Storage) -> None:
    assert await storage.list_objects("users/nobody/") == []


@pytest.mark.parametrize("prefix", ["", "/", "users", "../", "users/../", "users//"])
async def test_list_of_an_odd_prefix_is_refused(storage: Storage, prefix: str) -> None:
    with pytest.raises(InvalidOptionsError, match="no prefix"):
        await storage.list_objects(prefix)
