"""Names of jobs, users and other things as one segment of a URL."""

import base64
import binascii
import re
from typing import Final

_PLAIN: Final = re.compile(r"[A-Za-z0-9_.-]+")
_DOTS: Final = frozenset({".", ".."})
"""Segments that browsers and servers take for a folder."""

ENCODED: Final = "~"


def segment(name: str) -> str:
    """Return a name as one segment of a URL: as it is, or `~` and the base64url of its UTF-8.

    A job's name TABLE/ID becomes `TABLE:ID`, each part encoded by itself.
    """
    table, slash, rest = name.partition("/")
    if slash and _PLAIN.fullmatch(table):
        return f"{table}:{_encoded(rest)}"
    return _encoded(name)


def _encoded(name: str) -> str:
    if _PLAIN.fullmatch(name) and name not in _DOTS:
        return name
    return ENCODED + base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")


def name_of(given: str) -> str:
    """Return the name that a segment stands for: an id, or TABLE/ID.

    Raises:
        ValueError: the segment stands for no name.
    """
    table, colon, rest = given.rpartition(":")
    if colon and not _PLAIN.fullmatch(table):
        raise ValueError(f"{given!r} names no table before the colon")
    decoded = _decoded(rest)
    return f"{table}/{decoded}" if colon else decoded


def _decoded(given: str) -> str:
    if not given.startswith(ENCODED):
        if not _PLAIN.fullmatch(given):
            raise ValueError(f"{given!r} isn't a name")
        return given
    text = given[len(ENCODED) :]
    try:
        name = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{given!r} isn't a name") from error
    if not name or "\0" in name:
        raise ValueError(f"{given!r} isn't a name")
    return name


def asked_name(given: str, error: Exception) -> str:
    """Return the name that a segment of a request stands for.

    Raises:
        Exception: the given error, if the segment stands for no name.
    """
    try:
        return name_of(given)
    except ValueError as cause:
        raise error from cause
