"""Bodies of requests: read once, of limited size, and handed on to the route unchanged."""

from typing import Final
from urllib.parse import unquote_plus

from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.types import Message, Receive

MOST_BYTES: Final = 1_000_000
"""The largest body that a request may have."""

MOST_FIELDS: Final = 20_000
"""More fields than the largest form has, which selects 10,000 jobs and one more."""


class BodyTooLargeError(Exception):
    """Raised when a body has more than MOST_BYTES."""


class BodyLostError(Exception):
    """Raised when the client goes away before its request is complete."""


def is_declared_too_large(headers: Headers) -> bool:
    """Return whether a request says of itself that its body is too large."""
    length = headers.get("content-length", "0")
    return length.isdecimal() and int(length[:20]) > MOST_BYTES


async def read_body(receive: Receive) -> bytes:
    """Read the whole body of a request.

    Raises:
        BodyTooLargeError: it is too large; the rest isn't read.
        BodyLostError: the client is gone.
    """
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise BodyLostError
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MOST_BYTES:
            raise BodyTooLargeError
        if not message.get("more_body", False):
            return b"".join(parts)


def replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body that was read, and then whatever comes: the client's going away."""
    is_given = False

    async def give() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return give


async def field_of(name: str, headers: Headers, body: bytes) -> str | None:
    """Return a field of a form; None if the body is no form or has no such field."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        wanted = name.encode()
        for part in body.split(b"&"):
            key, _, value = part.partition(b"=")
            if key == wanted:
                return unquote_plus(value.decode("latin-1"))
    if kind == "multipart/form-data":
        request = Request({"type": "http", "headers": headers.raw}, replayed(body, _nothing))
        try:
            async with request.form(max_fields=MOST_FIELDS) as form:
                found = form.get(name)
        except MultiPartException:
            return None
        return found if isinstance(found, str) else None
    return None


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
