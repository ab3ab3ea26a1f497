import errno
import hashlib
import os
import shutil
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import MissingObjectError, StorageUnavailableError
from pipelines.storage.backends import open_storage
from pipelines.storage.file import FileStorage

KEY = "users/u1/originals/i1.jpg"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "with a space"
    folder.mkdir()
    return folder


async def put(storage: FileStorage, data: bytes, key: str = KEY) -> None:
    await storage.put(key, data, "image/jpeg", hashlib.sha256(data).hexdigest())


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() or path.is_symlink())


async def test_object_is_a_file_at_root_and_key(root: Path) -> None:
    await put(FileStorage(root), b"pixels")

    assert (root / KEY).read_bytes() == b"pixels"
    assert files(root) == [KEY]


async def test_url_without_a_public_prefix_is_the_files(root: Path) -> None:
    storage = FileStorage(root)

    assert storage.url(KEY) == (root / KEY).as_uri()
    assert await storage.presign(KEY, timedelta(minutes=1)) == storage.url(KEY)


@pytest.mark.parametrize(("call", "number"), [("fsync", errno.EIO), ("rename", errno.ENOSPC)])
async def test_put_that_fails_leaves_nothing_half(
    root: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise OSError(number, "broken")

    storage = FileStorage(root)
    await put(storage, b"old")
    monkeypatch.setattr(os, call, broken)

    with pytest.raises(StorageUnavailableError, match=f"can't store {KEY} in the file storage: {os.strerror(number)}"):
        await put(storage, b"new")

    assert files(root) == [KEY]
    assert (root / KEY).read_bytes() == b"old"


async def test_put_on_a_full_disk_says_so(root: Path) -> None:
    # a real short write would need a disk of its own; a limit on the length of files takes the same way out
    import resource  # noqa: PLC0415
    import signal  # noqa: PLC0415

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, before[1]))
    try:
        with pytest.raises(StorageUnavailableError, match="File too large"):
            await put(FileStorage(root), bytes(1_000_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)

    assert files(root) == []


async def test_put_is_synced_before_it_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    for name in ("fsync", "rename"):
        real = getattr(os, name)

        def seen(*args: Any, _name: str = name, _real: Any = real, **kwargs: Any) -> None:
            steps.append(_name)
            _real(*args, **kwargs)

        monkeypatch.setattr(os, name, seen)

    await put(FileStorage(root), b"x", "one.jpg")

    assert steps == ["fsync", "rename", "fsync"]


@pytest.mark.parametrize("planted", ["users", "users/u1", KEY])
async def test_symlink_is_never_followed(root: Path, tmp_path: Path, planted: str) -> None:
    outside = tmp_path / "outside"
    (outside / "u1/originals").mkdir(parents=True)
    (outside / "originals").mkdir()
    for secret in ("u1/originals/i1.jpg", "originals/i1.jpg", "i1.jpg"):
        (outside / secret).write_bytes(b"secret")
    link = root / planted
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside if planted != KEY else outside / "i1.jpg")
    storage = FileStorage(root)

    for read in (storage.get(KEY), storage.head(KEY)):
        with pytest.raises(MissingObjectError):
            await read
    if planted == KEY:
        await put(storage, b"ours")
        assert not link.is_symlink()
    else:
        with pytest.raises(StorageUnavailableError):
            await put(storage, b"ours")
    await storage.delete(KEY)

    assert [path.read_bytes() for path in outside.rglob("*.jpg")] == [b"secret"] * 3


async def test_fifo_is_no_object_and_hangs_nobody(root: Path) -> None:
    (root / KEY).parent.mkdir(parents=True)
    os.mkfifo(root / KEY)

    with pytest.raises(MissingObjectError):
        await FileStorage(root).get(KEY)


async def test_lost_root_is_unavailable_and_nothing_is_missing(root: Path) -> None:
    storage = FileStorage(root)
    await put(storage, b"x")
    shutil.move(root, f"{root} unmounted")

    for attempt in (storage.get(KEY), storage.head(KEY), storage.delete(KEY), put(storage, b"x")):
        with pytest.raises(StorageUnavailableError, match="can't open the file storage's root"):
            await attempt
    assert files(root) == []


async def test_object_below_an_object_is_refused(root: Path) -> None:
    storage = FileStorage(root)
    await put(storage, b"x", "a/b")

    with pytest.raises(StorageUnavailableError):
        await put(storage, b"y", "a/b/c")
    with pytest.raises(StorageUnavailableError):
        await put(storage, b"y", "a")
    assert files(root) == ["a/b"]


async def test_calls_run_in_few_threads(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio  # noqa: PLC0415

    running, most, lock = 0, 0, threading.Lock()
    real = os.fsync

    def counted(file: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        real(file)
        with lock:
            running -= 1

    monkeypatch.setattr(os, "fsync", counted)
    storage = FileStorage(root)
    await asyncio.gather(*(put(storage, b"x", f"k{number}") for number in range(60)))

    assert most <= 8


def test_open_storage_makes_the_root_and_decodes_its_url(tmp_path: Path) -> None:
    folder = tmp_path / "a b" / "objects"

    assert open_storage(folder.as_uri()).url("k.jpg") == f"{folder.as_uri()}/k.jpg"
    assert folder.is_dir()


@pytest.mark.parametrize(
    "url", ["", "objects", "/objects", "ftp://host/x", "file:relative", "file://host/x", "file:", "file:///a%00b"]
)
def test_open_storage_of_a_bad_url_says_what_is_wrong(url: str) -> None:
    with pytest.raises(ValueError, match="STORAGE_URL"):
        open_storage(url)


def test_open_storage_that_can_not_make_its_root_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ValueError, match="can't be made a folder"):
        open_storage((tmp_path / "file" / "below").as_uri())
