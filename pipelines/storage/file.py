"""Storage of objects as files: each object is the file `<root>/<key>`."""

import asyncio
import contextlib
import errno
import hashlib
import itertools
import os
import secrets
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from typing_extensions import override

from config.failpoints import failpoint
from pipelines.errors import BadImageError, MissingObjectError, StorageUnavailableError
from pipelines.keys import key_problem
from pipelines.storage.storage import (
    MAX_OBJECT_BYTES,
    ListedObject,
    ObjectHead,
    Storage,
    check_expiry,
    check_object,
    checked_key,
    checked_prefix,
    readable_key,
    url_path,
)

MAX_THREADS = 8
"""How many file operations run at a time, in threads of the storage's own; asyncio's are shared by the process."""

TEMPORARY_PREFIX = "~put-"
"""Prefix of files that are being written. No key that we write contains a tilde, and such a file is never read."""

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG})
"""Error numbers that mean a missing object: also if a link or folder is in its place, or its name is too long."""

_CONTENT_TYPES = {
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
}
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class FileStorage(Storage):
    """Files under one root: written to a temporary name, synced, renamed, and never outside of the root.

    Folders are opened one by one without following links, so that a symlink that
    someone planted under the root is refused, even if it is planted meanwhile.
    The root itself may be a link: it is the operator's.
    """

    def __init__(self, root: Path, public_url: str | None = None) -> None:
        """Prepare the storage; nothing is read or written yet.

        Args:
            root: an absolute path of an existing folder. If it is missing (unmounted), no object counts as missing: the
                storage is unavailable.
            public_url: prefix of the URLs written to rows; None gives `file:` URLs.
        """
        self._root = root
        self._prefix = (public_url or root.as_uri()).rstrip("/")
        self._threads = asyncio.Semaphore(MAX_THREADS)

    @override
    async def put(self, key: str, data: bytes, content_type: str, sha256: str) -> None:
        async with self._threads:
            with failpoint("put_object"):
                await asyncio.to_thread(self._put, key, data, content_type, sha256)

    @override
    async def get(self, key: str, *, max_bytes: int = MAX_OBJECT_BYTES) -> bytes:
        async with self._threads:
            return await asyncio.to_thread(self._get, readable_key(key), max_bytes)

    @override
    async def head(self, key: str) -> ObjectHead:
        async with self._threads:
            return await asyncio.to_thread(self._head, readable_key(key))

    @override
    async def delete(self, key: str) -> None:
        async with self._threads:
            with failpoint("delete_object"):
                await asyncio.to_thread(self._delete, checked_key(key))

    @override
    async def list_objects(self, prefix: str, *, after: str = "", most: int = 1_000) -> list[ListedObject]:
        async with self._threads:
            return await asyncio.to_thread(self._list_objects, checked_prefix(prefix), after, most)

    @override
    def url(self, key: str) -> str:
        return f"{self._prefix}/{url_path(key)}"

    @override
    async def presign(self, key: str, expires: timedelta) -> str:
        check_expiry(expires)  # files have no URLs for a limited time: this one is the same as the lasting one
        return self.url(key)

    @override
    async def aclose(self) -> None:
        return

    def _put(self, key: str, data: bytes, content_type: str, sha256: str) -> None:
        """Write a file, sync it, rename it, and sync its folder: a stored object must survive a power failure."""
        check_object(key, data, content_type, sha256)
        with _translated(f"store {key}"), self._folder(key, is_made=True) as (folder, name):
            temporary = f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.open(temporary, flags, 0o644, dir_fd=folder)
            try:
                with os.fdopen(file, "wb", buffering=0) as stream:
                    view = memoryview(data)
                    while view:
                        view = view[stream.write(view) :]
                    os.fsync(stream.fileno())
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=folder)
                raise
            os.fsync(folder)

    def _get(self, key: str, max_bytes: int) -> bytes:
        with _translated(f"read {key}", key), self._open(key) as (file, size_bytes):
            if size_bytes > max_bytes:
                raise BadImageError(f"object {key} has {size_bytes:,} bytes; the limit is {max_bytes:,}")
            with os.fdopen(os.dup(file), "rb") as stream:
                # one byte more than allowed, since the file may grow while it is read
                data = stream.read(max_bytes + 1)
            if len(data) > max_bytes:
                raise BadImageError(f"object {key} has more than {max_bytes:,} bytes, the limit")
            return data

    def _head(self, key: str) -> ObjectHead:
        with _translated(f"look at {key}", key), self._open(key) as (file, size_bytes):
            with os.fdopen(os.dup(file), "rb") as stream:
                sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            content_type = _CONTENT_TYPES.get(key.rpartition(".")[2].lower(), "application/octet-stream")
            return ObjectHead(key, size_bytes, sha256, content_type)

    def _delete(self, key: str) -> None:
        with (
            contextlib.suppress(MissingObjectError),
            _translated(f"delete {key}", key),
            self._folder(key, is_made=False) as (folder, name),
        ):
            os.unlink(name, dir_fd=folder)
            os.fsync(folder)

    def _list_objects(self, prefix: str, after: str, most: int) -> list[ListedObject]:
        try:
            with _translated(f"list {prefix}", prefix), self._folder(f"{prefix}x", is_made=False) as (folder, _name):
                return list(itertools.islice(_walk(folder, prefix, after), most))
        except MissingObjectError:
            return []

    @contextlib.contextmanager
    def _open(self, key: str) -> Iterator[tuple[int, int]]:
        """Open an object for reading; yields its descriptor and its length in bytes."""
        with self._folder(key, is_made=False) as (folder, name):
            if name.startswith(TEMPORARY_PREFIX):
                raise OSError(errno.ENOENT, "a file that is being written")
            # O_NONBLOCK, so that opening a planted FIFO can't hang
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            try:
                status = os.fstat(file)
                if not stat.S_ISREG(status.st_mode):
                    raise OSError(errno.ENOENT, "not a regular file")
                yield file, status.st_size
            finally:
                os.close(file)

    @contextlib.contextmanager
    def _folder(self, key: str, *, is_made: bool) -> Iterator[tuple[int, str]]:
        """Open an object's folder without following a link; yields its descriptor and the file's name."""
        *folders, name = key.split("/")
        try:
            current = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise StorageUnavailableError(f"can't open the file storage's root: {_reason(error)}") from error
        try:
            for folder in folders:
                if is_made:
                    _make_folder(current, folder)
                below = os.open(folder, _FOLDER, dir_fd=current)
                os.close(current)
                current = below
            yield current, name
        finally:
            os.close(current)


def _walk(folder: int, prefix: str, after: str) -> Iterator[ListedObject]:
    """Yield the objects below an open folder, ordered by key.

    Links aren't followed; folders before `after` are skipped.
    """
    with os.scandir(folder) as entries:
        # A folder is sorted with its slash, as keys are: `a-b` comes before `a/c`
        found = sorted((f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name) for entry in entries)
    for name in found:
        key = f"{prefix}{name}"
        if name.startswith(TEMPORARY_PREFIX) or (key <= after and not after.startswith(key)):
            continue
        try:
            if name.endswith("/"):
                below = os.open(name[:-1], _FOLDER, dir_fd=folder)
                try:
                    yield from _walk(below, key, after)
                finally:
                    os.close(below)
            elif key > after:
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISREG(status.st_mode) and key_problem(key) is None:
                    yield ListedObject(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))
        except OSError as error:
            if error.errno not in _ABSENT:  # otherwise the folder was removed meanwhile
                raise


def _make_folder(parent: int, name: str) -> None:
    """Create a folder, so that it survives a power failure, unless it exists."""
    try:
        os.mkdir(name, dir_fd=parent)
    except FileExistsError:
        return
    os.fsync(parent)


@contextlib.contextmanager
def _translated(what: str, key: str | None = None) -> Iterator[None]:
    """Translate the system's errors into ours. If a key is given, a missing file becomes MissingObjectError."""
    try:
        yield
    except OSError as error:
        if key is not None and error.errno in _ABSENT:
            raise MissingObjectError(f"object {key} is not in storage") from error
        raise StorageUnavailableError(f"can't {what} in the file storage: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    """Return the system's message of an error, without its paths."""
    return os.strerror(error.errno) if error.errno else "the system refuses"
