"""Fetching of pictures that users name by a URL."""

import asyncio
from http import HTTPStatus

import httpcore
import httpx

from pipelines.errors import BadImageError
from pipelines.public_client import (
    COLUMN,
    FORBIDDEN_CHARACTERS,
    FetchFailedError,
    FetchRefusedError,
    PublicClient,
    Resolve,
    header,
    in_words_of,
    is_packed,
    resolved,
)

MAX_REDIRECTS = 3

DEADLINE_S = 30.0
"""Seconds for a whole fetch, redirects included: a server that sends byte by byte would never exceed a read timeout."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({408, 425, 429})
"""Status codes below 500 after which another try may succeed (RFC 9110, RFC 8470, RFC 6585)."""

_HEADERS = {"Accept": "image/jpeg, image/png, image/webp, image/gif"}


class PictureFetcher:
    """Fetches pictures that users name by a URL. It follows redirects, each by a new connection."""

    def __init__(
        self, *, allow_loopback: bool = False, resolve: Resolve = resolved, deadline_s: float = DEADLINE_S
    ) -> None:
        """Prepare the fetcher. Nothing is connected yet.

        Args:
            allow_loopback: allow this machine's own addresses, on any port; for tests only.
            resolve: function that resolves a host.
            deadline_s: time limit of a whole fetch.
        """
        self.client = PublicClient(allow_loopback=allow_loopback, resolve=resolve)
        self._deadline_s = deadline_s

    async def fetch(self, url: str, *, max_bytes: int, column: str = COLUMN) -> bytes:
        """Return the bytes at a URL. Whether they are a picture is checked by `imaging.decode`.

        Args:
            url: the URL, as the row has it.
            max_bytes: limit, counted while bytes arrive, whatever the header says.
            column: where the URL comes from, for messages.

        Raises:
            FetchRefusedError: the URL, or the address of its host or of a redirect's host, is refused, or another try
                would get the same answer.
            BadImageError: more than `max_bytes`.
            FetchFailedError: the server wasn't reached, broke off, was too slow, or out of order.
        """
        with in_words_of(column):
            try:
                async with asyncio.timeout(self._deadline_s):
                    return await self._follow(url, max_bytes)
            except TimeoutError as error:
                raise FetchFailedError(f"inputImageUrl wasn't fetched within {self._deadline_s:g} s") from error

    async def _follow(self, text: str, max_bytes: int) -> bytes:
        url = self.client.checked(text)
        for _ in range(MAX_REDIRECTS + 1):
            async with self.client.request("GET", url, _HEADERS) as answer:
                if answer.status not in _REDIRECTS:
                    return await _body(answer, max_bytes)
                location = header(answer, b"location")
            url = self._next_url(url, location)
        raise FetchRefusedError(f"inputImageUrl is refused: it redirects more than {MAX_REDIRECTS} times")

    def _next_url(self, url: httpx.URL, location: str) -> httpx.URL:
        if FORBIDDEN_CHARACTERS.search(location):
            raise FetchRefusedError("inputImageUrl is refused: it redirects to what is no plain URL")
        try:
            joined = str(url.join(location))
        except (httpx.InvalidURL, ValueError) as error:
            raise FetchRefusedError("inputImageUrl is refused: it redirects to what is no URL") from error
        return self.client.checked(joined)


async def _body(answer: httpcore.Response, max_bytes: int) -> bytes:
    """Return a response's body, read up to the limit.

    Raise an error unless the response is complete, uncompressed and successful.
    """
    if answer.status != HTTPStatus.OK:
        if answer.status in _PASSING or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise FetchFailedError(f"inputImageUrl answered with status {answer.status}")
        raise FetchRefusedError(f"inputImageUrl answered with status {answer.status}")
    if is_packed(answer):
        raise FetchRefusedError("inputImageUrl is refused: its answer is packed, though a plain one was asked for")
    length = header(answer, b"content-length")
    if length.isdecimal() and int(length[:20]) > max_bytes:
        raise BadImageError(f"picture at inputImageUrl has {int(length[:20]):,} bytes; the limit is {max_bytes:,}")
    data = bytearray()
    async for piece in answer.aiter_stream():
        data += piece
        if len(data) > max_bytes:
            raise BadImageError(f"picture at inputImageUrl has more than {max_bytes:,} bytes, the limit")
    return bytes(data)
