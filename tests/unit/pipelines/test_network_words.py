"""Why a host gave no answer, in plain words."""

import asyncio
import socket
import ssl

import httpx
import pytest

from pipelines.network_words import network_words


async def refused(url: str) -> httpx.HTTPError:
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.HTTPError) as caught:
            await client.get(url)
    return caught.value


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])  # localhost may have two addresses, which are both tried
def test_closed_port_refuses(host: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://{host}:{closed.getsockname()[1]}"

        assert network_words(asyncio.run(refused(url))) == "it refuses connections"


def test_answer_that_is_cut_short_is_no_answer() -> None:
    async def ask() -> httpx.HTTPError:
        async def cut(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"+PONG\r\n")
            writer.close()

        async with await asyncio.start_server(cut, "127.0.0.1", 0) as server:
            return await refused(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    assert network_words(asyncio.run(ask())) == "its answer isn't HTTP, or ends too early"


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (socket.gaierror(-2, "Name or service not known"), "nobody knows this host"),
        (ssl.SSLCertVerificationError(1, "certificate verify failed"), "it doesn't agree on TLS"),
        (httpx.ConnectTimeout("over"), "it doesn't answer in time"),
        (OSError(104, "Connection reset by peer"), "the connection broke"),
    ],
)
def test_cause_of_an_error_is_said_without_its_class_name(cause: Exception, words: str) -> None:
    error = httpx.ConnectError("over")
    error.__cause__ = cause

    assert network_words(error) == words
