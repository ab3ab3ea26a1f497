"""Every object key that Darkroom writes or reads, built and checked in this one file.

Ids, extensions and keys come from rows written by strangers, so each part is
checked here before it becomes a path, a URL or a request.
"""

import posixpath
import re

from pipelines.errors import InvalidOptionsError

MAX_KEY_BYTES = 511
"""Under 512: a limit that every S3-compatible server keeps."""

MAX_PART_BYTES = 255
"""What a file system takes as a name; the same everywhere, so that no key works on one backend only."""

SHA_CHARS = 16
"""Hex digits of the content's sha256 in a key: 64 bits, so a zombie's late upload never meets the winner's object."""

OUR_PREFIXES = ("mcp-generated/", "mcp-input/", "mcp-modified/", "users/")
"""Everything that these functions build lies under one of them; nothing elsewhere is ours to remove."""

_KEY = re.compile(r"[A-Za-z0-9/_.-]+")
_PART = re.compile(r"[A-Za-z0-9_.-]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_EXTENSION = re.compile(r"[a-z0-9]{1,5}")


def original_key(user_id: str, image_id: str, extension: str) -> str:
    """Build the key of an uploaded picture.

    Raises:
        InvalidOptionsError: an id or the extension can't stand in a key; says which.
    """
    user, image = _part("userId", user_id), _part("imageId", image_id)
    return _key(f"users/{user}/originals/{image}.{_extension(extension)}")


def enhanced_key(user_id: str, image_id: str, job_id: str, sha256: str) -> str:
    """Build the key of an enhanced picture.

    Args:
        user_id: the job's owner.
        image_id: the enhanced image's row.
        job_id: the job.
        sha256: of the encoded result, 64 hex digits.

    Raises:
        InvalidOptionsError: a part can't stand in a key; says which.
    """
    user, image = _part("userId", user_id), _part("imageId", image_id)
    return _key(f"users/{user}/enhanced/{image}/{_result_name(job_id, sha256)}")


def generated_key(user_id: str, job_id: str, sha256: str) -> str:
    """Build the key of a picture made from text.

    Raises:
        InvalidOptionsError: a part can't stand in a key; says which.
    """
    return _key(f"mcp-generated/{_part('userId', user_id)}/{_result_name(job_id, sha256)}")


def modified_key(user_id: str, job_id: str, sha256: str) -> str:
    """Build the key of a picture made from a picture and an instruction.

    Raises:
        InvalidOptionsError: a part can't stand in a key; says which.
    """
    return _key(f"mcp-modified/{_part('userId', user_id)}/{_result_name(job_id, sha256)}")


def input_key(user_id: str, job_id: str, extension: str) -> str:
    """Build the key of the picture that a MODIFY job starts from.

    Raises:
        InvalidOptionsError: a part can't stand in a key; says which.
    """
    return _key(f"mcp-input/{_part('userId', user_id)}/{_part('job id', job_id)}.{_extension(extension)}")


def user_prefixes(user_id: str) -> tuple[str, ...]:
    """Return the prefixes under which a user's objects lie, each with its closing slash.

    Raises:
        InvalidOptionsError: the id can't stand in a key.
    """
    user = _part("userId", user_id)
    return f"users/{user}/", f"mcp-generated/{user}/", f"mcp-modified/{user}/", f"mcp-input/{user}/"


def is_users(key: str, user_id: str) -> bool:
    """Say whether a key lies under one of a user's prefixes; a key or id that is none never does."""
    try:
        return any(is_under(key, prefix) for prefix in user_prefixes(user_id))
    except InvalidOptionsError:
        return False


def is_under(key: str, prefix: str) -> bool:
    """Say whether a valid key lies under a prefix, part by part: `users/1` doesn't hold `users/10/x`.

    Args:
        key: as a row has it; an invalid key lies nowhere.
        prefix: with or without its closing slash, not empty.
    """
    folder = prefix.rstrip("/")
    return bool(folder) and key_problem(key) is None and key.startswith(f"{folder}/")


def check_key(key: str, where: str) -> str:
    """Return a key from a row if it is one that Darkroom would write.

    Args:
        key: as the row has it.
        where: the column, for the message.

    Raises:
        InvalidOptionsError: names the column and what is wrong.
    """
    if problem := key_problem(key):
        raise InvalidOptionsError(f"{where} is no key: {problem}")
    return key


def key_problem(key: str) -> str | None:
    """Return what is wrong with a key, or None: `[A-Za-z0-9/_.-]`, no empty or dotted parts, under 512 bytes."""
    if len(key.encode(errors="replace")) > MAX_KEY_BYTES:
        return f"it has {len(key.encode(errors='replace')):,} bytes; the limit is {MAX_KEY_BYTES}"
    if not _KEY.fullmatch(key):
        return "it is empty or holds a character other than A-Z a-z 0-9 / _ . -"
    if key.startswith("/") or key.endswith("/") or "//" in key:
        return "it starts or ends with / or holds //"
    if ".." in key or posixpath.normpath(key) != key:
        return "it holds .. or a part that is only a dot"
    if max(map(len, key.split("/"))) > MAX_PART_BYTES:
        return f"a part of it is longer than {MAX_PART_BYTES} bytes"
    return None


def extension_of(content_type: str) -> str:
    """Return the extension for a content type that Darkroom takes or makes.

    Raises:
        InvalidOptionsError: none of JPEG, PNG, WebP and GIF.
    """
    try:
        return _EXTENSIONS[content_type]
    except KeyError:
        raise InvalidOptionsError(f"no picture type: {content_type[:60]!r}") from None


_EXTENSIONS = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp", "image/gif": "gif"}


def _result_name(job_id: str, sha256: str) -> str:
    if not _SHA256.fullmatch(sha256):
        raise InvalidOptionsError("sha256 can't stand in a key: it isn't 64 lower-case hex digits")
    return f"{_part('job id', job_id)}-{sha256[:SHA_CHARS]}.jpg"


def _part(name: str, value: str) -> str:
    """Check one component of a key."""
    if not _PART.fullmatch(value) or ".." in value or value == ".":
        raise InvalidOptionsError(f"{name} can't stand in a key: {value[:60]!r}")
    return value


def _extension(extension: str) -> str:
    bare = extension.removeprefix(".").lower()
    if not _EXTENSION.fullmatch(bare):
        raise InvalidOptionsError(f"extension can't stand in a key: {extension[:60]!r}")
    return bare


def _key(key: str) -> str:
    return check_key(key, "the key made of these ids")
