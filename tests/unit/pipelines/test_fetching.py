"""The fetcher against URLs of internal addresses, servers that lie, and names whose address changes."""

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from pipelines.addresses import is_public
from pipelines.errors import BadImageError, InvalidOptionsError, PermanentError, StageError
from pipelines.fetching import PictureFetcher
from pipelines.public_client import FetchFailedError, FetchRefusedError, checked_url, resolved
from tests.support.forbidden_urls import HOSTS, SHAPES, forbidden_urls

PICTURE = b"\xff\xd8\xff" + b"picture" * 100
PUBLIC = "93.184.215.14"

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Listener:
    """A server on loopback that counts every connection, and keeps what it was asked."""

    port: int = 0
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)

    def url(self, path: str = "/a.jpg", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


@asynccontextmanager
async def listening(answer: bytes | Script = b"", *, everywhere: bool = False) -> AsyncIterator[Listener]:
    """Listen on 127.0.0.1, or at every address that leads to this machine."""
    listener = Listener()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        listener.connections += 1
        try:
            listener.requests.append(await reader.readuntil(b"\r\n\r\n"))
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    address, kind = ("::", socket.AF_INET6) if everywhere else ("127.0.0.1", socket.AF_INET)
    listening = socket.create_server((address, 0), family=kind, dualstack_ipv6=everywhere)
    server = await asyncio.start_server(serve, sock=listening)
    listener.port = server.sockets[0].getsockname()[1]
    async with server:
        yield listener


def http(status: str = "200 OK", body: bytes = PICTURE, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers]
    if not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def answering(table: dict[str, list[list[str]]]) -> Callable[[str, int], Awaitable[list[str]]]:
    """Resolve from a script, one list of addresses a call; what isn't in it goes to the system."""

    async def resolve(host: str, port: int) -> list[str]:
        if host in table:
            return table[host].pop(0) if len(table[host]) > 1 else table[host][0]
        return await resolved(host, port)

    return resolve


def any_port(fetcher: PictureFetcher) -> PictureFetcher:
    """Let only the address decide."""
    fetcher.client._ports = None
    return fetcher


async def fetch(fetcher: PictureFetcher, url: str, max_bytes: int = 1_000_000) -> bytes:
    return await fetcher.fetch(url, max_bytes=max_bytes)


def test_there_are_enough_forbidden_urls() -> None:
    assert len(HOSTS) + len(SHAPES) >= 100


@pytest.mark.parametrize("decides", ["ports and addresses", "addresses alone"])
async def test_forbidden_url_opens_no_connection(decides: str) -> None:
    async with listening(http(), everywhere=True) as listener:
        names = {"public.example": [["127.0.0.1"]], "ip6-localhost": [["::1"]]}
        fetcher = PictureFetcher(resolve=answering(names))
        if decides == "addresses alone":
            any_port(fetcher)
        for url in forbidden_urls(listener.port):
            with pytest.raises(StageError) as refused:
                await fetch(fetcher, url)
            is_unknown = "has no address" in str(refused.value)
            assert isinstance(refused.value, FetchRefusedError) or is_unknown, url
            assert listener.connections == 0, url
            assert "inputImageUrl" in str(refused.value)
            assert "127.0.0.1" not in str(refused.value), "the message tells an outsider what lies inside"

        for host in ("127.0.0.1", "[::1]"):  # and these would have been counted
            assert await fetch(PictureFetcher(allow_loopback=True), listener.url(host=host)) == PICTURE
        assert listener.connections == 2


@pytest.mark.parametrize("address", [PUBLIC, "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_address_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("answers", [[PUBLIC, "127.0.0.1"], ["127.0.0.1", PUBLIC], [PUBLIC, "fe80::1"], []])
async def test_host_with_one_inside_address_is_refused(answers: list[str]) -> None:
    async with listening() as listener:
        fetcher = any_port(PictureFetcher(resolve=answering({"mixed.example": [answers]})))

        with pytest.raises(FetchRefusedError, match="isn't a public one"):
            await fetch(fetcher, listener.url(host="mixed.example"))

        assert listener.connections == 0


async def test_host_that_changes_its_address_is_asked_once_and_connected_where_it_was_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connected: list[str] = []

    async def connect(remote_host: str, remote_port: int, **_: object) -> None:
        connected.append(remote_host)
        raise OSError("nobody there")

    monkeypatch.setattr("anyio.connect_tcp", connect)
    names = {"rebinding.example": [[PUBLIC], ["127.0.0.1"]]}

    with pytest.raises(FetchFailedError):
        await fetch(PictureFetcher(resolve=answering(names)), "http://rebinding.example/a.jpg")
    with pytest.raises(FetchRefusedError):
        await fetch(PictureFetcher(resolve=answering(names)), "http://rebinding.example/a.jpg")

    assert connected == [PUBLIC]


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://inside.example/",
        "file:///etc/passwd",
        "//10.0.0.1/x",
        "http://u:p@127.0.0.1/",
        "http://127.0.0.1\\@x/",
        "gopher://127.0.0.1/",
        "http://[::ffff:10.0.0.1]/",
        "http://[",
    ],
)
async def test_redirect_is_checked_like_the_url_itself(location: str) -> None:
    async with listening(http("302 Found", b"", f"Location: {location}")) as listener:
        names = {"inside.example": [["192.168.0.1"]]}
        fetcher = PictureFetcher(allow_loopback=True, resolve=answering(names))

        with pytest.raises(FetchRefusedError, match="refused"):
            await fetch(fetcher, listener.url())

        assert listener.connections == 1


async def test_chain_that_ends_inside_is_refused_at_its_last_hop() -> None:
    async with listening() as inside:
        hops = [f"http://127.0.0.1:{inside.port}/secret"]

        async def redirect(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(http("302 Found", b"", f"Location: {hops[-1]}"))
            await writer.drain()

        async with listening(redirect) as outside:
            # the outside one counts as public, the inside one doesn't: by name
            fetcher = any_port(PictureFetcher(resolve=answering({"outside.example": [["127.0.0.1"]]})))
            checked = fetcher.client._backend._checked

            async def seen_from_outside(host: str, port: int) -> list[str]:
                return ["127.0.0.1"] if host == "outside.example" else await checked(host, port)

            fetcher.client._backend._checked = seen_from_outside  # type: ignore[method-assign]
            with pytest.raises(FetchRefusedError, match="isn't a public one"):
                await fetch(fetcher, outside.url(host="outside.example"))

        assert (outside.connections, inside.connections) == (1, 0)


async def test_three_redirects_are_followed_and_no_fourth() -> None:
    left = 3

    async def redirect(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        left -= 1
        writer.write(http("307 Temporary Redirect", b"", "Location: /next") if left >= 0 else http())
        await writer.drain()

    async with listening(redirect) as listener:
        assert await fetch(PictureFetcher(allow_loopback=True), listener.url()) == PICTURE
        left = 4
        with pytest.raises(FetchRefusedError, match="more than 3 times"):
            await fetch(PictureFetcher(allow_loopback=True), listener.url())


async def test_proxies_and_logins_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    async with listening() as proxy, listening(http()) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))

        assert await fetch(PictureFetcher(allow_loopback=True), server.url()) == PICTURE
        with pytest.raises(FetchRefusedError):
            await fetch(PictureFetcher(), "http://10.0.0.1/")

    assert proxy.connections == 0
    assert b"authorization" not in server.requests[0].lower()


async def test_request_names_its_host_and_asks_for_plain_bytes() -> None:
    async with listening(http()) as listener:
        fetcher = PictureFetcher(allow_loopback=True, resolve=answering({"pictures.example": [["127.0.0.1"]]}))
        await fetch(fetcher, listener.url("/a%20b.jpg?x=1&y=%2F#part", "pictures.example"))

    head = listener.requests[0]
    assert head.startswith(b"GET /a%20b.jpg?x=1&y=%2F HTTP/1.1\r\n")
    assert f"Host: pictures.example:{listener.port}\r\n".encode() in head
    assert b"Accept-Encoding: identity\r\n" in head
    assert b"ookie" not in head


async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        await writer.drain()


async def dripping(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def test_endless_body_stops_at_the_limit() -> None:
    async with listening(endless) as listener:
        with pytest.raises(BadImageError, match="more than 100,000 bytes"):
            await fetch(PictureFetcher(allow_loopback=True), listener.url(), 100_000)


async def test_dripping_server_meets_the_deadline() -> None:
    async with listening(dripping) as listener:
        with pytest.raises(FetchFailedError, match=r"within 0\.5 s"):
            await fetch(PictureFetcher(allow_loopback=True, deadline_s=0.5), listener.url())


async def test_announced_length_over_the_limit_is_refused_unread() -> None:
    async with listening(http("200 OK", b"x", "Content-Length: 25000001")) as listener:
        with pytest.raises(BadImageError, match="has 25,000,001 bytes; the limit is 25,000,000"):
            await fetch(PictureFetcher(allow_loopback=True), listener.url(), 25_000_000)


async def test_lying_length_is_transient() -> None:
    async with listening(http("200 OK", PICTURE, "Content-Length: 5000")) as listener:
        with pytest.raises(FetchFailedError, match="can't be reached"):
            await fetch(PictureFetcher(allow_loopback=True), listener.url())


async def test_packed_answer_is_never_unpacked() -> None:
    packed = gzip.compress(bytes(200_000_000), 1)
    async with listening(http("200 OK", packed, "Content-Encoding: gzip")) as listener:
        with pytest.raises(FetchRefusedError, match="packed"):
            await fetch(PictureFetcher(allow_loopback=True), listener.url())


@pytest.mark.parametrize("status", ["401 No", "403 No", "404 Gone", "204 Empty", "206 Part", "304 Same", "410 Gone"])
async def test_final_answer_is_permanent_and_not_repeated(status: str) -> None:
    async with listening(http(status, b"SECRET-ANSWER" if status[0] == "4" else b"")) as listener:
        with pytest.raises(FetchRefusedError, match=f"status {status[:3]}") as refused:
            await fetch(PictureFetcher(allow_loopback=True), listener.url())

    assert "SECRET-ANSWER" not in f"{refused.value}{refused.value.evidence}"


@pytest.mark.parametrize("answer", [http("500 Oops"), http("503 Busy"), http("429 Slow"), b"", b"garbage\r\n\r\n"])
async def test_server_out_of_order_is_transient(answer: bytes) -> None:
    async with listening(answer) as listener:
        with pytest.raises(FetchFailedError):
            await fetch(PictureFetcher(allow_loopback=True), listener.url())


async def test_nobody_listening_is_transient() -> None:
    with pytest.raises(FetchFailedError, match="can't be reached"):
        await fetch(PictureFetcher(allow_loopback=True), "http://127.0.0.1:9/a.jpg")


async def test_unknown_host_is_transient() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        raise OSError(-2, "Name or service not known")

    with pytest.raises(FetchFailedError, match="has no address"):
        await fetch(PictureFetcher(resolve=resolve), "http://nowhere.example/a.jpg")


async def test_second_address_is_tried_when_the_first_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(http()) as listener:
        names = {"two.example": [["::1", "127.0.0.1"]]}
        fetcher = PictureFetcher(allow_loopback=True, resolve=answering(names))

        assert await fetch(fetcher, listener.url(host="two.example")) == PICTURE


def test_loopback_allowed_opens_nothing_else() -> None:
    backend = PictureFetcher(allow_loopback=True).client._backend

    assert backend._is_allowed("127.0.0.1")
    assert not any(backend._is_allowed(address) for address in ("10.0.0.1", "169.254.169.254", "::", "fe80::1"))


@pytest.mark.parametrize("url", ["http://public.example/a", "https://public.example:443/a?b=c", "HTTP://93.184.215.14"])
def test_plain_url_passes(url: str) -> None:
    assert checked_url(url).scheme in {"http", "https"}


def test_refusal_is_permanent_and_no_fault_of_options() -> None:
    assert issubclass(FetchRefusedError, PermanentError)
    assert not issubclass(FetchRefusedError, InvalidOptionsError)
