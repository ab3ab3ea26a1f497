"""What every page of the dashboard uses: the runtime, and what is read for many viewers once."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar, cast

from starlette.requests import Request

from config.network_address import Address
from pipelines.settings import Settings
from workers.dashboard.csrf import CsrfTokens
from workers.dashboard.hosts import Hosts
from workers.dashboard.sessions import Operators
from workers.metrics.families import WATCHERS
from workers.metrics.health import DatabaseHealth, Readiness, stopping
from workers.metrics.values import Values
from workers.operations.job_pictures import PicturePreviews
from workers.operations.job_streams import JobStreams
from workers.process.runtime import Runtime
from workers.process.tools import make_preview_pixels

T = TypeVar("T")

REST_FACTOR: Final = 10.0
"""How long a value is kept at least, as a multiple of how long reading it took. So reads take a tenth of the time."""


class Shared(Generic[T]):
    """A value that is read from the database at most once in a while, however many pages show it.

    Who asks while it is being read waits for that read. An error isn't kept: whoever waited gets it, and the next one
    who asks reads again.
    """

    def __init__(self, read: Callable[[], Awaitable[T]], *, kept_s: float) -> None:
        """Store how the value is read, and for how many seconds it is kept."""
        self._read = read
        self._kept_s = kept_s
        self._began_s = self._until_s = 0.0
        self._reading: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """Return the value, at most `kept_s` old when it was asked for, or older if reading it takes long.

        Raises:
            Exception: what the read raised.
        """
        if self._reading is None or (self._reading.done() and self._is_over(self._reading)):
            self._began_s = time.monotonic()
            self._reading = asyncio.ensure_future(self._read())
            self._reading.add_done_callback(self._begin_to_age)
        # whoever goes away mustn't stop the read that others wait for
        return await asyncio.shield(self._reading)

    def _begin_to_age(self, read: "asyncio.Task[T]") -> None:
        now_s = time.monotonic()
        self._until_s = now_s + max(self._kept_s, REST_FACTOR * (now_s - self._began_s))
        if not read.cancelled():
            read.exception()  # so that asyncio doesn't report an error for which nobody waits any more

    def _is_over(self, read: "asyncio.Task[T]") -> bool:
        return read.cancelled() or read.exception() is not None or time.monotonic() > self._until_s


@dataclass(slots=True)
class Dashboard:
    """The open parts of a dashboard; pages find it by `dashboard_of`.

    Attributes:
        runtime: for what operators do.
        reading: the same, with a small pool of its own that only reads, and whose statements end after two seconds.
        operators: who is signed in.
        csrf: the tokens of forms.
        hosts: for which hosts the dashboard answers.
        settings: the settings.
        stopping: set once the dashboard stops; streams then end.
        shared: values that many pages show, by name.
        previews: pictures of jobs for people.
        streams: progress of jobs for all who follow one.
        measured: the metrics of this process.
        readiness: whether this process can work now.
    """

    runtime: Runtime
    reading: Runtime
    operators: Operators
    csrf: CsrfTokens
    hosts: Hosts
    settings: Settings
    stopping: asyncio.Event
    shared: dict[str, Shared[object]] = field(default_factory=dict)
    previews: PicturePreviews = field(init=False)
    streams: JobStreams = field(init=False)
    measured: Values = field(default_factory=Values)
    readiness: Readiness = field(default_factory=lambda: Readiness(parts=1))

    def __post_init__(self) -> None:
        """Prepare what reads pictures and what follows jobs; nothing of them is started before it is used."""
        self.previews = PicturePreviews(self.reading, make_preview_pixels())
        self.streams = JobStreams(self.reading)
        self.measured.cell(WATCHERS)  # so that it is shown while nobody looks
        self.readiness.add(DatabaseHealth(self.reading.database).look, stopping(self.stopping.is_set))

    async def aclose(self) -> None:
        """End the streams and the pixel child. The runtimes are the caller's."""
        self.stopping.set()
        await self.streams.aclose()
        await self.previews.aclose()

    @property
    def address(self) -> Address:
        """Where the dashboard listens, with the port that it got."""
        return self.hosts.address

    async def once(self, name: str, read: Callable[[Runtime], Awaitable[T]], *, kept_s: float = 1.0) -> T:
        """Return what `read` reads, at most `kept_s` old; all who ask by this name get the same."""
        if name not in self.shared:
            self.shared[name] = Shared[object](lambda: read(self.reading), kept_s=kept_s)
        return cast("T", await self.shared[name].get())

    def forget(self) -> None:
        """Forget what was read, because an operator changed something, and wants to see it."""
        self.shared.clear()


def dashboard_of(request: Request) -> Dashboard:
    """Return the dashboard that a request was sent to; the guard has noted it, also for what it answers itself."""
    return cast("Dashboard", request.state.dashboard)
