"""Keys of objects: every key that Darkroom writes or reads is built or checked here.

Ids, extensions and keys come from rows that other programs write, so each part is
encoded or checked here before it becomes part of a path, a URL or a request.

There are two rules: a key that Darkroom writes consists of `[A-Za-z0-9/_.=-]` and contains no other user's part, and a
key that it reads may be any key that S3 allows.
"""

import hashlib
import posixpath
import re

from config.job_terms import MAX_ID_CHARS, MAX_READ_KEY_BYTES
from pipelines.errors import InvalidOptionsError

MAX_KEY_BYTES = 511
"""The longest key that Darkroom writes, in bytes. Every S3-compatible server accepts keys shorter than 512 bytes."""

MAX_PART_BYTES = 255
"""Longest part of a key in bytes, as for file names; the same for all backends, so that each accepts the same keys."""

INPUTS = "mcp-input/"
"""Prefix of the pictures that MODIFY jobs change."""

ANSWERS = "answers/"
"""Prefix of pictures as providers sent them, whose jobs have still to finish them; under no user's prefix."""

SHA_CHARS = 16
"""Hex digits of the content's sha256 in a key: 64 bits, so that a zombie's late upload never replaces a result."""

_KEY = re.compile(r"[A-Za-z0-9/_.=-]+")
_ODD = re.compile(rb"[^A-Za-z0-9_.-]|\.\.|\A\.")
"""Matches what a part of a key must not contain: any other byte, a dot at its beginning, two dots in a row."""

_HASHED = "=_"
"""Prefix of the encoded form of an id that is too long.

No other encoded id begins with it, since `=` is followed by two hex digits there.
"""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_EXTENSION = re.compile(r"[a-z0-9]{1,5}")


def encoded_id(text: str) -> str:
    """Encode an id as one part of a key: different ids get different parts, and ordinary ids stay unchanged.

    Each byte of its UTF-8 outside `[A-Za-z0-9_.-]` becomes `=XX`, and so do a dot at its beginning and two dots in a
    row; the empty id is `=`. An encoding of more than MAX_ID_CHARS becomes `=_` and the sha256 of the id, which can't
    be decoded: the row that names the key has the id.
    """
    encoded = _ODD.sub(_escaped, _utf8(text)).decode() or "="
    return encoded if len(encoded) <= MAX_ID_CHARS else _hashed(text)


def original_key(user_id: str, image_id: str, extension: str) -> str:
    """Build the key of an uploaded picture.

    Raises:
        InvalidOptionsError: the extension can't be part of a key; the message names it.
    """
    return _key(f"users/{encoded_id(user_id)}/originals/{_file_name(image_id, extension)}")


def enhanced_key(user_id: str, image_id: str, job_id: str, sha256: str) -> str:
    """Build the key of an enhanced picture.

    Args:
        user_id: the job's owner.
        image_id: the enhanced image's row.
        job_id: the job. If the three ids together make the key too long, a hash of this id is used in its place.
        sha256: hash of the encoded result, 64 hex digits.

    Raises:
        InvalidOptionsError: the hash isn't 64 hex digits.
    """
    folder = f"users/{encoded_id(user_id)}/enhanced/{encoded_id(image_id)}"
    key = f"{folder}/{_result_name(encoded_id(job_id), sha256)}"
    if len(key) > MAX_KEY_BYTES:
        key = f"{folder}/{_result_name(_hashed(job_id), sha256)}"
    return _key(key)


def generated_key(user_id: str, job_id: str, sha256: str) -> str:
    """Build the key of a picture made from text.

    Raises:
        InvalidOptionsError: the hash isn't 64 hex digits.
    """
    return _key(f"mcp-generated/{encoded_id(user_id)}/{_result_name(encoded_id(job_id), sha256)}")


def modified_key(user_id: str, job_id: str, sha256: str) -> str:
    """Build the key of a picture made from a picture and an instruction.

    Raises:
        InvalidOptionsError: the hash isn't 64 hex digits.
    """
    return _key(f"mcp-modified/{encoded_id(user_id)}/{_result_name(encoded_id(job_id), sha256)}")


def result_folder(application: str, user_id: str) -> str:
    """Return the folder of the results of another application than `pictures` for one user, without its slash."""
    return f"{application}/{encoded_id(user_id)}"


def result_key(application: str, user_id: str, job_id: str, number: int, sha256: str) -> str:
    """Build the key of a result of another application than `pictures`.

    Args:
        application: its name.
        user_id: the job's owner.
        job_id: the job. If it makes the key too long, a hash of this id is used in its place.
        number: which of the job's results it is, from 1.
        sha256: hash of the encoded result, 64 hex digits.

    Raises:
        InvalidOptionsError: the hash isn't 64 hex digits.
    """
    folder = result_folder(application, user_id)
    key = f"{folder}/{_result_name(f'{encoded_id(job_id)}-{number}', sha256)}"
    if key_problem(key) is not None:
        key = f"{folder}/{_result_name(f'{_hashed(job_id)}-{number}', sha256)}"
    return _key(key)


def input_key(user_id: str, job_id: str, extension: str) -> str:
    """Build the key of the picture that a MODIFY job changes.

    Raises:
        InvalidOptionsError: the extension can't be part of a key; the message names it.
    """
    return _key(f"{INPUTS}{encoded_id(user_id)}/{_file_name(job_id, extension)}")


def answer_key(user_id: str, job_id: str, asked_hash: str) -> str:
    """Build the key of a provider's answer that isn't finished yet.

    Args:
        user_id: the job's owner.
        job_id: the job.
        asked_hash: hash of all that the picture depends on, with its crop and size, 64 hex digits; nobody can guess it.

    Raises:
        InvalidOptionsError: the hash isn't 64 hex digits.
    """
    if not _SHA256.fullmatch(asked_hash):
        raise InvalidOptionsError("the answer's hash can't stand in a key: it isn't 64 lower-case hex digits")
    return _key(f"{ANSWERS}{encoded_id(user_id)}/{encoded_id(job_id)}/{asked_hash}")


def user_prefixes(user_id: str) -> tuple[str, ...]:
    """Return the prefixes of a user's objects, each with its closing slash. No other user has the same prefixes.

    First come those that Darkroom writes to, then those of programs that put ids into keys unencoded. If the id
    contains a slash or an equals sign, only the former are returned: an unencoded prefix would lie in another user's
    folder, or could be the encoding of another user's id.
    """
    encoded = encoded_id(user_id)
    parts = [encoded]
    if user_id != encoded and not re.search(r"[/=\0]", user_id) and user_id not in {"", ".", ".."}:
        parts.append(user_id)
    return tuple(f"{kind}{part}/" for part in parts for kind in ("users/", "mcp-generated/", "mcp-modified/", INPUTS))


def is_users(key: str, user_id: str) -> bool:
    """Return whether a key lies under one of a user's prefixes; a key that isn't valid never does."""
    return any(is_under(key, prefix) for prefix in user_prefixes(user_id))


def is_under(key: str, prefix: str) -> bool:
    """Return whether a key lies under a prefix, compared part by part: `users/10/x` isn't under `users/1`.

    Args:
        key: as a row has it. A key that isn't valid, or that a server may read as another key, is under no prefix.
        prefix: with or without its closing slash, not empty.
    """
    folder = prefix.rstrip("/")
    if not folder or read_problem(key) is not None or "" in key.split("/"):
        return False
    return key.startswith(f"{folder}/")


def ids_below(key: str, user_id: str) -> tuple[str, ...]:
    """Return the longer ids, beginning with a user's id and a slash, to whose users a key may belong as well.

    If there are users `a` and `a/b`, the key `users/a/b/x.jpg` of another program may belong to either of them.
    """
    for prefix in user_prefixes(user_id):
        if is_under(key, prefix):
            kind, _, own = prefix.rstrip("/").partition("/")
            folders = key.removeprefix(f"{kind}/{own}/").split("/")[:-1]
            return tuple("/".join((own, *folders[:count])) for count in range(1, len(folders) + 1))
    return ()


def check_readable(key: str, where: str) -> str:
    """Return a key that a row names, if an object can have this key.

    Args:
        key: as the row has it.
        where: the column, for the message.

    Raises:
        InvalidOptionsError: names the column and what is wrong.
    """
    if problem := read_problem(key):
        raise InvalidOptionsError(f"{where} is no key: {problem}")
    return key


def key_problem(key: str) -> str | None:
    """Return the reason why Darkroom must not write to a key; None if it may.

    A key that Darkroom writes to consists of `[A-Za-z0-9/_.=-]`, has no empty or dotted parts, and is shorter than 512
    bytes.
    """
    if len(_utf8(key)) > MAX_KEY_BYTES:
        return f"it has {len(_utf8(key)):,} bytes; the limit is {MAX_KEY_BYTES}"
    if not _KEY.fullmatch(key):
        return "it is empty or holds a character other than A-Z a-z 0-9 / _ . = -"
    if key.startswith("/") or key.endswith("/") or "//" in key:
        return "it starts or ends with / or holds //"
    if ".." in key or posixpath.normpath(key) != key:
        return "it holds .. or a part that is only a dot"
    if max(map(len, key.split("/"))) > MAX_PART_BYTES:
        return f"a part of it is longer than {MAX_PART_BYTES} bytes"
    return None


def read_problem(key: str) -> str | None:
    """Return the reason why no object can have a key that another program wrote; None if an object can.

    S3 accepts 1 to 1,024 bytes of UTF-8. A part that is `.` or `..` is refused, because servers over a file system, and
    URLs, would read another object.
    """
    try:
        size_bytes = len(key.encode())
    except UnicodeEncodeError:
        return "it is no Unicode text"
    if not 0 < size_bytes <= MAX_READ_KEY_BYTES:
        return f"it has {size_bytes:,} bytes; a key has 1 to {MAX_READ_KEY_BYTES:,}"
    if "\0" in key:
        return "it holds NUL"
    if not {".", ".."}.isdisjoint(key.split("/")):
        return "it holds a part that is . or .."
    return None


def names_content(key: str, sha256: str) -> bool:
    """Return whether a key has the form of a result's key and contains this hash of its content."""
    return bool(_SHA256.fullmatch(sha256)) and key.endswith(f"-{sha256[:SHA_CHARS]}.jpg")


def extension_of(content_type: str) -> str:
    """Return the extension for a content type that Darkroom accepts or makes.

    Raises:
        InvalidOptionsError: the type is none of JPEG, PNG, WebP and GIF.
    """
    try:
        return _EXTENSIONS[content_type]
    except KeyError:
        raise InvalidOptionsError(f"no picture type: {content_type[:60]!r}") from None


_EXTENSIONS = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp", "image/gif": "gif"}


def _utf8(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def _escaped(odd: re.Match[bytes]) -> bytes:
    return "".join(f"={byte:02X}" for byte in odd[0]).encode()


def _hashed(text: str) -> str:
    return _HASHED + hashlib.sha256(_utf8(text)).hexdigest()


def _result_name(part: str, sha256: str) -> str:
    if not _SHA256.fullmatch(sha256):
        raise InvalidOptionsError("sha256 can't stand in a key: it isn't 64 lower-case hex digits")
    return f"{part}-{sha256[:SHA_CHARS]}.jpg"


def _file_name(text: str, extension: str) -> str:
    """Build a name from an id and an extension.

    An id that ends with a dot is encoded, since two dots aren't allowed.
    """
    bare = extension.removeprefix(".").lower()
    if not _EXTENSION.fullmatch(bare):
        raise InvalidOptionsError(f"extension can't stand in a key: {extension[:60]!r}")
    part = encoded_id(text)
    return f"{part[:-1]}=2E.{bare}" if part.endswith(".") else f"{part}.{bare}"


def _key(key: str) -> str:
    if problem := key_problem(key):  # all parts are encoded, so a problem here would be a bug of this module
        raise InvalidOptionsError(f"the key made of these ids can't be written: {problem}")
    return key
