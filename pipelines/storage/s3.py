"""Storage of objects in S3, R2 and compatible services, by boto3 in threads of our own."""

import asyncio
import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
    SSLError,
)
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential
from typing_extensions import override
from urllib3.exceptions import HTTPError

from config.failpoints import failpoint
from pipelines.errors import BadImageError, MissingObjectError, StageError, StorageUnavailableError
from pipelines.keys import key_problem, names_content
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

R = TypeVar("R")

MAX_THREADS = 16
"""How many calls run at a time, and how many connections are kept; asyncio's own executor is small and shared."""

CONNECT_S = 5.0
READ_S = 20.0
"""Time limit between two pieces of an answer; the whole object has TRANSFER_S."""

TRANSFER_S = 120.0
"""Time limit of a whole object, since a slow server may never exceed READ_S: 25 MB in this time are 210 kB/s."""

MAX_TRIES = 3
"""Tries of one call, with a backoff between them: every call is idempotent, since a key contains its content's hash."""

CHUNK_BYTES = 256 * 1024

SHA256_NAME = "sha256"
"""Name of our own hash in an object's metadata. The ETag can't be used, because some servers make it differently."""

_MISSING_CODES = frozenset({"NoSuchKey", "NotFound", "404"})
_UNNAMED_MISSING = "404"
"""The error code of a HEAD request's 404, which has no body: the object or the whole bucket may be missing."""

_CLIENT_CONFIG: dict[str, Any] = {
    # R2 and older servers answer boto3's default checksums with 501, and ranged answers of rclone's server fail them
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
    "signature_version": "s3v4",
    # the signature covers the body's sha256, so that the server refuses a body that was changed on the way
    "s3": {"addressing_style": "path", "payload_signing_enabled": True},
    "retries": {"mode": "standard", "total_max_attempts": MAX_TRIES},
    "connect_timeout": CONNECT_S,
    "read_timeout": READ_S,
    "max_pool_connections": MAX_THREADS,
}

_IMPATIENT: dict[str, Any] = {"retries": {"mode": "standard", "total_max_attempts": 1}, "read_timeout": CONNECT_S}


class S3Storage(Storage):
    """One bucket, under one prefix.

    Credentials, region and endpoint come from the standard AWS variables and
    files. Keys are written once and contain their content's hash, so nothing
    relies on conditional writes, which several servers silently ignore.
    """

    def __init__(self, bucket: str, prefix: str, public_url: str, *, is_patient: bool = True) -> None:
        """Prepare the storage; nothing is connected yet, and no credentials are read.

        Args:
            bucket: its name.
            prefix: prefix of every key in the bucket, without slashes at its ends; may be empty.
            public_url: prefix of the URLs written to rows; a row's URL is this and the key.
            is_patient: whether to repeat calls to a server that doesn't answer. Jobs repeat them; for a person at a
                terminal each call is made once.
        """
        self._bucket = bucket
        self._config = _CLIENT_CONFIG if is_patient else _CLIENT_CONFIG | _IMPATIENT
        self._prefix = f"{prefix}/" if prefix else ""
        self._public_url = public_url.rstrip("/")
        self._threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="s3")
        self._opening = threading.Lock()
        self._client: Any = None

    @override
    async def put(self, key: str, data: bytes, content_type: str, sha256: str) -> None:
        with failpoint("put_object"):
            await self._run(self._put, key, data, content_type, sha256)

    @override
    async def get(self, key: str, *, max_bytes: int = MAX_OBJECT_BYTES) -> bytes:
        return await self._run(self._get, readable_key(key), max_bytes)

    @override
    async def head(self, key: str) -> ObjectHead:
        return await self._run(self._head, readable_key(key))

    @override
    async def delete(self, key: str) -> None:
        with failpoint("delete_object"):
            await self._run(self._delete, checked_key(key))

    @override
    async def list_objects(self, prefix: str, *, after: str = "", most: int = 1_000) -> list[ListedObject]:
        return await self._run(self._list_objects, checked_prefix(prefix), after, most)

    @override
    def url(self, key: str) -> str:
        return f"{self._public_url}/{url_path(key)}"

    @override
    async def presign(self, key: str, expires: timedelta) -> str:
        check_expiry(expires)
        return await self._run(self._presign, readable_key(key), expires)

    @override
    async def aclose(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._client is not None:
            self._client.close()

    async def _run(self, call: Callable[..., R], *args: Any) -> R:
        """Run a blocking call in a thread of ours. If the caller is cancelled, the call ends by its own time limits."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *args)

    def _put(self, key: str, data: bytes, content_type: str, sha256: str) -> None:
        check_object(key, data, content_type, sha256)
        with _translated(f"store {key}"):
            self._opened().put_object(
                **self._place(key), Body=data, ContentType=content_type, Metadata={SHA256_NAME: sha256}
            )

    def _get(self, key: str, max_bytes: int) -> bytes:
        """Read a whole object. botocore repeats a request that failed, but not one whose body was cut off."""
        tries = Retrying(
            retry=retry_if_exception_type(_BodyBrokenError),
            stop=stop_after_attempt(MAX_TRIES),
            wait=wait_random_exponential(multiplier=0.2, max=2),
            reraise=True,
        )
        data: bytes = tries(self._read, key, max_bytes)
        return data

    def _read(self, key: str, max_bytes: int) -> bytes:
        with _translated(f"read {key}", key):
            answer = self._opened().get_object(**self._place(key))
        with contextlib.closing(answer["Body"]) as body:
            data = _limited(key, body, answer.get("ContentLength"), max_bytes)
        expected = _recorded_sha256(answer, key)
        if expected is not None and (found := hashlib.sha256(data).hexdigest()) != expected:
            raise _BodyBrokenError(f"object {key} came back changed: its sha256 is {found}, recorded {expected[:64]}")
        return data

    def _head(self, key: str) -> ObjectHead:
        try:
            with _translated(f"look at {key}", key):
                answer = self._opened().head_object(**self._place(key))
        except MissingObjectError as error:
            self._require_bucket(error)
            raise
        sha256 = _recorded_sha256(answer, key)
        if sha256 is None:  # an original, which may have been stored by another program
            sha256 = hashlib.sha256(self._get(key, MAX_OBJECT_BYTES)).hexdigest()
        content_type = answer.get("ContentType") or "application/octet-stream"
        return ObjectHead(key, answer["ContentLength"], sha256, content_type)

    def _require_bucket(self, error: MissingObjectError) -> None:
        """Raise a configuration error if an object is missing because the whole bucket is missing."""
        cause = error.__cause__
        if not isinstance(cause, ClientError) or _code(cause) != _UNNAMED_MISSING:
            return
        try:
            self._opened().head_bucket(Bucket=self._bucket)
        except ClientError as refused:
            if _code(refused) in {_UNNAMED_MISSING, "NoSuchBucket"}:
                raise StorageUnavailableError("the bucket that STORAGE_URL names isn't there") from refused
        except BotoCoreError as failed:
            raise StorageUnavailableError(f"can't look at the bucket: {_failure(failed)}") from failed

    def _delete(self, key: str) -> None:
        # Deleted one by one, because some servers require Content-MD5 for batches
        with contextlib.suppress(MissingObjectError):
            try:
                with _translated(f"delete {key}", key):
                    self._opened().delete_object(**self._place(key))
            except StorageUnavailableError:
                # servers over a file system fail with another error if the key is a folder: then the object is missing
                self._head(key)
                raise

    def _list_objects(self, prefix: str, after: str, most: int) -> list[ListedObject]:
        found: list[ListedObject] = []
        place: dict[str, Any] = {"Bucket": self._bucket, "Prefix": self._prefix + prefix}
        if after:
            place["StartAfter"] = self._prefix + after
        while len(found) < most:
            with _translated(f"list {prefix}"):
                page = self._opened().list_objects_v2(**place)
            for entry in page.get("Contents", []):
                key = str(entry["Key"]).removeprefix(self._prefix)
                # another program may store anything here, even objects that stand for folders
                if key > after and key_problem(key) is None:
                    found.append(ListedObject(key, entry["Size"], entry["LastModified"]))
            if not page.get("IsTruncated"):
                break
            place["ContinuationToken"] = page["NextContinuationToken"]
        return found[:most]

    def _presign(self, key: str, expires: timedelta) -> str:
        with _translated(f"sign a URL for {key}"):
            signed: str = self._opened().generate_presigned_url(
                "get_object", Params=self._place(key), ExpiresIn=int(expires.total_seconds())
            )
        return signed

    def _place(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    def _opened(self) -> Any:
        """Return the client, which all threads share.

        It is created in a thread, since that may have to fetch credentials.
        """
        with self._opening:
            if self._client is None:
                session = boto3.session.Session()
                region = session.region_name or os.environ.get("AWS_REGION") or "auto"
                self._client = session.client("s3", region_name=region, config=Config(**self._config))
            return self._client


class _BodyBrokenError(StorageUnavailableError):
    """Raised when an answer's body was cut off; the request is repeated at once."""


def _limited(key: str, body: Any, length: int | None, max_bytes: int) -> bytes:
    """Read a body up to its limits of bytes and time, whatever its header says of its length."""
    if length is not None and length > max_bytes:
        raise BadImageError(f"object {key} has {length:,} bytes; the limit is {max_bytes:,}")
    ends_s = time.monotonic() + TRANSFER_S
    data = bytearray()
    try:
        while piece := body.read(CHUNK_BYTES):
            data += piece
            if len(data) > max_bytes:
                raise BadImageError(f"object {key} has more than {max_bytes:,} bytes, the limit")
            if time.monotonic() > ends_s:
                raise StorageUnavailableError(f"object {key} wasn't read whole within {TRANSFER_S:g} s")
    except (BotoCoreError, HTTPError, OSError) as error:
        raise _BodyBrokenError(f"object {key} broke off while it was read: {_failure(error)}") from error
    if length is not None and len(data) != length:
        raise _BodyBrokenError(f"object {key} broke off while it was read: {len(data):,} of {length:,} bytes came")
    return bytes(data)


def _recorded_sha256(answer: Mapping[str, Any], key: str) -> str | None:
    """Return our own hash from an object's metadata, whose names may be in upper or lower case.

    Another program may have stored a `sha256` there too, in another form or of an earlier version of the object. Ours
    is recognized by the key, of which it is a part.
    """
    for name, value in answer.get("Metadata", {}).items():
        if name.lower() == SHA256_NAME and names_content(key, str(value)):
            return str(value)
    return None


@contextlib.contextmanager
def _translated(what: str, key: str | None = None) -> Iterator[None]:
    """Translate boto3's errors into ours. If a key is given, a missing object becomes MissingObjectError.

    The messages are ours: botocore's contain URLs, and a server's may contain anything.
    """
    try:
        yield
    except StageError:
        raise
    except ClientError as error:
        code = _code(error)
        if key is not None and code in _MISSING_CODES:
            raise MissingObjectError(f"object {key} is not in storage") from error
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", "?")
        raise StorageUnavailableError(f"can't {what}: the object storage refused with {status} {code[:60]}") from error
    except NoCredentialsError as error:
        raise StorageUnavailableError(
            f"can't {what}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from error
    except (BotoCoreError, HTTPError, OSError) as error:
        raise StorageUnavailableError(f"can't {what}: {_failure(error)}") from error


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def _failure(error: BotoCoreError | HTTPError | OSError) -> str:
    """Return words for what the object storage does instead of answering, such as `refuses connections`.

    Users read them, and botocore's own messages contain URLs.
    """
    match error:
        case ConnectTimeoutError() | ReadTimeoutError() | TimeoutError():
            words = "doesn't answer in time"
        case SSLError():
            words = "doesn't agree on TLS"
        case EndpointConnectionError():
            words = "doesn't answer"
        case ConnectionClosedError() | HTTPError() | OSError():
            words = "broke the connection"
        case _:
            words = "can't be asked as the AWS variables say"
    return f"the object storage {words}"
