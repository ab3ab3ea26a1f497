"""The web server: uvicorn in an event loop of ours, which handles no signals and writes no log lines of its own."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import Final

from starlette.types import ASGIApp
from typing_extensions import override
from uvicorn import Config, Server

from config.network_address import Address
from config.settings import SettingsError
from workers.dashboard.protocol import MOST_HEAD_BYTES, PatientProtocol
from workers.metrics.listening import listening_socket

STREAMS_END_S: Final = 2
"""Seconds that answers have to end once the dashboard stops; then they are cut off. The whole stop may take five."""

LOGGERS: Final = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "sse_starlette")


def listen(address: Address) -> socket.socket:
    """Return a socket that listens at an address; connections are answered once `serve` is called.

    Raises:
        SettingsError: the address can't be used.
    """
    try:
        return listening_socket(address)
    except OSError as error:
        raise SettingsError(
            f"the dashboard can't listen at {address}: {error.strerror or error}; give another one by "
            "DARKROOM_DASHBOARD_ADDRESS or --address"
        ) from error


def address_of(bound: socket.socket, wanted: Address) -> Address:
    """Return where a socket listens: the host that was asked for, and the port that it got."""
    return Address(wanted.host, bound.getsockname()[1])


class _Server(Server):
    @override
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the process."""
        yield


async def serve(app: ASGIApp, bound: socket.socket, stopping: asyncio.Event) -> None:
    """Serve an application at a socket until told to stop; then accept nothing more and let answers end."""
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # our own events say what happens
    config = Config(
        app,
        http=PatientProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=STREAMS_END_S,
        h11_max_incomplete_event_size=MOST_HEAD_BYTES,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[bound]))
    told = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait((serving, told), return_when=asyncio.FIRST_COMPLETED)
    finally:
        told.cancel()
        server.should_exit = True
        await serving
