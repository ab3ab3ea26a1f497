"""The interface of storages: objects by key, with one error for missing objects and one for failures."""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from urllib.parse import quote

from pipelines.errors import InvalidOptionsError, StorageUnavailableError
from pipelines.keys import key_problem, read_problem

MAX_OBJECT_BYTES = 64 * 1024 * 1024
"""The most bytes that `get` reads by default: more than any picture that is decoded or that Darkroom makes."""

_CONTENT_TYPE = re.compile(r"[a-z]+/[a-z0-9.+-]+")


@dataclass(frozen=True, slots=True)
class ObjectHead:
    """What is known about an object without its bytes.

    Attributes:
        key: its key.
        size_bytes: its length.
        sha256: 64 hex digits, as given to `put`; computed from the bytes if the backend
            stored no hash.
        content_type: as given to `put`; derived from the key's extension if the backend doesn't store it.
    """

    key: str
    size_bytes: int
    sha256: str
    content_type: str


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object in a listing; `modified_at` is an aware time: when the object was last stored."""

    key: str
    size_bytes: int
    modified_at: datetime


class Storage(Protocol):
    """Objects by key. Darkroom writes, removes and lists keys that `pipelines.keys` builds, and reads any key of S3.

    Each method checks its key first, and raises InvalidOptionsError for a key that it may not use.
    """

    async def put(self, key: str, data: bytes, content_type: str, sha256: str) -> None:
        """Store an object durably: when this returns, it exists. Storing the same key again replaces it as a whole.

        Args:
            key: from `pipelines.keys`.
            data: the object.
            content_type: such as `image/jpeg`.
            sha256: hash of `data`, 64 hex digits, verified.

        Raises:
            InvalidOptionsError: the key or the content type is invalid.
            StorageUnavailableError: the storage refused, is full, wasn't reached, or
                the hash doesn't match; no partial object is left.
        """
        ...

    async def get(self, key: str, *, max_bytes: int = MAX_OBJECT_BYTES) -> bytes:
        """Read a whole object.

        Raises:
            InvalidOptionsError: the key is invalid.
            MissingObjectError: there is no such object; the message names the key.
            BadImageError: it is longer than `max_bytes`; the message names both.
            StorageUnavailableError: anything else failed.
        """
        ...

    async def head(self, key: str) -> ObjectHead:
        """Return what is known about an object, without reading its bytes.

        Raises:
            InvalidOptionsError: the key is invalid.
            MissingObjectError: there is no such object; the message names the key.
            StorageUnavailableError: anything else failed.
        """
        ...

    async def delete(self, key: str) -> None:
        """Remove an object. If it is missing already, do nothing.

        Raises:
            InvalidOptionsError: the key is invalid.
            StorageUnavailableError: it may still be there.
        """
        ...

    async def list_objects(self, prefix: str, *, after: str = "", most: int = 1_000) -> list[ListedObject]:
        """Return the objects under a prefix, in the order of their keys' bytes.

        Args:
            prefix: folders with a closing slash, such as `users/`; objects elsewhere aren't listed.
            after: list only keys greater than this one, which is the last key of the previous page.
            most: the size of a page; a page with fewer objects is the last one.

        Raises:
            InvalidOptionsError: the prefix is invalid.
            StorageUnavailableError: anything else failed; no object is silently left out.
        """
        ...

    def url(self, key: str) -> str:
        """Return the URL, for an object's row, that never expires: the public prefix and the key, percent-encoded.

        The object need not exist.

        Raises:
            InvalidOptionsError: the key is invalid.
        """
        ...

    async def presign(self, key: str, expires: timedelta) -> str:
        """Return a URL with which anybody can read the object until it expires. Never store or log it.

        Raises:
            InvalidOptionsError: the key is invalid.
            ValueError: `expires` is not between a second and seven days.
            StorageUnavailableError: it can't be signed.
        """
        ...

    async def aclose(self) -> None:
        """Close connections. Idempotent."""
        ...


MAX_PRESIGN = timedelta(days=7)
"""S3's own maximum for signature version 4, AWS documentation, read 2026-11."""


def checked_key(key: str) -> str:
    """Return a key that Darkroom may write to or remove.

    Raises:
        InvalidOptionsError: the message says what is wrong with it.
    """
    if problem := key_problem(key):
        raise InvalidOptionsError(f"no object key: {problem}: {key[:80]!r}")
    return key


def readable_key(key: str) -> str:
    """Return a key that Darkroom may read, whichever program wrote it.

    Raises:
        InvalidOptionsError: the message says what is wrong with it.
    """
    if problem := read_problem(key):
        raise InvalidOptionsError(f"no object key: {problem}: {key[:80]!r}")
    return key


def url_path(key: str) -> str:
    """Return a key as the path of a URL that reads it; keys that Darkroom writes need no encoding."""
    return quote(readable_key(key), safe="/=")


def checked_prefix(prefix: str) -> str:
    """Return a prefix that may be given to a backend: one or more folders, each with its closing slash.

    Raises:
        InvalidOptionsError: the message says what is wrong with it.
    """
    if not prefix.endswith("/") or key_problem(prefix[:-1]):
        raise InvalidOptionsError(f"no prefix of objects: {prefix[:80]!r}; give folders with a closing slash")
    return prefix


def check_object(key: str, data: bytes, content_type: str, sha256: str) -> None:
    """Check an object that is to be stored.

    Raises:
        InvalidOptionsError: the key or the content type is invalid.
        StorageUnavailableError: the bytes don't have the given hash.
    """
    checked_key(key)
    if not _CONTENT_TYPE.fullmatch(content_type):
        raise InvalidOptionsError(f"no content type: {content_type[:80]!r}")
    if (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise StorageUnavailableError(f"object {key} was not stored: its sha256 is {found}, expected {sha256[:64]}")


def check_expiry(expires: timedelta) -> None:
    """Check how long a presigned URL may live.

    Raises:
        ValueError: it isn't between a second and MAX_PRESIGN, both included.
    """
    if not timedelta(seconds=1) <= expires <= MAX_PRESIGN:
        raise ValueError(f"a presigned URL may live 1 second to {MAX_PRESIGN.days} days, not {expires}")
