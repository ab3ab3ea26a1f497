"""The server of a process's metrics and health, in a thread with an event loop of its own.

`/healthz` says whether the process's event loop moves, `/readyz` whether it can work now, `/metrics` what it counts.
"""

import asyncio
import hmac
import socket
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Final, Self

import uvicorn
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from config.network_address import Address
from workers.metrics.exposition import CONTENT_TYPE, exposition, merged
from workers.metrics.families import Source
from workers.metrics.folder import MetricsFolder
from workers.metrics.gauges import CachedGauges, ReadGauges
from workers.metrics.health import DatabaseHealth, HealthCheck, LookAtHealth, Readiness, stopping
from workers.metrics.listening import Listener
from workers.metrics.recording import Recording
from workers.metrics.values import Key

MOVES_S: Final = 2.0
"""Seconds within which the process's event loop must answer for `/healthz`."""

STOP_S: Final = 2.0
KEEP_ALIVE_S: Final = 5
_BEARER: Final = "bearer "
_CLOSED: Final = "send DARKROOM_API_TOKEN as a bearer token: this address isn't loopback\n"


class Serving:
    """What one process serves: the parts add their values and checks as they open."""

    def __init__(self, listener: Listener, token: SecretStr | None, sources: Collection[Source]) -> None:
        """Store what the server needs; it answers from the beginning of the context on.

        Args:
            listener: the socket on which it answers.
            token: what `/metrics` asks for, unless the address is loopback; None: there it is refused to everybody.
            sources: the kinds of processes whose families it shows.
        """
        self.address: Address = listener.address
        self.recording = Recording()
        self.readiness = Readiness(parts=len(sources))
        self._socket: socket.socket = listener.socket
        self._token = token
        self._sources = frozenset(sources)
        self._folder: MetricsFolder | None = None
        self._gauges: CachedGauges | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: uvicorn.Server | None = None
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def add_worker(self, health: DatabaseHealth, is_stopping: Callable[[], bool]) -> MetricsFolder:
        """Serve for worker processes from now on; return the folder into which they record."""
        self._folder = MetricsFolder()
        self.readiness.add(health.look, stopping(is_stopping))
        return self._folder

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Serve for a scheduler from now on, whose event loop has to move."""
        self._loop = loop

    def add_scheduler(self, read: ReadGauges, *looks: LookAtHealth) -> None:
        """Show the gauges of a scheduler that has opened its database, and make its checks."""
        if self._loop is not None:
            self._gauges = CachedGauges(read, self._loop)
        self.readiness.add(*looks)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.should_exit = True
        self._thread.join(STOP_S)
        self._socket.close()
        if self._folder is not None:
            self._folder.remove()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        config = uvicorn.Config(
            Starlette(routes=self.routes()),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        await self._server.serve(sockets=[self._socket])

    def routes(self) -> list[Route]:
        """Return the three routes, which another application may serve beside its own."""
        return [
            Route("/metrics", self._metrics),
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
        ]

    async def _metrics(self, request: Request) -> Response:
        if not may_scrape(request, self.address, self._token):
            return closed()
        return Response(exposition(await self.values(), self._sources), media_type=CONTENT_TYPE)

    async def values(self) -> Mapping[Key, float]:
        """Return everything that this process and its worker processes have counted, and the gauges."""
        some: list[Mapping[Key, float]] = [self.recording.values.read()]
        if self._folder is not None:
            some.append(self._folder.read())
        if self._gauges is not None:
            some.append(await self._gauges.now())
        return merged(some)

    async def _healthz(self, _request: Request) -> Response:
        if await self._moves():
            return PlainTextResponse("ok")
        return PlainTextResponse(f"the event loop hasn't moved for {MOVES_S:g} s", 503)

    async def _moves(self) -> bool:
        loop = self._loop
        if loop is None:
            return True
        moved = asyncio.Event()
        own = asyncio.get_running_loop()
        try:
            loop.call_soon_threadsafe(own.call_soon_threadsafe, moved.set)
            async with asyncio.timeout(MOVES_S):
                await moved.wait()
        except RuntimeError:  # the event loop is closed: the process ends
            return True
        except TimeoutError:
            return False
        return True

    async def _readyz(self, _request: Request) -> Response:
        return readiness_answer(await self.readiness.now())


def may_scrape(request: Request, address: Address, token: SecretStr | None) -> bool:
    """Return whether a request may see metrics: on loopback every one, elsewhere those that bear DARKROOM_API_TOKEN."""
    if address.is_loopback:
        return True
    authorization = request.headers.get("authorization", "")
    is_bearer = authorization[: len(_BEARER)].lower() == _BEARER
    sent = authorization[len(_BEARER) :].strip().encode()
    return token is not None and is_bearer and hmac.compare_digest(sent, token.get_secret_value().encode())


def closed() -> Response:
    """Return the answer to a request that may not see metrics."""
    return PlainTextResponse(_CLOSED, 401, {"WWW-Authenticate": "Bearer"})


def readiness_answer(checks: Sequence[HealthCheck]) -> Response:
    """Return the answer of `/readyz`."""
    is_ready = all(one.status == "ok" for one in checks)
    return JSONResponse({"checks": [asdict(one) for one in checks]}, 200 if is_ready else 503)
