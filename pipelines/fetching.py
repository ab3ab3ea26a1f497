"""Fetching of external URLs.

When a connection is made, also for a redirect, the address that it leads to is checked.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import httpcore
import httpx
from typing_extensions import override

from config.job_terms import MAX_URL_CHARS, PORTS
from pipelines.addresses import is_loopback, is_public
from pipelines.errors import BadImageError, PermanentError, StageError, TransientError
from pipelines.network_words import network_words

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Function from host and port to all addresses of the host."""

COLUMN = "inputImageUrl"

MAX_REDIRECTS = 3

DEADLINE_S = 30.0
"""Seconds for a whole fetch, redirects included: a server that sends byte by byte would never exceed a read timeout."""

CONNECT_S = 5.0
READ_S = 10.0

_SCHEMES = frozenset({"http", "https"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({408, 425, 429})
"""Status codes below 500 after which another try may succeed (RFC 9110, RFC 8470, RFC 6585)."""

_FORBIDDEN_CHARACTERS = re.compile(r"[\x00-\x20\x7f-\xa0\\]")
"""Characters that URL parsers treat differently, so that the checked host might differ from the connected one."""

_USER_NAME = re.compile(r"[^/?#]*//[^/?#]*@")
"""Matches a URL with a user name, even an empty one; parsers would remove an empty one without an error."""


class FetchRefusedError(PermanentError):
    """Raised when a URL may not be fetched, or its server gave an answer that another try wouldn't change.

    The message never contains the answer.
    """


class FetchFailedError(TransientError):
    """Raised when a URL's server wasn't reached, or broke the connection; another try may succeed."""


class _PublicBackend(httpcore.AnyIOBackend):
    """Network backend that connects to public addresses only.

    It resolves a host once, checks *all* its addresses, and connects to a checked
    one, because a second resolution could return another address. The certificate is
    still checked against the host name of the URL, since only the address is replaced.
    """

    def __init__(self, resolve: Resolve, *, allow_loopback: bool) -> None:
        self._resolve = resolve
        self._allow_loopback = allow_loopback

    @override
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await self._checked(host, port)
        for address in addresses[:-1]:
            try:
                return await super().connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue  # if a host has two addresses, only one of them may be reachable
        return await super().connect_tcp(addresses[-1], port, timeout, local_address, socket_options)

    @override
    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None
    ) -> httpcore.AsyncNetworkStream:
        raise FetchRefusedError("inputImageUrl is refused: a socket file is no address")

    async def _checked(self, host: str, port: int) -> list[str]:
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise FetchFailedError("the host of inputImageUrl has no address", evidence=f"{host}: {error}") from error
        refused = [address for address in addresses if not self._is_allowed(address)]
        if refused or not addresses:
            raise FetchRefusedError(
                "inputImageUrl is refused: its host isn't a public one",
                evidence=f"{host} has the address {', '.join(refused) or 'none'}",
            )
        return addresses

    def _is_allowed(self, address: str) -> bool:
        return is_public(address) or (self._allow_loopback and is_loopback(address))


async def resolved(host: str, port: int) -> list[str]:
    """Return every address of a host, as the system resolves it, in its order."""
    answers = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in answers))


class PictureFetcher:
    """Fetches pictures that users name by a URL.

    No proxy, cookie or login is used, because httpcore doesn't read the environment, and
    only the redirects that this class follows. Each redirect opens a new connection.
    """

    def __init__(
        self, *, allow_loopback: bool = False, resolve: Resolve = resolved, deadline_s: float = DEADLINE_S
    ) -> None:
        """Prepare the fetcher. Nothing is connected yet.

        Args:
            allow_loopback: allow this machine's own addresses, on any port; for tests only.
            resolve: function that resolves a host.
            deadline_s: time limit of a whole fetch.
        """
        self._backend = _PublicBackend(resolve, allow_loopback=allow_loopback)
        self._ports = None if allow_loopback else PORTS
        self._deadline_s = deadline_s
        self._tls: ssl.SSLContext | None = None

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
        try:
            return await self._fetch(url, max_bytes)
        except StageError as error:
            if column == COLUMN:
                raise
            raise type(error)(str(error).replace(COLUMN, column), evidence=error.evidence) from error

    async def _fetch(self, url: str, max_bytes: int) -> bytes:
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._follow(url, max_bytes)
        except TimeoutError as error:
            raise FetchFailedError(f"inputImageUrl wasn't fetched within {self._deadline_s:g} s") from error
        except httpcore.TimeoutException as error:
            raise FetchFailedError("inputImageUrl doesn't answer in time") from error
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            raise FetchFailedError(f"inputImageUrl can't be reached: {network_words(error)}") from error

    async def _follow(self, text: str, max_bytes: int) -> bytes:
        url = checked_url(text, self._ports)
        for _ in range(MAX_REDIRECTS + 1):
            async with self._answer(url) as answer:
                if answer.status not in _REDIRECTS:
                    return await _body(answer, max_bytes)
                location = _header(answer, b"location")
            url = self._next_url(url, location)
        raise FetchRefusedError(f"inputImageUrl is refused: it redirects more than {MAX_REDIRECTS} times")

    def _next_url(self, url: httpx.URL, location: str) -> httpx.URL:
        if _FORBIDDEN_CHARACTERS.search(location):
            raise FetchRefusedError("inputImageUrl is refused: it redirects to what is no plain URL")
        try:
            joined = str(url.join(location))
        except (httpx.InvalidURL, ValueError) as error:
            raise FetchRefusedError("inputImageUrl is refused: it redirects to what is no URL") from error
        return checked_url(joined, self._ports)

    @asynccontextmanager
    async def _answer(self, url: httpx.URL) -> AsyncIterator[httpcore.Response]:
        """Send a GET request and yield the response, with its body still to be read."""
        if self._tls is None:
            # reads 200 kB, so it runs in a thread
            self._tls = await asyncio.to_thread(httpx.create_ssl_context, trust_env=False)
        headers: list[tuple[bytes | str, bytes | str]] = [
            ("Host", url.netloc),
            ("User-Agent", "darkroom"),
            ("Accept", "image/jpeg, image/png, image/webp, image/gif"),
            ("Accept-Encoding", "identity"),  # a packed answer could grow a lot before its bytes are counted
            ("Connection", "close"),
        ]
        target = httpcore.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path.partition(b"#")[0]
        )
        limits: Mapping[str, Any] = {
            "timeout": {"connect": CONNECT_S, "read": READ_S, "write": READ_S, "pool": CONNECT_S}
        }
        async with (
            httpcore.AsyncConnectionPool(
                ssl_context=self._tls, network_backend=self._backend, max_connections=1, max_keepalive_connections=0
            ) as pool,
            pool.stream("GET", target, headers=headers, extensions=dict(limits)) as answer,
        ):
            yield answer


def checked_url(text: str, ports: Collection[int] | None = PORTS) -> httpx.URL:
    """Return a URL, if its form is allowed. The address of its host isn't checked here.

    Args:
        text: the URL as the user wrote it.
        ports: the allowed ports, named or implied; None allows every port.

    Raises:
        FetchRefusedError: the form isn't allowed; the message names the rule, and never the URL, which may contain a
            key.
    """
    if len(text) > MAX_URL_CHARS:
        raise FetchRefusedError(
            f"inputImageUrl is refused: it has {len(text):,} characters; the limit is {MAX_URL_CHARS:,}"
        )
    if _FORBIDDEN_CHARACTERS.search(text):
        raise FetchRefusedError("inputImageUrl is refused: it holds a space, a backslash or a control character")
    try:
        url = httpx.URL(text)
        port = url.port if url.port is not None else {"http": 80, "https": 443}.get(url.scheme, 0)
        _ = url.netloc.decode("ascii")
        if not 0 <= port < 1 << 16:
            raise ValueError(port)  # noqa: TRY301 - reported like any other invalid URL
    except (httpx.InvalidURL, UnicodeError, ValueError) as error:
        raise FetchRefusedError("inputImageUrl is refused: it is no valid URL") from error
    if url.scheme not in _SCHEMES:
        raise FetchRefusedError("inputImageUrl is refused: it starts with neither http:// nor https://")
    if url.userinfo or _USER_NAME.match(text):
        raise FetchRefusedError("inputImageUrl is refused: it holds a user name")
    if not url.host or "%" in url.host:
        raise FetchRefusedError("inputImageUrl is refused: it names no host")
    if ports is not None and port not in ports:
        allowed = " and ".join(map(str, sorted(ports)))
        raise FetchRefusedError(f"inputImageUrl is refused: its port is {port}; allowed are {allowed}")
    return url


async def _body(answer: httpcore.Response, max_bytes: int) -> bytes:
    """Return a response's body, read up to the limit.

    Raise an error unless the response is complete, uncompressed and successful.
    """
    if answer.status != HTTPStatus.OK:
        if answer.status in _PASSING or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise FetchFailedError(f"inputImageUrl answered with status {answer.status}")
        raise FetchRefusedError(f"inputImageUrl answered with status {answer.status}")
    if _header(answer, b"content-encoding").lower() not in {"", "identity"}:
        raise FetchRefusedError("inputImageUrl is refused: its answer is packed, though a plain one was asked for")
    length = _header(answer, b"content-length")
    if length.isdecimal() and int(length[:20]) > max_bytes:
        raise BadImageError(f"picture at inputImageUrl has {int(length[:20]):,} bytes; the limit is {max_bytes:,}")
    data = bytearray()
    async for piece in answer.aiter_stream():
        data += piece
        if len(data) > max_bytes:
            raise BadImageError(f"picture at inputImageUrl has more than {max_bytes:,} bytes, the limit")
    return bytes(data)


def _header(answer: httpcore.Response, name: bytes) -> str:
    """Return a header's value; empty if it is missing."""
    return next((value.decode("latin-1").strip() for known, value in answer.headers if known.lower() == name), "")
