"""The dashboard's process: opens the runtime, listens, and serves until it is told to stop."""

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Final, TypeVar

import uvloop
from pydantic import SecretStr

from config.dashboard_settings import DEFAULT_ADDRESS
from config.log import configure_logging
from config.logger import EventLogger
from config.network_address import Address, parse_address
from config.outcome import outcome_of
from config.settings import SettingsError
from models.operators.operators import operators_exist
from models.schema.settings import kept_secret_key
from pipelines.settings import Settings
from workers.dashboard.app import make_app
from workers.dashboard.csrf import CsrfTokens
from workers.dashboard.hosts import Hosts
from workers.dashboard.server import address_of, listen, serve
from workers.dashboard.sessions import Operators
from workers.dashboard.state import Dashboard
from workers.operations.passwords import Passwords
from workers.process.compose import open_runtime
from workers.process.reaper import reaper
from workers.process.runtime import Runtime, make_database
from workers.process.stopping import unless_stopping
from workers.services.services import Services

T = TypeVar("T")

log = EventLogger(__name__)

READING_CONNECTIONS: Final = 2
"""Connections of the pool that only reads; DARKROOM_CONNECTIONS counts them, too."""

THREAD_END_S: Final = 6.0


def run(settings: Settings, services: Services, address: Address, on_ready: Callable[[Address], None]) -> int:
    """Run a dashboard until SIGTERM or SIGINT; return the exit code. Only in a main thread.

    Args:
        settings: the settings.
        services: the services that this process has opened.
        address: where it listens.
        on_ready: called with the address that it got, once it listens and everything is open.

    Raises:
        SettingsError: it can't listen there, or nobody could sign in there.
    """
    reaper.begin()
    bound = listen(address)

    async def main() -> None:
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        await _run(settings, services, bound, address_of(bound, address), stopping, on_ready)

    with bound:
        uvloop.run(main())
    return 0


async def _run(
    settings: Settings,
    services: Services,
    bound: socket.socket,
    address: Address,
    stopping: asyncio.Event,
    on_ready: Callable[[Address], None],
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        opening = stack.enter_async_context(open_dashboard(settings, services, address, stopping))
        dashboard = await unless_stopping(opening, stopping)
        if dashboard is not None:
            serving = asyncio.create_task(serve(make_app(dashboard), bound, stopping))
            log.info("dashboard_started", address=str(address))
            on_ready(address)
            await serving
    log.info("dashboard_stopped")


@contextlib.asynccontextmanager
async def open_dashboard(
    settings: Settings,
    services: Services,
    address: Address,
    stopping: asyncio.Event,
    *,
    passwords: Passwords | None = None,
) -> AsyncIterator[Dashboard]:
    """Open the parts of a dashboard, once the database is migrated; leaving the context closes them.

    Args:
        settings: the settings.
        services: where everything is.
        address: where the dashboard listens, with its port.
        stopping: is set by the caller when the dashboard stops.
        passwords: verifies passwords; None for those with argon2's usual parameters.

    Raises:
        SettingsError: nobody could sign in there.
        MigrationError, ModeMismatchError, ApplicationMismatchError: the database can't be used so.
    """
    async with contextlib.AsyncExitStack() as stack:
        reads = min(READING_CONNECTIONS, settings.connections - 1)
        database = make_database(settings, services, most_connections=max(1, settings.connections - reads - 1))
        runtime = await stack.enter_async_context(open_runtime(settings, services, database=database))
        require_somebody(settings, address, has_operators=await runtime.database.run(operators_exist))
        if settings.secret_key is None:
            key = await runtime.database.commit("keep_secret_key", kept_secret_key)
            settings = settings.model_copy(update={"secret_key": SecretStr(key)})
            configure_logging(settings)  # which masks it from now on
        else:
            key = settings.secret_key.get_secret_value()
        reading_database = make_database(settings, services, most_connections=reads, is_read_only=True)
        await reading_database.open()
        stack.push_async_callback(reading_database.close)
        verifying = passwords or Passwords()
        stack.callback(verifying.close)
        dashboard = Dashboard(
            runtime=runtime,
            reading=Runtime(settings, services, reading_database, runtime.installation, runtime.storage),
            operators=Operators(
                runtime.database,
                auth=settings.dashboard_auth,
                is_loopback=address.is_loopback,
                passwords=verifying,
            ),
            csrf=CsrfTokens(key),
            hosts=Hosts(address, settings.dashboard_url, settings.dashboard_proxies),
            settings=settings,
            stopping=stopping,
        )
        stack.push_async_callback(dashboard.aclose)
        yield dashboard


def require_somebody(settings: Settings, address: Address, *, has_operators: bool) -> None:
    """Check that a dashboard that other machines reach asks who somebody is, and that somebody can answer.

    Raises:
        SettingsError: it doesn't, or nobody can.
    """
    if address.is_loopback:
        return
    if settings.dashboard_auth == "none":
        raise SettingsError(
            f"DARKROOM_DASHBOARD_AUTH=none is for loopback: at {address} everybody who reaches it could do everything; "
            "use password or proxy, or listen at 127.0.0.1"
        )
    if not has_operators:
        raise SettingsError(
            f"nobody could sign in at {address}, since there are no operators; add one first: `darkroom operators add "
            "NAME --role operator`"
        )


class DashboardThread:
    """A dashboard in a thread of `darkroom up`, with an event loop of its own."""

    def __init__(self, settings: Settings, services: Services, on_refused: Callable[[], None]) -> None:
        """Bind the address, or a free port if the default is taken; nothing else runs yet.

        Args:
            settings: the settings.
            services: the services that this process has opened.
            on_refused: called, in the thread, if the dashboard can't work with this configuration.

        Raises:
            SettingsError: DARKROOM_DASHBOARD_ADDRESS is set, and can't be used.
        """
        self._settings, self._services, self._on_refused = settings, services, on_refused
        wanted = parse_address(settings.dashboard_address)
        try:
            self._bound = listen(wanted)
        except SettingsError:
            if "dashboard_address" in settings.model_fields_set:
                raise
            wanted = replace(parse_address(DEFAULT_ADDRESS), port=0)
            self._bound = listen(wanted)
        self.address = address_of(self._bound, wanted)
        self.refusal: Exception | None = None
        """Why it can't work with this configuration; None if it can."""
        self.is_serving = False
        self._is_ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._is_told = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dashboard", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until it serves, or can't; return False if neither is so in time."""
        return self._is_ready.wait(timeout_s)

    def tell_stop(self) -> None:
        """Tell it to stop; `join` waits for that."""
        self._is_told.set()
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._stopping.set)

    def join(self) -> None:
        """Wait until it has stopped."""
        self._thread.join(THREAD_END_S)

    def _run(self) -> None:
        with self._bound, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        if self._is_told.is_set():  # before there was a loop to tell
            self._stopping.set()
        work = _run(self._settings, self._services, self._bound, self.address, self._stopping, self._announce)
        outcome = await outcome_of(work)
        if isinstance(outcome, SettingsError):
            self.refusal = outcome
            self._on_refused()
        elif isinstance(outcome, Exception):
            log.error("dashboard_failed", exc_info=outcome)
        self._is_ready.set()

    def _announce(self, _address: Address) -> None:
        self.is_serving = True
        self._is_ready.set()
