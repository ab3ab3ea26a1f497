"""The runtime: the database, the storage and the broker that every process and command uses.

SQLAlchemy, alembic, boto3 and dramatiq take longer to import than most commands take to run, so this module doesn't
import them. Code that needs them is in `workers.process.compose`, or is imported when it is first used.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from config.job_terms import DEFAULT_QUEUE
from config.postgres_url import parse_postgres_url
from models.database import Database
from pipelines.settings import Settings
from pipelines.storage.backends import open_storage
from pipelines.storage.storage import Storage
from workers.services.services import Services

if TYPE_CHECKING:
    from workers.process.wake_up import WakeUpSender


class ModeMismatchError(Exception):
    """Raised when TOKENS differs from the mode of money that `db upgrade` recorded and the triggers use."""

    def __init__(self, wanted: str, recorded: str) -> None:
        super().__init__(
            f"TOKENS={wanted}, but the database is in mode {recorded}; "
            f"unset TOKENS, or run `TOKENS={wanted} darkroom db upgrade` while the queue is empty"
        )


@dataclass(slots=True)
class Runtime:
    """What every process uses, once the database is open.

    Workers also have `workers.process.tools.Tools` and a claim loop; commands that submit or show jobs don't.

    Attributes:
        settings: the settings.
        services: where everything is.
        database: the open database.
        installation: the id that `db upgrade` recorded, which tells its wake-ups from those of other databases.
    """

    settings: Settings
    services: Services
    database: Database
    installation: str
    _storage: Storage | None = None
    _sender: "WakeUpSender | None" = field(default=None, init=False)

    @property
    def storage(self) -> Storage:
        """The storage, opened when it is first used.

        Raises:
            ValueError: STORAGE_URL has no backend or its folder can't be created.
        """
        if self._storage is None:
            self._storage = make_storage(self.settings, self.services)
        return self._storage

    async def wake(self, queue: str = DEFAULT_QUEUE) -> None:
        """Send a wake-up for a queue. If the broker is down, workers find the jobs within a second all the same."""
        if self._sender is None:
            from workers.process.wake_up import WakeUpSender  # noqa: PLC0415 - dramatiq, redis and pika take 0.2 s

            self._sender = WakeUpSender(self.services.broker_url, self.installation)
        await self._sender.wake(queue)

    async def aclose(self) -> None:
        """Close everything that was opened, including the database."""
        if self._sender is not None:
            self._sender.close()
        await self.database.close()
        if self._storage is not None:
            await self._storage.aclose()


def make_database(
    settings: Settings,
    services: Services,
    *,
    most_connections: int,
    keeps_plans: bool = False,
    is_read_only: bool = False,
) -> Database:
    """Return a `Database` that isn't opened yet; its pool has at most the given number of connections.

    `keeps_plans` and `is_read_only` are those of `Database`.
    """
    return Database(
        parse_postgres_url(services.database_url, direct_url=settings.database_direct_url),
        direct_url=parse_postgres_url(services.database_direct_url),
        most_connections=most_connections,
        keeps_plans=keeps_plans,
        is_read_only=is_read_only,
    )


def make_direct_database(services: Services, *, most_connections: int) -> Database:
    """Return a `Database` that isn't opened yet and bypasses the pooler, as migrations need it."""
    return Database(parse_postgres_url(services.database_direct_url), most_connections=most_connections)


def make_storage(settings: Settings, services: Services, *, is_patient: bool = False) -> Storage:
    """Return the storage; the caller closes it.

    Args:
        settings: the settings.
        services: where everything is.
        is_patient: whether a call is repeated if the storage's server doesn't answer, as processes need it.

    Raises:
        ValueError: STORAGE_URL has no backend or its folder can't be created.
    """
    return open_storage(services.storage_url, settings.storage_public_url, is_patient=is_patient)
