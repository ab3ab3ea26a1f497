"""The registry of storage backends, by the scheme of STORAGE_URL."""

import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from pipelines.keys import key_problem
from pipelines.storage.file import FileStorage
from pipelines.storage.storage import Storage


class Opener(Protocol):
    """A function that opens the storage of a URL that has been checked."""

    def __call__(self, *, is_patient: bool) -> Storage:
        """Return the storage; see `open_storage`."""


def _file(storage_url: str, public_url: str | None) -> Opener:
    parts = urlsplit(storage_url)
    root = Path(unquote(parts.path))
    if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/") or "\0" in str(root):
        raise ValueError("STORAGE_URL with file: needs an absolute path, as in file:///var/lib/darkroom/objects")
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"STORAGE_URL names {root}, which can't be made a folder: {error.strerror}") from error
    return partial(_open_file, root, public_url)


def _open_file(root: Path, public_url: str | None, *, is_patient: bool) -> Storage:  # noqa: ARG001 - a disk answers
    return FileStorage(root, public_url)


_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
"""Matches a bucket's name; Amazon S3 User Guide, general purpose bucket naming rules, read 2026-11."""


def _s3(storage_url: str, public_url: str | None) -> Opener:
    parts = urlsplit(storage_url)
    prefix = parts.path.strip("/")
    if not _BUCKET.fullmatch(parts.netloc) or parts.query or parts.fragment:
        raise ValueError("STORAGE_URL with s3: needs a bucket's name, as in s3://bucket/prefix, and nothing else")
    if prefix and (problem := key_problem(prefix)):
        raise ValueError(f"STORAGE_URL with s3: has a prefix that can't stand in a key: {problem}")
    if not public_url:
        raise ValueError("STORAGE_URL with s3: needs STORAGE_PUBLIC_URL: a presigned URL in a row dies")
    return partial(_open_s3, parts.netloc, prefix, public_url)


def _open_s3(bucket: str, prefix: str, public_url: str, *, is_patient: bool) -> Storage:
    from pipelines.storage.s3 import S3Storage  # noqa: PLC0415 - boto3 takes 0.3 s, and with files nobody needs it

    return S3Storage(bucket, prefix, public_url, is_patient=is_patient)


BACKENDS: dict[str, Callable[[str, str | None], Opener]] = {
    "file": _file,
    "s3": _s3,
}
"""By scheme of STORAGE_URL: the function that checks the URL and returns how to open it."""


def checked_opener(storage_url: str, public_url: str | None = None) -> Opener:
    """Check the URL of a storage; return a function that opens it. For `file:` the root folder is created.

    Args:
        storage_url: such as `file:///path`.
        public_url: prefix of the URLs written to rows; None leaves it to the backend.

    Raises:
        ValueError: the scheme has no backend, the URL isn't complete, or its folder can't be created; the message
            leaves out what could be a secret.
    """
    scheme = urlsplit(storage_url).scheme
    if scheme not in BACKENDS:
        raise ValueError(f"STORAGE_URL starts with {scheme[:20]!r}; known are {', '.join(sorted(BACKENDS))}")
    return BACKENDS[scheme](storage_url, public_url)


def storage_place(storage_url: str) -> str:
    """Return a storage's folder, or its bucket with host and port, for messages to operators; never a secret."""
    parts = urlsplit(storage_url)
    if parts.scheme != "s3":
        return f"the files in {unquote(parts.path)}"
    endpoint = urlsplit(os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "")
    port = re.sub(r".*@", "", endpoint.netloc)  # without a login
    return f"bucket {parts.netloc} at {port or 'Amazon S3'}"


def open_storage(storage_url: str, public_url: str | None = None, *, is_patient: bool = True) -> Storage:
    """Open the storage that a URL names.

    Args:
        storage_url: as in `checked_opener`.
        public_url: as in `checked_opener`.
        is_patient: whether to repeat calls to a server that doesn't answer; otherwise each call is made once, with a
            time limit of 5 s.

    Raises:
        ValueError: as `checked_opener` raises.
    """
    return checked_opener(storage_url, public_url)(is_patient=is_patient)
