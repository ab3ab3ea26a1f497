"""HTTP requests to hosts that users or rows name.

When a connection is made, also for a redirect, the address that it leads to is checked.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import httpcore
import httpx
from typing_extensions import override

from config.job_terms import MAX_URL_CHARS, PORTS
from pipelines.addresses import is_loopback, is_public
from pipelines.errors import PermanentError, StageError, TransientError
from pipelines.network_words import network_words

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Function from host and port to all addresses of the host."""

COLUMN: Final = "inputImageUrl"
"""What messages of this module call the URL; `in_words_of` puts another name in its place."""

CONNECT_S = 5.0
READ_S = 10.0

_SCHEMES = frozenset({"http", "https"})

FORBIDDEN_CHARACTERS = re.compile(r"[\x00-\x20\x7f-\xa0\\]")
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


class PublicClient:
    """Sends requests to public addresses.

    No proxy, cookie or login is used, because httpcore doesn't read the environment, and no redirect is followed. Each
    request opens a new connection.
    """

    def __init__(self, *, allow_loopback: bool = False, resolve: Resolve = resolved) -> None:
        """Prepare the client. Nothing is connected yet.

        Args:
            allow_loopback: allow this machine's own addresses, on any port; for tests only.
            resolve: function that resolves a host.
        """
        self._backend = _PublicBackend(resolve, allow_loopback=allow_loopback)
        self._ports = None if allow_loopback else PORTS
        self._tls: ssl.SSLContext | None = None

    def checked(self, text: str) -> httpx.URL:
        """Return a URL, if its form and its port are allowed.

        Raises:
            FetchRefusedError: as in `checked_url`.
        """
        return checked_url(text, self._ports)

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: httpx.URL,
        headers: Mapping[str, str],
        *,
        body: bytes | None = None,
        read_s: float | None = READ_S,
    ) -> AsyncIterator[httpcore.Response]:
        """Send a request and yield the response, with its body still to be read.

        Args:
            method: the HTTP method.
            url: a URL that `checked` returned.
            headers: headers in addition to those that every request has.
            body: the request's body.
            read_s: how many seconds may pass without a byte of the answer; None leaves that to the caller.

        Raises:
            FetchRefusedError: an address of the host isn't public.
            FetchFailedError: the host has no address.
            httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, OSError: as `in_words_of` has it.
        """
        if self._tls is None:
            # reads 200 kB, so it runs in a thread
            self._tls = await asyncio.to_thread(httpx.create_ssl_context, trust_env=False)
        sent: list[tuple[bytes | str, bytes | str]] = [
            ("Host", url.netloc),
            ("User-Agent", "darkroom"),
            *headers.items(),
            ("Accept-Encoding", "identity"),  # a packed answer could grow a lot before its bytes are counted
            ("Connection", "close"),
        ]
        if body is not None:
            sent.append(("Content-Length", str(len(body))))
        target = httpcore.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path.partition(b"#")[0]
        )
        limits: Mapping[str, Any] = {
            "timeout": {"connect": CONNECT_S, "read": read_s, "write": READ_S, "pool": CONNECT_S}
        }
        async with (
            httpcore.AsyncConnectionPool(
                ssl_context=self._tls, network_backend=self._backend, max_connections=1, max_keepalive_connections=0
            ) as pool,
            pool.stream(method, target, headers=sent, content=body, extensions=dict(limits)) as answer,
        ):
            yield answer


@contextmanager
def in_words_of(name: str) -> Iterator[None]:
    """Raise what goes wrong with a request in this block as an error of a stage, in which `name` stands for the URL.

    Raises:
        FetchFailedError: the server wasn't reached, broke off, or was too slow.
        StageError: an error of this module, or of the block, with the name.
    """
    try:
        try:
            yield
        except httpcore.TimeoutException as error:
            raise FetchFailedError(f"{COLUMN} doesn't answer in time") from error
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            raise FetchFailedError(f"{COLUMN} can't be reached: {network_words(error)}") from error
    except StageError as error:
        error.args = (str(error).replace(COLUMN, name),)
        raise


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
    if FORBIDDEN_CHARACTERS.search(text):
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


def header(answer: httpcore.Response, name: bytes) -> str:
    """Return a header's value; empty if it is missing."""
    return next((value.decode("latin-1").strip() for known, value in answer.headers if known.lower() == name), "")


def is_packed(answer: httpcore.Response) -> bool:
    """Return whether a response's body is compressed, though a plain one was asked for."""
    return header(answer, b"content-encoding").lower() not in {"", "identity"}
